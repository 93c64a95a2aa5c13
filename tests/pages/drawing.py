"""Plots without their drawing, which is the slow part."""


def kept_figures(monkeypatch, module):
    """The figures of all plots that a module makes from now on. None is rendered: every PNG is the same few bytes."""
    figures = []

    def keep(figure):
        figures.append(figure)
        return b"a PNG"

    monkeypatch.setattr(module, "png_of", keep)
    return figures
