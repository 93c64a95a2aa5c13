"""A training step on CUDA: it waits for nothing, a graph holds it, and nccl takes it."""

import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fbnetv3.training import trainer as trainer_module
from fbnetv3.training.distributed import average_buffers, gathered, total
from fbnetv3.training.engine import Engine, machine_settings
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.step_losses import StepLosses
from fbnetv3.training.trainer import Trainer
from tests.training.examples import DATA, RECIPE, new_model
from tests.whole.test_device_steps import FEATURES
from tests.whole.test_device_steps import start as start_feature

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CARD = torch.device("cuda:0")
STEADY = RECIPE.replace(dropout=0.0, stochastic_depth=0.0, optimizer="sgd", lr=0.05)


@pytest.fixture
def precision(request):
    """A precision, with the settings of a deterministic training in it: steps that do the same give the same bits."""
    with machine_settings(Engine(str(CARD), request.param, deterministic=True)):
        yield request.param


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(50, 1, 28, 28, generator=generator)
    return x.to(CARD), torch.randint(10, (50,), generator=generator).to(CARD)


@pytest.fixture
def waiting_is_an_error():
    """A function that makes CUDA raise an error where the host waits for it, or not."""

    def switch(error):
        torch.cuda.set_sync_debug_mode("error" if error else "default")

    yield switch
    switch(False)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_epoch_waits_only_where_losses_are_fetched(monkeypatch, waiting_is_an_error, feature, precision):
    trainer = start_feature(feature, str(CARD), precision)
    trainer.train_epoch(0, None, lambda *_: None)  # what is made once may wait
    real = StepLosses.fetch

    def fetch(losses):
        waiting_is_an_error(False)
        return real(losses)

    monkeypatch.setattr(StepLosses, "fetch", fetch)
    steps = []

    def after_step(_epoch, step, losses):
        steps.append(step)
        # Between the first step, before which the epoch is prepared, and the fetch after the last one.
        waiting_is_an_error(step < trainer.steps)

    trainer.train_epoch(1, None, after_step)
    assert steps == [1, 2]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"], indirect=True)
def test_a_graph_that_captured_a_step_repeats_it(precision):
    recipe = STEADY.replace(distillation=0.5, clip_norm=1.0)
    eager, captured = (
        Trainer.start(new_model(recipe), recipe, DATA, engine=Engine(str(CARD), precision), teacher=new_model(seed=9))
        for _ in range(2)
    )

    def step(trainer, x, labels, weight):
        losses = trainer.backward(x, labels, weight)
        trainer.update()
        return losses

    (x, labels), weight = batch(), torch.tensor(0.25, device=CARD)
    for trainer in (eager, captured):
        trainer.network.train()
    # The first steps make the optimizer's state and the average. They run on another stream, as torch asks for.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(captured, x, labels, weight)
    torch.cuda.current_stream().wait_stream(stream)
    for _ in range(3):
        step(eager, x, labels, weight)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = step(captured, x, labels, weight)
    near = {"rtol": 1e-4, "atol": 1e-5} if precision == "fp32" else {"rtol": 1e-2, "atol": 1e-2}
    for seed in range(1, 4):
        new_x, new_labels = batch(seed)
        x.copy_(new_x)
        labels.copy_(new_labels)
        weight.fill_(seed / 4)
        graph.replay()
        expected = step(eager, new_x, new_labels, torch.tensor(seed / 4, device=CARD))
        torch.testing.assert_close(losses, expected, **near)
    for one, other in ((captured.state.model, eager.state.model), (captured.state.ema, eager.state.ema)):
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, **near)
    assert captured.state.ema.n_averaged == eager.state.ema.n_averaged == 6


def test_what_is_captured_draws_new_masks_in_every_replay():
    recipe = RECIPE.replace(mixup=0.0, dropout=0.5, stochastic_depth=0.5, ema=False)
    trainer = Trainer.start(new_model(recipe), recipe, DATA, engine=Engine(str(CARD)))
    trainer.network.train()
    x, labels = batch()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            trainer.backward(x, labels, None)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = trainer.backward(x, labels, None)
    seen = set()
    for _ in range(3):
        graph.replay()
        seen.add(losses.item())
    assert len(seen) == 3


@pytest.fixture
def nccl():
    """A process group of one process, which is told that there are two: it then does everything that several do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with torch.cuda.device(CARD):
        dist.init_process_group("nccl", f"tcp://127.0.0.1:{port}", rank=0, world_size=1, device_id=CARD)
        yield ProcessRank(0, 2)
        dist.destroy_process_group()


@pytest.mark.parametrize("precision", ["fp32"], indirect=True)
def test_one_process_under_nccl_trains_as_one_without(monkeypatch, nccl, precision):
    recipe, engine = STEADY.replace(sync_bn=True), Engine(str(CARD), precision, accumulate=5)
    alone = Trainer.start(new_model(recipe), recipe, DATA, engine=engine)
    monkeypatch.setattr(trainer_module, "current_process", lambda: nccl)
    grouped = Trainer.start(new_model(recipe), recipe, DATA, engine=engine)
    assert isinstance(grouped.network, DistributedDataParallel)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in grouped.state.model.modules())
    for trainer in (alone, grouped):
        trainer.network.train()
    for seed in range(3):
        losses = [trainer.step(*batch(seed), np.random.default_rng(seed)) for trainer in (alone, grouped)]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-4)
    for a, b in zip(alone.state.model.state_dict().values(), grouped.state.model.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


def test_messages_over_nccl(nccl):
    assert total([1.5, 2.0], nccl, CARD) == [1.5, 2.0]
    state = torch.get_rng_state()
    ((number, received),) = gathered((2.5, state), nccl)
    assert number == 2.5
    assert torch.equal(received, state)
    norm = nn.BatchNorm2d(3, device=CARD)
    norm.running_mean.fill_(2.0)
    average_buffers(norm, nccl)
    assert norm.running_mean.tolist() == [2.0] * 3
    dist.barrier(device_ids=[CARD.index])
