"""The files in a folder: complete, and never over others."""

import json

import pytest

from fbnetv3 import InputError
from fbnetv3.evaluation import plots
from fbnetv3.evaluation.files import write_evaluation
from tests.evaluation.known import found

FACTS = {"network": "small", "weights": "w.pt", "data": "pets", "split": "test"}


def test_the_files_are_written_and_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "png_of", lambda figure: b"a PNG")
    result = found(classes=("\udcff", "bee", "cow"))  # a folder whose name is no UTF-8
    page = write_evaluation(tmp_path / "new", result, None, FACTS)
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["confusion.png", "metrics.json", "reliability.png", "report.html"]
    data = json.loads((page.parent / "metrics.json").read_text())
    assert (data["network"], data["acc1"], data["speed"]) == ("small", 50.0, None)
    assert "udcff" in page.read_text()
    (page.parent / "confusion.png").unlink()
    with pytest.raises(InputError, match=r"metrics.json exists already; give --overwrite"):
        write_evaluation(page.parent, result, None, FACTS)
    assert not (page.parent / "confusion.png").exists()
    write_evaluation(page.parent, result, None, FACTS, overwrite=True)
    assert (page.parent / "confusion.png").exists()
