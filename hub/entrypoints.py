"""torch.hub entry points `fbnetv3_a` .. `fbnetv3_g`; torch alone is imported."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fbnetv3.arch import ARCHS
from fbnetv3.errors import InputError
from fbnetv3.hub.convert import convert_mobile_cv
from fbnetv3.model import FBNetV3, build_model


def released() -> dict[str, Any]:
    """The published figures, weight URLs and their licence (`released.json`)."""
    data: dict[str, Any] = json.loads(Path(__file__).with_name("released.json").read_text())
    return data


def load_released(name: str, progress: bool = True) -> dict[str, torch.Tensor]:
    """Download (or take from torch.hub's cache) the released weights of a network, in this package's names.

    Raises:
        InputError: the file cannot be fetched or read; the message names URL and cache folder.
    """
    data = released()
    url, licence = data["models"][name]["url"], data["weights_licence"]
    warnings.warn(f"the released weights of {name} are licensed {licence}", stacklevel=3)
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    file_name = f"{name}_released.pth"
    try:
        checkpoint = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=progress, file_name=file_name, weights_only=True
        )
    except Exception as error:  # network, disk and unpickling errors have no common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot load the released weights of {name} ({reason}); download {url} and save it as {cache / file_name}"
        ) from error
    return convert_mobile_cv(checkpoint, name)


def _entrypoint(name: str) -> Callable[..., FBNetV3]:
    def build(pretrained: bool = False, progress: bool = True, **kwargs: Any) -> FBNetV3:
        model = build_model(name, **kwargs)
        if pretrained:
            model.load_state_dict(load_released(name, progress))
        return model

    arch = ARCHS[name]
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""FBNetV3-{name[-1].upper()} for {arch.resolution} x {arch.resolution} images.

    Args:
        pretrained: load the released ImageNet weights (CC BY-NC 4.0; fetched once, 1000 classes, 3 channels).
        progress: show the download.
        kwargs: num_classes, in_chans, dropout, stochastic_depth, as `fbnetv3.build_model` takes them.
    """
    return build


ENTRYPOINTS = {name: _entrypoint(name) for name in ARCHS}
fbnetv3_a = ENTRYPOINTS["fbnetv3_a"]
fbnetv3_b = ENTRYPOINTS["fbnetv3_b"]
fbnetv3_c = ENTRYPOINTS["fbnetv3_c"]
fbnetv3_d = ENTRYPOINTS["fbnetv3_d"]
fbnetv3_e = ENTRYPOINTS["fbnetv3_e"]
fbnetv3_f = ENTRYPOINTS["fbnetv3_f"]
fbnetv3_g = ENTRYPOINTS["fbnetv3_g"]
