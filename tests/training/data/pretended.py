"""A pretended CUDA device: shapes, types and devices are those of a GPU, and nothing is computed."""

import contextlib

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fbnetv3.transforms import Transforms

CUDA = torch.device("cuda", 0)
COPIES = ("_to_copy", "copy_")


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, except copies: torch would copy an index, and wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        # A tensor without dimensions that is on the host is a number: torch makes it part of the call.
        devices = {str(t.device) for t in tensors if t.dim() or t.device.type != "cpu"}
        name = func.overloadpacket.__name__
        assert len(devices) <= 1 or name in COPIES, f"{name} of tensors on {devices}"
        return func(*args, **(kwargs or {}))


class Fetches(TorchDispatchMode):
    """Counts the numbers that Python takes out of tensors: each makes it wait for the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ == "_local_scalar_dense"
        return func(*args, **(kwargs or {}))


class Event:
    """A place in the work of a stream, with a number."""

    def __init__(self, stream):
        self.calls = stream.calls
        self.name = f"{stream.name} {sum(call.startswith(f'event {stream.name}') for call in self.calls)}"
        self.calls.append(f"event {self.name}")

    def synchronize(self):
        self.calls.append(f"the host waits for {self.name}")


class Stream:
    """Notes in `calls` what would be asked of CUDA's streams."""

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def record_event(self):
        return Event(self)

    def wait_event(self, event):
        self.calls.append(f"{self.name} waits for {event.name}")


@contextlib.contextmanager
def pretended_cuda(monkeypatch):
    """Inside, tensors can be on a CUDA device, which has a gigabyte: 3/4 free, and 1/8 kept by torch for later tensors.

    Gives the list of what is asked of streams and of pinned memory.
    """
    calls = []

    @contextlib.contextmanager
    def inside(stream):
        calls.append(f"inside {stream.name}")
        yield

    def pin(tensor):
        assert tensor.device.type == "cpu"
        calls.append("pinned")
        return tensor

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**28, 2**30))
        patch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * 2**26)
        patch.setattr(torch.cuda, "memory_allocated", lambda device: 2**26)
        patch.setattr(torch.cuda, "Stream", lambda device: Stream("copies", calls))
        patch.setattr(torch.cuda, "stream", inside)
        patch.setattr(torch.cuda, "current_stream", lambda device: Stream("computing", calls))
        patch.setattr(torch.Tensor, "pin_memory", pin)
        patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: calls.append(f"kept for {stream.name}"))
        with FakeTensorMode(allow_non_fake_inputs=True), OneDevice():
            yield calls


@contextlib.contextmanager
def sent_to_the_host(monkeypatch):
    """Inside, batches for a CUDA device go the way of all such batches, but stay on the host, so that they can be compared."""
    with monkeypatch.context() as patch:
        calls = []
        patch.setattr(torch.cuda, "Stream", lambda device: Stream("copies", calls))
        patch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
        patch.setattr(torch.cuda, "current_stream", lambda device: Stream("computing", calls))
        patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
        patch.setattr("fbnetv3.training.data.device.send", lambda tensor, device: tensor.clone())
        normaliser = Transforms.normaliser
        patch.setattr(Transforms, "normaliser", lambda transforms, device: normaliser(transforms, torch.device("cpu")))
        yield
