"""Answers that an extension of the search has replaced: `earlier/1/` is laid out as the folder of the search.

Each has its pair file, its weights, its final training, and what `confirm` made of it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from fbnetv3.files import make_folder
from fbnetv3.pair_file import load_pair
from fbnetv3.search.runs.confirm import BASE, CONFIRMED
from fbnetv3.search.runs.confirm import FOLDER as CONFIRM
from fbnetv3.search.runs.folder import FINAL, WEIGHTS, SearchFolder
from fbnetv3.search.trial import Candidate

EARLIER = "earlier"


def keep_earlier(search: SearchFolder, method: str, final: Candidate) -> None:
    """Move the answer of a method away, with all that was made of it, if the answer is another one now.

    Args:
        final: the answer, as `final_candidate` returns it.
    """
    pair, confirm = search.pair(method), search.path / CONFIRM
    confirmed = [confirm / name for name in ([method, BASE] if method == "nars" else [method])]
    others = [pair.parent / FINAL, pair.parent / WEIGHTS, *confirmed, search.path / CONFIRMED]
    set_aside(search, pair, final, others)


def set_aside(search: SearchFolder, pair: Path, final: Candidate, others: Sequence[Path]) -> None:
    """Move a pair file of an extended search, and what belongs to it, to `earlier/`, if it has another pair than `final`.

    The pair file goes last. If the process dies before, the next call moves the rest to the same place.

    Args:
        others: what belongs to the pair, as far as it is there.
    """
    if not search.config.extensions or not pair.is_file():
        return
    before = load_pair(pair)
    if (before.arch, before.recipe) == (final.arch, final.recipe):
        return
    places = (search.path / EARLIER / str(n) for n in itertools.count(1))
    place = next(place for place in places if not (place / pair.relative_to(search.path)).exists())
    for path in (*others, pair):
        if path.exists():
            target = place / path.relative_to(search.path)
            make_folder(target.parent)
            os.replace(path, target)  # noqa: PTH105
