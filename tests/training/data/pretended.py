"""A pretended CUDA device: shapes, types and devices are those of a GPU, and nothing is computed."""

import contextlib

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
COPIES = ("_to_copy", "copy_")


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, except copies: torch would copy an index, and wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        devices = {str(leaf.device) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        name = func.overloadpacket.__name__
        assert len(devices) <= 1 or name in COPIES, f"{name} of tensors on {devices}"
        return func(*args, **(kwargs or {}))


class Stream:
    """Notes in `calls` what would be asked of CUDA's streams."""

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def record_event(self):
        event = f"event {sum(call.startswith('copies: event') for call in self.calls)}"
        self.calls.append(f"{self.name}: {event}")
        return event

    def wait_event(self, event):
        self.calls.append(f"{self.name} waits for {event}")


@contextlib.contextmanager
def pretended_cuda(monkeypatch):
    """Inside, tensors can be on a CUDA device. Gives the list of what is asked of streams and of pinned memory."""
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
        patch.setattr(torch.cuda, "Stream", lambda device: Stream("copies", calls))
        patch.setattr(torch.cuda, "stream", inside)
        patch.setattr(torch.cuda, "current_stream", lambda device: Stream("computing", calls))
        patch.setattr(torch.Tensor, "pin_memory", pin)
        patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: calls.append(f"kept for {stream.name}"))
        with FakeTensorMode(allow_non_fake_inputs=True), OneDevice():
            yield calls
