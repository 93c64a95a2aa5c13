"""What the whole-package tests share."""

import pytest
import torch

import fbnetv3
from fbnetv3.hub import load
from fbnetv3.hub.registry import read_registry


@pytest.fixture
def untrained_weights(tmp_path, monkeypatch):
    """Serve untrained weights in place of the released ones, which cannot be downloaded here."""

    def fetch(url, path, *_, **__):
        (row,) = (row for row in read_registry().rows if row.url == url)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(fbnetv3.build_model(row.arch).state_dict(), path)
        return path

    monkeypatch.setattr(load, "fetch", fetch)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
