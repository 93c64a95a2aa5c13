"""Model cards from a registry: description, licence, metrics and their origin, recipe, how to load, what was verified.

    python -m fbnetv3.hub.cards

run in a checkout writes `hub/README.md`. A test fails while that file differs from the registry. The cards of a custom zoo are
written when weights are published to it.
"""

from __future__ import annotations

from pathlib import Path

from fbnetv3.files import write_atomically
from fbnetv3.hub.registry import RegisteredWeights, Registry, read_registry

_PACKAGE_HEAD = """# Model cards

This page is generated from `hub/registry.json` by `python -m fbnetv3.hub.cards`. Accuracies are in percent on ImageNet's
validation images. They are quoted from the origin in brackets: this package measured none of them, because the weights could
not be downloaded where it was built. FLOPs (one multiply-add = 1) and params are counted by this package in the paper's
convention, for images of the size that the row names."""
_PACKAGE_LOAD = 'torch.hub.load("path/to/checkout", "{model}", source="local", weights="{source}")'
_ZOO_HEAD = """# Model cards

This page is generated from `registry.json`. FLOPs (one multiply-add = 1) and params are counted in the convention of the
FBNetV3 paper."""
_ZOO_LOAD = 'torch.hub.load("path/to/this/folder", "{model}", source="local", weights="{source}")'


def package_cards() -> str:
    """Return the page of the package's registry."""
    return _render(read_registry(), _PACKAGE_HEAD, _PACKAGE_LOAD)


def zoo_cards(registry: Registry) -> str:
    """Return the page of a custom zoo."""
    return _render(registry, _ZOO_HEAD, _ZOO_LOAD)


def _render(registry: Registry, head: str, load: str) -> str:
    """Return the page of a registry: a section per model, a card per weight file."""
    sections = [head]
    for model in registry.models():
        sections.append(f"## {model}")
        sections += [_card(row, load) for row in registry.rows_of(model)]
    return "\n\n".join(sections) + "\n"


def _card(row: RegisteredWeights, load: str) -> str:
    """Return the card of one weight file as Markdown."""
    t = row.transforms
    # An accuracy without its origin would look like one that was measured here.
    metrics = "; ".join(f"{m.name} {m.value} ({m.origin})" for m in row.metrics) or "none given"
    classes = row.classes if isinstance(row.classes, str) else ", ".join(row.classes)
    channels = "grey" if t.in_chans == 1 else "RGB"
    lines = [
        f"### {_title(row)}",
        "",
        row.about,
        "",
        f"- licence: {row.licence}{', **not for commercial use**' if row.noncommercial else ''}",
        *([f"- trained from: {', '.join(row.derived_from)}"] if row.derived_from else []),
        f"- metrics: {metrics}",
        f"- input: {channels}, shorter side resized to {t.resize} ({t.interpolation}), centre crop {t.crop}, mean "
        f"{_numbers(t.mean)}, std {_numbers(t.std)}",
        f"- classes: {classes}",
        f"- cost: {row.flops_m:.4g}M FLOPs, {row.params_m:.4g}M params",
        f"- recipe: {row.recipe}",
        f"- verified: {row.verified}",
        f"- sha256: {row.sha256 or 'not published; recorded at the first download and checked from then on'}",
        f"- load: `{load.format(model=row.model, source=row.source)}`",
    ]
    return "\n".join(lines)


def _title(row: RegisteredWeights) -> str:
    """Return the title of a card: model, source, and the architecture if it is not the model's."""
    variant = "" if row.arch.name == row.model else f" (builds `{row.arch.name}`)"
    return f"{row.model}, weights `{row.source}`{variant}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


if __name__ == "__main__":
    write_atomically(Path("hub/README.md"), package_cards())
