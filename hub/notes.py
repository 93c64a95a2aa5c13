"""Notes to the user: warnings that point at the line of the caller's code, whatever the entry point."""

from __future__ import annotations

import sys
import warnings

from fbnetv3.errors import Note


def note(message: str) -> None:
    """Warn with a `Note` that is attributed to the first caller outside of this package.

    A fixed `stacklevel` would be wrong for all entry points but one: `create_model`, `load_weights`, torch.hub and timm have
    different numbers of frames between the user's line and the place that knows what to say.
    """
    level, frame = 1, sys._getframe()
    # The name of the module, and not its file, because the folder hub/ is beside the folder fbnetv3/ in a checkout.
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "fbnetv3":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, Note, stacklevel=level)
