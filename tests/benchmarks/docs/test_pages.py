"""Generated blocks: a caption with date, command and a link that leads somewhere, and tables. No sentences."""

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.docs.pages import PAGES, Block
from fbnetv3.benchmarks.result import RESULTS, load_result
from tests.places import ROOT

BLOCKS = [(page, name) for page, blocks in PAGES.items() for name in blocks]


@pytest.mark.parametrize(("page", "name"), BLOCKS)
def test_a_block_is_a_caption_and_tables(page, name):
    block = PAGES[page][name]
    if block.may_lack and not (RESULTS / f"{block.result}.json").exists():
        assert block.markdown(page) == f"Not run: there is no result file `{block.result}.json`."
        return
    caption, *tables = block.markdown(page).split("\n\n")
    result = load_result(block.result)
    assert caption.startswith(f"Result of `{result.command}`, {result.date} ([{block.result}.json](")
    assert caption.count("\n") == 0
    link = caption.rpartition("](")[2].removesuffix(")):")
    assert ((ROOT / page).parent / link).resolve() == ROOT / "benchmarks" / "results" / f"{block.result}.json"
    assert tables
    for table in tables:
        assert all(line.startswith("| ") and line.endswith(" |") for line in table.splitlines())


def test_only_a_block_that_may_lack_its_result_says_that_nothing_was_run():
    entry = PAGES["docs/gpu.md"]["tests"].entry
    assert Block(entry, "nothing", may_lack=True).markdown("docs/gpu.md").startswith("Not run: ")
    with pytest.raises(InputError, match="no such file"):
        Block(entry, "nothing").markdown("docs/gpu.md")


def test_some_tables_can_be_chosen():
    block = PAGES["README.md"]["speed"]
    titles = list(block.entry.load().all_tables(load_result(block.result)))
    assert len(titles) > 1
    assert block.tables == (titles[0],)
    every = Block(block.entry, block.result).markdown("README.md")
    assert len(every.split("\n\n")) == 1 + len(titles)
