"""Markup escapes every text."""

from string import Template

from fbnetv3.pages.markup import figure, fill, table
from fbnetv3.pages.plots import Plot


def test_texts_are_escaped_and_markup_is_not():
    assert fill(Template("$a $b"), {"a": "<i> & 1"}, {"b": "<b>2</b>"}) == "&lt;i&gt; &amp; 1 <b>2</b>"


def test_a_table_escapes_its_cells_and_marks_rows():
    text = table(("<a>", "b"), [["1", "&"], ["2", "3"]], "words", marked=[1])
    assert "<th>&lt;a&gt;</th>" in text
    assert "<td>&amp;</td>" in text
    assert '<tr class="marked"><td>2</td><td>3</td></tr>' in text
    assert '<table class="words">' in text


def test_a_figure_holds_its_image():
    text = figure(Plot("x", "A & B", "<caption>", b"abc"))
    assert 'src="data:image/png;base64,YWJj"' in text
    assert "<h3>A &amp; B</h3>" in text
    assert "&lt;caption&gt;" in text


def test_a_figure_without_an_image_says_why():
    assert figure(Plot("x", "A", "why", None)) == '<p class="note"><b>A</b> is left out. why</p>\n'
