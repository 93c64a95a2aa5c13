"""Every page is current, and a page with other blocks than it should have is refused."""

import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.docs.generated import blocks_of, render, write_pages
from fbnetv3.benchmarks.docs.pages import PAGES
from tests.places import ROOT


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_current(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert render(text, blocks_of(page)) == text, "run: python -m fbnetv3.benchmarks.docs.generated"


def test_a_block_is_made_again_and_nothing_else():
    text = "a <!-- generated: one -->\nold\nlines<!-- end --> b <!-- end -->"
    assert render(text, {"one": lambda: "new"}) == "a <!-- generated: one -->\nnew\n<!-- end --> b <!-- end -->"


@pytest.mark.parametrize("names", [(), ("two",), ("one", "two"), ("one", "one")])
def test_missing_unknown_and_doubled_blocks_are_refused(names):
    text = "".join(f"<!-- generated: {name} -->\n<!-- end -->" for name in names)
    with pytest.raises(InputError, match="needed once each: one"):
        render(text, {"one": lambda: ""})


def test_the_pages_of_a_checkout_are_rewritten(tmp_path):
    for page in PAGES:
        path = tmp_path / page
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"<!-- generated: {name} -->\nstale\n<!-- end -->\n" for name in PAGES[page]))
    write_pages(tmp_path)
    for page in PAGES:
        text = (tmp_path / page).read_text()
        assert "stale" not in text
        assert render(text, blocks_of(page)) == text
