"""torch's DataLoaders as data: the same seed gives the same bits, a resume too, and what does not fit is told."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

from fbnetv3 import InputError
from fbnetv3.training.data.epoch import draw_epoch
from fbnetv3.training.data.loaders import wrap_loaders
from fbnetv3.training.loop import fit
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms
from tests.training.examples import DATA, RECIPE, new_model, same

TEN = tuple("abcdefghij")
VAL = DataLoader(TensorDataset(DATA.transforms.normalise(DATA.val.images), DATA.val.labels), 40)


class Noisy(Dataset):
    """Images with noise that is drawn where they are read, as the transforms of torchvision do."""

    classes = TEN

    def __init__(self, split=DATA.train):
        self.x, self.labels = DATA.transforms.normalise(split.images), split.labels.tolist()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.x[index] + 0.1 * torch.randn(1), self.labels[index]


def noisy(**options):
    return wrap_loaders(DataLoader(Noisy(), RECIPE.batch_size, **({"shuffle": True} | options)), VAL)


def same_batches(one, other):
    return all(torch.equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True))


class StopError(Exception):
    pass


def test_a_training_is_the_same_again_and_after_a_resume(tmp_path):
    recipe = RECIPE.replace(epochs=2)

    def stop(done, *_):
        if done == 7:  # within the second epoch
            raise StopError

    torch.manual_seed(1)
    trained = fit(new_model(), recipe, noisy(), seed=7)
    torch.manual_seed(2)  # the global generators must not matter
    with pytest.raises(StopError):
        fit(new_model(), recipe, noisy(), seed=7, out=tmp_path, progress=stop)
    resumed = fit(new_model(), recipe, noisy(), seed=7, out=tmp_path, resume=True)
    assert resumed.metrics == trained.metrics
    assert same(resumed.model, trained.model)
    assert not same(fit(new_model(), recipe, noisy(), seed=8).model, trained.model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"generator": torch.Generator()},
        {"shuffle": False, "sampler": WeightedRandomSampler([1.0] * 256, 200, generator=torch.Generator())},
        {"num_workers": 2},
    ],
    ids=["global", "own", "sampler", "workers"],
)
def test_an_epoch_depends_on_its_seed_alone_and_may_begin_later(options):
    data, state = noisy(**options), torch.get_rng_state()
    whole = list(draw_epoch(data, RECIPE, 3, 0).batches)
    assert [len(labels) for _, labels in whole] == [50] * (
        4 if "sampler" in options else 5
    )  # incomplete ones are left out
    assert same_batches(whole, draw_epoch(data, RECIPE, 3, 0).batches)
    assert same_batches(whole[2:], draw_epoch(data, RECIPE, 3, 0, start=2).batches)
    assert not same_batches(whole, draw_epoch(data, RECIPE, 3, 1).batches)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_known_of_the_data():
    data = noisy()
    assert (data.classes, data.count("train"), data.count("val")) == (TEN, 256, 100)
    assert data.name == "DataLoader of 256 images"
    assert data.transforms == Transforms(28, 28, (0.0,), (1.0,))
    train = DataLoader(Subset(Noisy(), range(60)), 50, drop_last=True)
    given = wrap_loaders(train, test=VAL, transforms=DATA.transforms, name="mine")
    assert (given.classes, given.count("train"), given.transforms) == (TEN, 50, DATA.transforms)
    assert [len(labels) for _, labels in given.batches("test", ProcessRank())] == [40, 40, 20]
    with pytest.raises(InputError, match="unknown split 'val' of mine; available: train, test"):
        given.count("val")


class Endless(IterableDataset):
    classes = TEN

    def __iter__(self):
        return iter([])


class Short(Endless):
    def __len__(self):
        return 100


def loader(x=None, labels=None, size=2):
    x = torch.zeros(4, 1, 8, 8) if x is None else x
    return DataLoader(TensorDataset(x, torch.zeros(4, dtype=torch.long) if labels is None else labels), size)


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        (loader(), None, "no images to measure on; give a DataLoader as val or test"),
        (loader(), loader(), "does not name its classes; give classes="),
        (DataLoader(Noisy(), batch_size=None), VAL, "of train has no batch_size"),
        (DataLoader(Endless(), 4), VAL, "of train has no length; give its dataset a method __len__"),
        (
            DataLoader(Subset(Noisy(), range(4)), 5, drop_last=True),
            VAL,
            "of train has no batch; give a smaller batch_size",
        ),
        (DataLoader(Noisy(), 5), DataLoader(Short(), 4), "of val ended after 0 batches; by its length it has 25"),
        (
            DataLoader(Noisy(), 5),
            loader(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)),
            r"images of uint8 and .*train_transform",
        ),
        (
            DataLoader(Noisy(), 5),
            loader(torch.zeros(4, 1, 8, 6)),
            r"shape \[2, 1, 8, 6\]; give float32 \[n, c, side, side\]",
        ),
        (
            DataLoader(Noisy(), 5),
            loader(labels=torch.zeros(4, 3)),
            r"labels of float32 and shape \[2, 3\]; give a whole",
        ),
        (DataLoader(Noisy(), 5), DataLoader([{"x": 1}]), "gives dict; give pairs of images and labels"),
    ],
)
def test_loaders_that_do_not_fit_are_told(train, val, words):
    with pytest.raises(InputError, match=words):
        wrap_loaders(train, val)


def test_another_batch_size_and_several_processes_are_told():
    data = wrap_loaders(DataLoader(Noisy(), 32), VAL)
    words = r'batches of 32 images, the recipe of 50; give .* recipe\.at_batch_size\(32, "linear"\)'
    with pytest.raises(InputError, match=words):
        fit(new_model(), RECIPE, data)
    fit(new_model(), RECIPE.at_batch_size(32, "linear"), data, epochs=1)
    with pytest.raises(InputError, match="2 processes with DataLoaders"):
        draw_epoch(data, RECIPE, 0, 0, ProcessRank(0, 2))


def test_a_loader_alone_has_nothing_to_measure_on():
    with pytest.raises(InputError, match=r"data is a DataLoader; give wrap_loaders\(train, val\)"):
        fit(new_model(), RECIPE, DataLoader(Noisy(), 50))
