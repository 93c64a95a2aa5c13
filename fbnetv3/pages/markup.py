"""Texts, tables and plots as HTML, and the style of a page. All text is escaped here."""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Iterable, Mapping, Sequence
from string import Template

from fbnetv3.pages.plots import Plot


def fill(template: Template, text: Mapping[str, object], markup: Mapping[str, str]) -> str:
    """Return a template with texts, which are escaped, and with markup, which is not."""
    return template.substitute({name: html.escape(str(value)) for name, value in text.items()} | dict(markup))


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers", marked: Collection[int] = ()
) -> str:
    """Return a table.

    Args:
        kind: `numbers`, which are aligned at the right, or `words`.
        marked: positions of the rows that are highlighted.
    """
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    for i, row in enumerate(rows):
        start = '<tr class="marked">' if i in marked else "<tr>"
        lines.append(f"{start}{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>")
    return f'<div class="scroll"><table class="{kind}">\n' + "\n".join(lines) + "\n</table></div>"


def figure(plot: Plot) -> str:
    """Return a plot inside the page with its title and caption, or the reason why there is none."""
    title, caption = html.escape(plot.title), html.escape(plot.caption)
    if plot.png is None:
        return f'<p class="note"><b>{title}</b> is left out. {caption}</p>\n'
    source = base64.b64encode(plot.png).decode()
    return (
        f'<figure><h3>{title}</h3>\n<img alt="Plot: {title}" src="data:image/png;base64,{source}">\n'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #5a646e; --line: #d9dee3; --back: #fff; --soft: #f3f5f7;
  --mark: #fff3cf }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --dim: #a0a8b0; --line: #3c3f43; --back: #1a1a1a; --soft: #262626; --mark: #40361a }
  img { filter: invert(.9) hue-rotate(180deg) }
}
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .6rem }
h1 { margin: 0 }
h2 { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line) }
.lead { font-size: 1.1rem }
.note, figcaption { color: var(--dim); font-size: .875rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0 }
dl div { display: flex; flex-direction: column; padding: .75rem 1rem; border-radius: .5rem; background: var(--soft) }
dd { margin: 0; font-size: 1.5rem; font-weight: 600 }
dt { color: var(--dim); font-size: .875rem }
.scroll { overflow-x: auto; margin: .75rem 0 }
table { border-collapse: collapse; min-width: 60%; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .55rem; border-bottom: 1px solid var(--line); text-align: left }
th { color: var(--dim); vertical-align: bottom }
.numbers :is(th, td):not(:first-child) { text-align: right }
.numbers td { white-space: nowrap }
.marked { background: var(--mark) }
pre { padding: .8rem 1rem; border-radius: .5rem; background: var(--soft); overflow-x: auto; font-size: .875rem }
figure { margin: 2rem 0 }
figure h3 { margin: 0 0 .5rem }
figcaption { margin-top: .4rem }
img { display: block; width: 100%; max-width: 36rem; border-radius: .5rem }
li { margin: .4rem 0; overflow-wrap: anywhere }
@media (max-width: 32rem) {
  .lead { font-size: 1rem }
  table { font-size: .75rem }
  th, td { padding: .25rem .3rem }
}
"""
