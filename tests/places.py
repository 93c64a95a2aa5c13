"""Where the tests find the checkout and the data that may lie beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = (
    ROOT.parent / "shared"
)  # reference data and image sets of the development machine; tests skip where it is absent
