"""The generated blocks of README.md and docs/, from the result files and the registry.

    python -m fbnetv3.benchmarks.docs.generated

run in a checkout rewrites what stands between `<!-- generated: NAME -->` and `<!-- end -->` on every page of `PAGES`; a test
fails while a page differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from fbnetv3.benchmarks.docs import detection as detection_page
from fbnetv3.benchmarks.docs import readme
from fbnetv3.benchmarks.docs import search as search_page
from fbnetv3.benchmarks.experiments import report as experiment_report
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically

Blocks = Mapping[str, Callable[[], str]]
PAGES: dict[str, Blocks] = {
    "README.md": readme.BLOCKS,
    "docs/experiments.md": experiment_report.BLOCKS,
    "docs/search.md": search_page.BLOCKS,
    "docs/detection.md": detection_page.BLOCKS,
}
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, blocks: Blocks) -> str:
    """A page with its blocks made anew.

    Raises:
        InputError: the page has a block that is not among `blocks`, or lacks one of them.
    """
    names = [name for _, name, _ in _BLOCK.findall(text)]
    if sorted(names) != sorted(blocks):
        raise InputError(f"generated blocks are {', '.join(names) or 'none'}; needed once each: {', '.join(blocks)}")
    return _BLOCK.sub(lambda match: f"{match[1]}{blocks[match[2]]()}\n{match[3]}", text)


if __name__ == "__main__":
    for page, made in PAGES.items():
        write_atomically(Path(page), render(Path(page).read_text(encoding="utf-8"), made))
