"""Texts, tables and plots as HTML. All text is escaped here."""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Iterable, Mapping, Sequence
from string import Template

from fbnetv3.search.report.plots import Plot


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
