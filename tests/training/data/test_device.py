"""Batches on a device: the same images in the same order, copied ahead, with errors in their turn."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch

from fbnetv3.training.data.augment import KINDS
from fbnetv3.training.data.device import MovedData, on_device, send, send_ahead
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.data.protocol import search_images, training_images
from tests.training.data.examples import ALONE, epoch, same
from tests.training.data.pretended import CUDA, pretended_cuda
from tests.training.examples import first

META = torch.device("meta")
SMALL = dataclasses.replace(fashion_mnist(), train=first(fashion_mnist().train, 13), val=first(fashion_mnist().val, 7))
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@dataclasses.dataclass
class Custom:
    """A user's data: it knows nothing of devices."""

    name: str = "mine"
    train_name: str = "mine, train"
    classes: tuple = ("a", "b")
    transforms: object = SMALL.transforms
    resolution: int = 4

    def count(self, split):
        return 6

    def epoch(self, augmentation, batch_size, rng, process, start=0):
        order = rng.permutation(6)
        return ((torch.full((2, 1, 4, 4), float(i)), torch.tensor(order[2 * i : 2 * i + 2])) for i in range(start, 3))

    def batches(self, split, process):
        return self.epoch("none", 2, np.random.default_rng(0), process)


@pytest.fixture(params=["memory", "files", "custom"])
def data(request, folder):
    return {"memory": SMALL, "custom": Custom()}.get(request.param) or load_data(str(folder), resolution=24)


def test_on_the_cpu_data_stays_what_it_is(data):
    assert on_device(data, torch.device("cpu")) is data


def test_batches_arrive_on_the_device(data):
    moved = on_device(data, META)
    for there, here in zip(epoch(moved, "crop_flip", 2), epoch(data, "crop_flip", 2), strict=True):
        assert [(t.device, t.shape, t.dtype) for t in there] == [(META, t.shape, t.dtype) for t in here]
    found = list(moved.batches("val", ALONE))
    assert [t.device for batch in found for t in batch] == [META] * 2 * len(found)
    assert [len(labels) for _, labels in found] == [len(labels) for _, labels in data.batches("val", ALONE)]


def test_data_on_a_device_is_described_as_before(data):
    moved = on_device(data, META)
    for name in ("name", "classes", "transforms"):
        assert getattr(moved, name) == getattr(data, name)
    assert moved.count("train") == data.count("train")
    assert training_images(moved) == training_images(data)
    assert search_images(moved) == search_images(data)
    assert getattr(moved, "resolution", None) == getattr(data, "resolution", None)
    assert not hasattr(moved, "colour")


def test_data_on_the_device_is_not_moved_again(data):
    moved = on_device(data, META)
    assert on_device(moved, torch.device("meta")) is moved


def test_custom_data_can_be_moved_back_and_copied():
    moved = on_device(Custom(), META)
    assert isinstance(moved, MovedData)
    assert on_device(moved, torch.device("cpu")) is moved.data
    for twin in (copy.deepcopy(moved), pickle.loads(pickle.dumps(moved))):
        assert (twin.device, twin.data) == (META, Custom())


def test_custom_data_may_make_its_batches_on_the_device():
    @dataclasses.dataclass
    class Resident(Custom):
        place: object = None

        def on_device(self, device):
            return dataclasses.replace(self, place=device)

    assert on_device(Resident(), META) == Resident(place=META)


def test_what_the_next_batch_needs_is_sent_before_a_batch_is_given_out(monkeypatch):
    asked = []

    def batches():
        for i in range(3):
            asked.append(i)
            yield torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)

    with pretended_cuda(monkeypatch) as calls:
        sent = send_ahead(batches(), CUDA)
        x, labels = next(sent)
        assert (x.device, labels.device) == (CUDA, CUDA)
        copied = ["inside copies", "pinned", "pinned", "event copies {}"]
        both = [call.format(i) for i in range(2) for call in copied]
        # The computation waits for the first copy alone, and the memory is not used again before it has ended.
        assert calls == [*both, "computing waits for copies 0", "kept for computing", "kept for computing"]
        assert asked == [0, 1]
        assert len(list(sent)) == 2
        assert "computing waits for copies 2" in calls


def test_the_host_is_never_far_ahead_of_a_gpu(monkeypatch):
    """Else the batches that wait for their computations would fill the memory."""
    batches = ((torch.zeros(2), torch.zeros(2)) for _ in range(5))
    with pretended_cuda(monkeypatch) as calls:
        for number, _ in enumerate(send_ahead(batches, CUDA)):
            waits = [call for call in calls if call.startswith("the host waits")]
            assert waits == [f"the host waits for computing {i}" for i in range(number - 2)]


def test_an_error_of_the_next_batch_comes_after_the_batch(monkeypatch):
    def batches():
        yield torch.zeros(1), torch.zeros(1)
        raise OSError("gone")

    with pretended_cuda(monkeypatch):
        sent = send_ahead(batches(), CUDA)
        next(sent)
        with pytest.raises(OSError, match="gone"):
            next(sent)


def test_a_training_that_ends_early_ends_the_reading(monkeypatch):
    ended = []

    def batches():
        try:
            while True:
                yield torch.zeros(1), torch.zeros(1)
        finally:
            ended.append(True)

    with pretended_cuda(monkeypatch):
        sent = send_ahead(batches(), CUDA)
        next(sent)
        sent.close()
        del sent
    assert ended == [True]


def test_tensors_on_the_device_are_not_pinned(monkeypatch):
    with pretended_cuda(monkeypatch) as calls:
        send(torch.zeros(2, device=CUDA), CUDA)
        assert calls == []
        send(torch.zeros(2), CUDA)
        assert calls == ["pinned"]


@pytest.mark.parametrize("kind", ["none", "flip", "crop_flip", "resized_crop_flip"])
def test_a_pass_of_every_data_on_a_pretended_gpu(data, kind, monkeypatch):
    with pretended_cuda(monkeypatch):
        moved = on_device(data, torch.device("cuda"))
        assert on_device(moved, CUDA) is on_device(moved, torch.device("cuda")) is moved
        found = [*epoch(moved, kind, 2), *moved.batches("val", ALONE)]
    assert {t.device for batch in found for t in batch} == {CUDA}


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["none", "flip", "crop_flip"])
def test_a_pass_on_the_gpu_is_that_of_the_host(data, kind):
    moved = on_device(data, torch.device("cuda"))
    there = [*epoch(moved, kind, 2), *moved.batches("val", ALONE)]
    here = [*epoch(data, kind, 2), *data.batches("val", ALONE)]
    assert {t.device for batch in there for t in batch} == {CUDA}
    assert same([(x.cpu(), labels.cpu()) for x, labels in there], here)


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_on_the_gpu_waits_for_nothing(data, kind):
    """torch raises an error where the host would wait, from the second batch on."""
    batches = on_device(data, CUDA).epoch(kind, 2, np.random.default_rng(0), ALONE)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(batches)) == data.count("train") // 2 - 1
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
@pytest.mark.gpu
def test_copies_ahead_have_no_race():
    """Batches are compared after computations that keep the GPU busy, while later batches are copied."""
    busy = torch.randn(2048, 2048, device=CUDA)
    for turn in range(20):
        host = [
            (torch.full((64, 3, 64, 64), turn * 10.0 + i), torch.full((64,), i, dtype=torch.long)) for i in range(10)
        ]
        found = []
        for x, labels in send_ahead(host, CUDA):
            for _ in range(10):
                busy = (busy @ busy).clamp_(-1, 1)
            found.append(torch.stack([x.amin(), x.amax(), labels.amin(), labels.amax()]))
        expected = [[turn * 10.0 + i, turn * 10.0 + i, i, i] for i in range(10)]
        assert torch.stack(found).tolist() == expected


@gpu
@pytest.mark.gpu
def test_few_batches_are_in_the_memory_at_once():
    megabytes, busy = 2**20, torch.randn(2048, 2048, device=CUDA)
    batch = torch.zeros(8 * megabytes, dtype=torch.uint8), torch.zeros(1)
    (busy @ busy).sum().item()  # takes the memory that such products need
    torch.cuda.reset_peak_memory_stats(CUDA)
    before = torch.cuda.memory_allocated(CUDA)
    for _ in send_ahead([batch] * 100, CUDA):
        for _ in range(10):
            busy = (busy @ busy).clamp_(-1, 1)
    torch.cuda.synchronize(CUDA)
    assert torch.cuda.max_memory_allocated(CUDA) < before + 150 * megabytes


@gpu
@pytest.mark.gpu
def test_the_memory_is_free_after_the_data_is_dropped():
    before = torch.cuda.memory_allocated(CUDA)
    moved = on_device(fashion_mnist(), CUDA)
    batches = moved.epoch("crop_flip", 96, np.random.default_rng(0), ALONE)
    next(batches)
    assert torch.cuda.memory_allocated(CUDA) >= before + moved.train.images.nbytes
    del moved, batches
    assert torch.cuda.memory_allocated(CUDA) == before
