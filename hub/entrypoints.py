"""torch.hub's entry points: `fbnetv3_a` .. `fbnetv3_g` and `fbnetv3_a0`, and those of a custom zoo. Needs torch alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fbnetv3.arch import ARCH_A0, ARCHS
from fbnetv3.hub.load import create_model
from fbnetv3.hub.registry import read_registry


def _entrypoint(name: str, network: str, side: int, about: str, zoo: Path | None = None) -> Callable[..., nn.Module]:
    """Return the entry point of one model: `create_model` with this name, and a docstring for `torch.hub.help`."""

    def build(pretrained: bool = False, progress: bool = True, **kwargs: Any) -> nn.Module:
        return create_model(name, pretrained, progress=progress, zoo=zoo, **kwargs)

    # torch.hub shows the docstring, and the name appears in tracebacks.
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""{network} for {side} x {side} images. {about}

    Args:
        pretrained: load the model's first registered weights, which are downloaded once.
        progress: show the progress of a download.
        kwargs: weights (another source, a path or a URL), num_classes, in_chans, dropout, stochastic_depth, global_pool,
            features_only, out_indices, as in `fbnetv3.hub.create_model`.
    """
    return build


def zoo_entrypoints(folder: str | Path) -> dict[str, Callable[..., nn.Module]]:
    """Return the entry points of a custom zoo by name, one for each of its models; the zoo's `hubconf.py` calls this."""
    registry = read_registry(folder)
    rows = {name: registry.find(name) for name in registry.models()}
    return {
        name: _entrypoint(name, row.arch.name, row.transforms.crop, row.about, Path(folder))
        for name, row in rows.items()
    }


def _package_entrypoint(name: str) -> Callable[..., nn.Module]:
    about = f"FBNetV3-{name.removeprefix('fbnetv3_').upper()} of the paper's authors."
    arch, weights = ARCH_A0, "Released as code only: there are no weights."
    if name != ARCH_A0.name:
        arch, weights = ARCHS[name], "Weights `fb`: CC BY-NC 4.0, 1000 classes, 3 channels."
    return _entrypoint(name, arch.name, arch.resolution, f"{about} {weights}")


ENTRYPOINTS = {name: _package_entrypoint(name) for name in (*ARCHS, ARCH_A0.name)}
# Written out, so that `hubconf.py` can import the names and readers can search for them.
fbnetv3_a = ENTRYPOINTS["fbnetv3_a"]
fbnetv3_b = ENTRYPOINTS["fbnetv3_b"]
fbnetv3_c = ENTRYPOINTS["fbnetv3_c"]
fbnetv3_d = ENTRYPOINTS["fbnetv3_d"]
fbnetv3_e = ENTRYPOINTS["fbnetv3_e"]
fbnetv3_f = ENTRYPOINTS["fbnetv3_f"]
fbnetv3_g = ENTRYPOINTS["fbnetv3_g"]
fbnetv3_a0 = ENTRYPOINTS["fbnetv3_a0"]
