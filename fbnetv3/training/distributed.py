"""Several processes that train one network: who does what, sums over all, and batch norm over all.

`torchrun --nproc-per-node N -m fbnetv3 train ...` starts them; alone, everything here is the identity.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fbnetv3.errors import InputError
from fbnetv3.training.network.regularise import hooks_kept
from fbnetv3.training.process_rank import ProcessRank


def find_device(name: str) -> str:
    """A device of this machine by name; `cuda` under torchrun is the process's own one.

    Raises:
        InputError: there is none of that name.
    """
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name} cannot be used ({reason}); give cpu, or a device of this machine") from None
    return name


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[ProcessRank]:
    """Join the processes that torchrun started (nccl on CUDA, gloo else), and leave them at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ProcessRank()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield current_process()
        dist.barrier()  # nobody hangs up on another that is still listening
    finally:
        dist.destroy_process_group()


def current_process() -> ProcessRank:
    """This process's part, as torch.distributed has it."""
    if not (dist.is_available() and dist.is_initialized()):
        return ProcessRank()
    return ProcessRank(dist.get_rank(), dist.get_world_size())


def total(values: Sequence[float], process: ProcessRank, device: torch.device) -> list[float]:
    """Sums over all processes, in float64."""
    if process.world_size == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(v) for v in tensor]


def gathered(value: Any, process: ProcessRank) -> list[Any]:
    """The value of every process, by rank."""
    if process.world_size == 1:
        return [value]
    values: list[Any] = [None] * process.world_size
    dist.all_gather_object(values, value)
    return values


def wrap(model: nn.Module, process: ProcessRank, device: torch.device) -> nn.Module:
    """`model` with gradients averaged over all processes; its parameters become those of process 0."""
    if process.world_size == 1:
        return model
    # Buffers are `average_buffers`' work: DDP would give process 0's to all, and only at the next forward.
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)


def average_buffers(model: nn.Module, process: ProcessRank) -> None:
    """Give every process the mean of all processes' running statistics, so that they stay one network."""
    if process.world_size == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    dist.all_reduce(flat)
    for buffer, mean in zip(buffers, (flat / process.world_size).split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def synchronise_norms(model: nn.Module, process: ProcessRank, device: torch.device) -> nn.Module:
    """`model` with batch norms that see the batch of all processes: torch's on CUDA, `SyncBatchNorm2d` elsewhere.

    Names of weights do not change. In one process nothing does.

    Raises:
        InputError: a batch norm that is not two-dimensional, which only torch's own can synchronise.
    """
    if process.world_size == 1:
        return model
    if device.type == "cuda":
        with hooks_kept(model):
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm2d  # same fields, another forward: hooks and references stay
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise InputError(f"{name} is a {type(module).__name__}, which cannot be synchronised on the CPU")
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over all processes on any device: torch's own refuses the CPU. All have batches of one size."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], normalised by the mean and variance of every process's batch in training."""
        if not self.training or not self.track_running_stats:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        assert self.num_batches_tracked is not None
        world = dist.get_world_size()
        moments = torch.stack([x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))])
        mean, square = _Sum.apply(moments) / world
        variance = square - mean * mean
        with torch.no_grad():
            count = x.numel() // x.shape[1] * world
            self.num_batches_tracked += 1
            rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), rate)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out: Tensor = x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return out


class _Sum(torch.autograd.Function):
    """Sum over processes whose gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad
