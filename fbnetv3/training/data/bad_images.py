"""Images that cannot be read: they are left out and counted, or they end the run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from fbnetv3.errors import InputError, quote

logger = logging.getLogger(__name__)

OnBadImage = Literal["skip", "fail"]


@dataclass(eq=False)
class BadImages:
    """What is done about images that cannot be read, and those that were met.

    Attributes:
        on_bad_image: `fail` ends the run with the image's name. `skip` leaves the image out, with a warning.
        met: for each split the reasons, by the index of the image.
        told: log a warning for each image.
    """

    on_bad_image: OnBadImage = "fail"
    met: dict[str, dict[int, str]] = field(default_factory=dict)
    told: bool = True

    def __post_init__(self) -> None:
        if self.on_bad_image not in get_args(OnBadImage):
            raise InputError(f"on_bad_image is {quote(self.on_bad_image)}; allowed: {', '.join(get_args(OnBadImage))}")

    @property
    def skip(self) -> bool:
        """Whether such images are left out."""
        return self.on_bad_image == "skip"

    def add(self, split: str, found: Iterable[tuple[int, str]]) -> None:
        """Note images of a split that cannot be read: their indices, and the reasons.

        Raises:
            InputError: such images end the run.
        """
        met = self.met.setdefault(split, {})
        for index, reason in found:
            if not self.skip:
                raise InputError(reason)
            if index not in met and self.told:
                logger.warning("left out: %s", reason)
            met[index] = reason
