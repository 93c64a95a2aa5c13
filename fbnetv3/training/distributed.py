"""Several processes that train one network: the process group, sums over all processes, and batch norm over all of them.

`torchrun --nproc-per-node N -m fbnetv3 train ...` starts the processes, or SLURM's `srun` (`fbnetv3.training.slurm`). For a
process that works alone, every function here returns its input.
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

from fbnetv3.device import placed
from fbnetv3.errors import InputError
from fbnetv3.training.network.regularise import hooks_kept
from fbnetv3.training.process_rank import ProcessRank


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[ProcessRank]:
    """Join the processes that torchrun started, and leave them at the end. They use nccl on CUDA, else gloo.

    Raises:
        InputError: they do not find each other.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ProcessRank()
        return
    with contextlib.ExitStack() as stack:
        if device.type == "cuda":
            device = placed(device)
            # nccl sends Python objects through the present device: without this, all processes would use the first GPU.
            stack.enter_context(torch.cuda.device(device))
            _find_others("nccl", device_id=device)
        else:
            _find_others("gloo")
        stack.callback(dist.destroy_process_group)
        yield current_process()
        # A process that leaves early would break what the others still send.
        dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)


def _find_others(backend: str, **options: Any) -> None:
    try:
        dist.init_process_group(backend, **options)
    except dist.DistError as error:
        place = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise InputError(
            f"the {os.environ['WORLD_SIZE']} processes do not find each other at {place} ({str(error).splitlines()[0]}); set "
            "MASTER_ADDR to the host of the first one, and MASTER_PORT to a free port there"
        ) from error


def current_process() -> ProcessRank:
    """Return the rank of this process and the number of processes, as torch.distributed knows them."""
    if not (dist.is_available() and dist.is_initialized()):
        return ProcessRank()
    return ProcessRank(dist.get_rank(), dist.get_world_size())


def total(values: Sequence[float], process: ProcessRank, device: torch.device) -> list[float]:
    """Return the sum of each value over all processes, in float64, which counts images exactly."""
    if process.world_size == 1:
        return list(values)  # not through a tensor: the values stay exactly what they are
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]  # one message from the device


def gathered(value: Any, process: ProcessRank) -> list[Any]:
    """Return the values of all processes, by rank."""
    if process.world_size == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def wrap(model: nn.Module, process: ProcessRank, device: torch.device) -> nn.Module:
    """Return `model` so that gradients are averaged over all processes. Its parameters become those of process 0."""
    if process.world_size == 1:
        return model
    # `average_buffers` takes care of the buffers. DDP would send those of process 0, and only at the next forward pass.
    ids = [placed(device)] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)


def average_buffers(model: nn.Module, process: ProcessRank) -> None:
    """Replace the running statistics of every process by their mean over all processes, so that all have one network."""
    if process.world_size == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])  # one message instead of one for each buffer
    dist.all_reduce(flat)
    means = (flat / dist.get_world_size()).split([buffer.numel() for buffer in buffers])
    torch._foreach_copy_(buffers, [mean.view_as(buffer) for mean, buffer in zip(means, buffers, strict=True)])


def synchronise_norms(model: nn.Module, process: ProcessRank, device: torch.device) -> nn.Module:
    """Return `model` with batch norms that see the batches of all processes. The names of the weights do not change.

    On CUDA they are torch's, elsewhere `SyncBatchNorm2d`.

    Raises:
        InputError: a batch norm is not two-dimensional. Only torch's can synchronise those, and only on CUDA.
    """
    if process.world_size == 1:
        return model
    if device.type == "cuda":
        with hooks_kept(model):
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            # The fields are the same and only the forward pass differs, so hooks and references to the module stay valid.
            module.__class__ = SyncBatchNorm2d
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise InputError(
                f"{name} is a {type(module).__name__}, which cannot be synchronised on the CPU; set sync_bn to false"
            )
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on any device, because torch's refuses the CPU.

    All processes must have batches of the same size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, H, W], in training by the mean and the variance over the batches of all processes."""
        if not self.training or not self.track_running_stats:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        assert self.num_batches_tracked is not None
        world = dist.get_world_size()
        # Both moments travel in one message. E[x^2] - E[x]^2 needs no second message for the variance.
        moments = torch.stack([x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))])
        mean, square = _Sum.apply(moments) / world
        variance = square - mean * mean
        with torch.no_grad():
            count = x.numel() // x.shape[1] * world
            self.num_batches_tracked += 1
            rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, rate)
            # torch keeps the unbiased variance in the running statistics.
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), rate)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out: Tensor = x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return out


class _Sum(torch.autograd.Function):
    """Sum over all processes. Its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()  # all_reduce works in place
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Tensor:
        grad: Tensor = grad_outputs[0].clone()
        dist.all_reduce(grad)
        return grad
