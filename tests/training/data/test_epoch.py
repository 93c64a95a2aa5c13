"""What is random in an epoch: any loop that uses it trains to the bits of `fit`."""

import pytest
import torch

from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.epoch import draw_epoch
from fbnetv3.training.data.protocol import class_counts
from fbnetv3.training.loop import fit
from fbnetv3.training.losses import balanced_weights, loss, mixup
from fbnetv3.training.network.depth import freeze_stages
from fbnetv3.training.optim import RecipeSchedule, make_average, make_optimizer
from fbnetv3.training.process_rank import ProcessRank
from tests.training.examples import DATA, RECIPE, new_model, same


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "schedule": "cosine", "mixup": 0.0, "clip_norm": 0.5},
        {"frozen_stages": 1, "class_weights": "balanced"},
    ],
    ids=["default", "sgd", "fine-tuning"],
)
def test_a_plain_loop_ends_with_the_weights_of_fit(changes):
    recipe = RECIPE.replace(epochs=2, **changes)
    network = new_model(recipe).to(memory_format=torch.channels_last)
    frozen = freeze_stages(network, recipe.frozen_stages).modules if recipe.frozen_stages else ()
    weights = balanced_weights(class_counts(DATA)) if recipe.class_weights == "balanced" else None
    optimizer, average = make_optimizer(network, recipe), make_average(network, recipe)
    schedule = RecipeSchedule(optimizer, recipe, DATA.count("train") // recipe.batch_size)
    for epoch in range(recipe.epochs):
        batches, rng, torch_seed = draw_epoch(DATA, recipe, seed=7, epoch=epoch)
        torch.manual_seed(torch_seed)
        network.train()
        for module in frozen:
            module.eval()
        for x, labels in batches:
            x, target = mixup(x, labels, recipe, rng)
            optimizer.zero_grad()
            loss(network(x), target, recipe, weights).backward()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimizer.step()
            schedule.step()
            average.update()
    trained = fit(new_model(recipe), recipe, DATA, seed=7)
    assert same(average.module, trained.model)
    assert measure(network, DATA, "val").acc1 == trained.metrics[-1].raw_acc1


def test_processes_share_the_batches_and_draw_other_masks():
    recipe = RECIPE.replace(augmentation="none")
    alone = draw_epoch(DATA, recipe, 3, 1)
    first, second = (draw_epoch(DATA, recipe, 3, 1, ProcessRank(rank, 2)) for rank in (0, 1))
    assert (first.torch_seed, second.torch_seed) == (alone.torch_seed, alone.torch_seed + 1)
    for (x, labels), (x1, labels1), (x2, labels2) in zip(alone.batches, first.batches, second.batches, strict=True):
        assert torch.equal(x, torch.cat([x1, x2]))
        assert torch.equal(labels, torch.cat([labels1, labels2]))
    assert len({generator.random() for generator in (alone.rng, first.rng, second.rng)}) == 1


def test_a_set_smaller_than_a_batch_is_one_batch():
    ((_, labels),) = draw_epoch(DATA, RECIPE.replace(batch_size=1000), 0, 0).batches
    assert len(labels) == 256
