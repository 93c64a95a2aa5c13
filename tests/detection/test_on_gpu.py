"""What a detector does on a GPU alone. The GPU is pretended here; tests/whole/test_gpu_detection.py uses a real one."""

import contextlib

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.detection import on_gpu
from fbnetv3.detection.on_gpu import gpu_settings, send_images

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")


@pytest.fixture
def settings(monkeypatch):
    """The settings of a pretended GPU, as they are at present."""
    now = {}

    @contextlib.contextmanager
    def put(name, value):
        now[name] = value
        yield
        del now[name]

    monkeypatch.setattr(torch.cuda, "device", lambda device: put("device", device))
    monkeypatch.setattr(on_gpu, "tf32_units", lambda used: put("tf32", used))
    return now


def test_the_gpu_is_the_present_one_and_computes_in_float32(settings):
    with gpu_settings(GPU, ""):
        assert settings == {"device": GPU, "tf32": False}
    assert settings == {}


def test_nothing_is_set_on_the_cpu(settings):
    with gpu_settings(CPU, ""):
        assert settings == {}


def test_a_lack_of_memory_is_one_line_with_advice(settings):
    with (
        pytest.raises(InputError, match=r"^cuda:1 has too little free memory; lower it$"),
        gpu_settings(GPU, "lower it"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")


class Image:
    """An image that notes what is done with it."""

    def __init__(self, *done):
        self.done = done

    def pin_memory(self):
        return Image(*self.done, "pinned")

    def to(self, device, non_blocking):
        return Image(*self.done, device, non_blocking)


def test_images_are_sent_from_pinned_memory_and_the_rest_of_a_record_stays():
    batch = [{"image": Image(), "height": 3}, {"image": Image(), "height": 4}]
    sent = send_images(batch, GPU)
    assert [(record["image"].done, record["height"]) for record in sent] == [(("pinned", GPU, True), n) for n in (3, 4)]
    assert batch[0]["image"].done == ()
    assert send_images(batch, CPU) is batch
