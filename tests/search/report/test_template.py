"""The templates of the page: their markup is closed, and there are words for every case."""

from html.parser import HTMLParser
from string import Template

import pytest

from fbnetv3.search.report import template
from fbnetv3.search.report.analysis import summary

VOID = {"meta", "img", "br"}
TEMPLATES = {
    name: value for name, value in vars(template).items() if isinstance(value, Template | str) and name.isupper()
}
TEMPLATES |= {
    f"{name}-{key}": value for name in ("OUTCOME", "APART", "UNBIASED") for key, value in vars(template)[name].items()
}


class Balance(HTMLParser):
    """Fails for a tag that is closed in the wrong place, or not at all."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_tag_is_closed(name):
    value = TEMPLATES[name]
    assert Balance(value.template if isinstance(value, Template) else value).open == []


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_no_dollar_is_left_over(name):
    value = TEMPLATES[name]
    if isinstance(value, Template):
        assert value.is_valid()
    else:
        assert "$" not in value


def test_there_are_words_for_every_split_and_for_none():
    assert set(template.OUTCOME) == set(template.APART) == set(template.UNBIASED) == {"test", "val", ""}


def test_the_table_of_rounds_has_a_head_for_every_cell():
    assert len(template.ROUNDS) == 1 + len(summary([], 1))  # the round's name, and its summary


def test_the_page_forbids_what_it_does_not_need():
    assert "default-src 'none'" in template.PAGE.template
