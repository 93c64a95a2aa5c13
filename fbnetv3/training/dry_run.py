"""A first pass of a network over made-up images: what cannot run shows before images are read and files are written."""

from __future__ import annotations

import copy

import torch
from torch import nn

from fbnetv3.device import kept_generators
from fbnetv3.errors import InputError
from fbnetv3.training.data.protocol import Data

_ONE_VALUE = "more than 1 value per channel"  # of torch's message about a batch norm


def check_network(model: nn.Module, data: Data, images: int, device: torch.device) -> None:
    """Check that a network takes the images of a training, and those of its evaluation. The network stays as it is.

    Args:
        images: images of a forward pass of the training.
        device: where the network is.

    Raises:
        InputError: the images have too few pixels, too few are computed together, or they have other channels.
    """
    try:
        twin = copy.deepcopy(model)  # the running statistics of the network itself must not see made-up images
    except Exception:  # some networks cannot be copied; the first step shows whether they run
        return
    # Images in memory are trained on and evaluated at one size.
    side: int = getattr(data, "resolution", data.transforms.crop)
    # Dropout draws from torch's generator, from which the training must draw the same numbers as without this pass.
    with kept_generators(device), torch.no_grad():
        _try(twin.train(), data.transforms.in_chans, side, min(images, 2), device, f"train on {images} images at once,")
        _try(twin.eval(), data.transforms.in_chans, data.transforms.crop, 1, device, "evaluate an image,")


def _try(model: nn.Module, channels: int, side: int, count: int, device: torch.device, what: str) -> None:
    generator = torch.Generator().manual_seed(0)
    # On the CPU, where the generator is, whatever the default device.
    x = torch.rand(count, channels, side, side, generator=generator, device="cpu").to(device)
    try:
        model(x)
    except torch.OutOfMemoryError:
        raise  # the images are not at fault
    # torch raises the first two, networks of a fixed size often the third. Others are mistakes in the network's code.
    except (RuntimeError, ValueError, AssertionError) as error:
        if torch.are_deterministic_algorithms_enabled() and "deterministic" in str(error).lower():
            raise  # `machine_settings` explains it
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        advice = (
            "a batch norm sees one value per channel: give a larger batch_size, a smaller accumulate, or larger images"
            if _ONE_VALUE in reason
            else "give another resolution, or a network for such images"
        )
        raise InputError(
            f"the network cannot {what} of {channels} x {side} x {side} values ({reason}); {advice}"
        ) from error
