"""Writes the generated blocks of README.md and docs/ from the result files.

    python -m fbnetv3.benchmarks.docs.generated

Run in a checkout, it rewrites what stands between `<!-- generated: NAME -->` and `<!-- end -->` on every page of `PAGES`. A
test fails as long as a page differs from its result files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from fbnetv3.benchmarks.docs.pages import PAGES
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically

Blocks = Mapping[str, Callable[[], str]]
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, blocks: Blocks) -> str:
    """Return a page with all of its blocks made again.

    Args:
        text: the page.
        blocks: functions that make the content of a block, by its name.

    Raises:
        InputError: the page has a block that is not in `blocks`, lacks one of them, or has one twice.
    """
    # A marker that was mistyped in the page would leave its old table there for ever.
    names = [name for _, name, _ in _BLOCK.findall(text)]
    if sorted(names) != sorted(blocks):
        raise InputError(f"generated blocks are {', '.join(names) or 'none'}; needed once each: {', '.join(blocks)}")
    return _BLOCK.sub(lambda match: f"{match[1]}{blocks[match[2]]()}\n{match[3]}", text)


def blocks_of(page: str) -> Blocks:
    """Return the functions that make the blocks of a page."""
    return {name: partial(block.markdown, page) for name, block in PAGES[page].items()}


def write_pages(checkout: Path) -> None:
    """Make the blocks of all pages of a checkout again."""
    for page in PAGES:
        path = checkout / page
        write_atomically(path, render(path.read_text(encoding="utf-8"), blocks_of(page)))


if __name__ == "__main__":
    write_pages(Path())
