"""The kit: its files are the parts and networks of the space, and it is written once."""

import json
from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.search.latency_kit import kit as kits
from fbnetv3.search.latency_kit.kit import load_kit, make_kit, static_onnx
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import KINDS, covering, distinct_parts
from fbnetv3.search.space.measure_latency import build_part
from fbnetv3.search.space.reader import load_space
from tests.search.latency_kit.kits import small_kit, small_space
from tests.search.parts import walk

MICRO = load_space("micro")
ROWS = random_rows(MICRO, 5, np.random.default_rng(0))


@pytest.fixture
def space(tmp_path):
    return small_space(tmp_path)[0]


@pytest.fixture
def quick(monkeypatch):
    """Files without content. Holds the shape of every input."""
    shapes = []

    def write(module, example):
        shapes.append(tuple(example.shape))
        return b"onnx"

    monkeypatch.setattr(kits, "static_onnx", write)
    return shapes


def test_a_kit_has_the_parts_of_its_rows_and_of_its_networks():
    kit = make_kit(MICRO, ROWS[:3], ROWS[3:], 1)
    assert list(kit.parts.values()) == distinct_parts(MICRO, ROWS)
    assert len(kit.networks) == 2


def test_the_networks_are_counted_in_parts():
    kit = make_kit(MICRO, covering(MICRO), ROWS, 1)
    for row, counts in zip(ROWS.tolist(), kit.networks.values(), strict=True):
        expected = Counter(walk(MICRO.arch(row, "x")))
        assert {kit.parts[file]: n for file, n in counts.items()} == expected


def test_the_folder_of_a_kit(space, tmp_path, quick):
    reports = []
    kit = small_kit(space, tmp_path / "kit", lambda done, total, text: reports.append((done, total)))
    assert Counter(KINDS[part.kind] for part in kit.parts.values()) == {"stem": 1, "ir": 6, "pool": 3, "classifier": 1}
    assert len(quick) == 11 + 3
    assert quick[:3] == [(1, 1, 12, 12)] * 3
    assert all((tmp_path / "kit" / file).read_bytes() == b"onnx" for file in (*kit.parts, *kit.networks))
    assert "onnxruntime" in (tmp_path / "kit" / "measure.py").read_text()
    assert load_kit(tmp_path / "kit") == kit
    assert reports == [(i, 14) for i in range(15)]


def test_a_stopped_kit_continues(space, tmp_path, quick):
    kit = small_kit(space, tmp_path / "kit")
    (tmp_path / "kit" / next(iter(kit.networks))).unlink()
    quick.clear()
    small_kit(space, tmp_path / "kit")
    assert quick == [(1, 1, 12, 12)]


def test_another_kit_is_not_overwritten(space, tmp_path, quick):
    small_kit(space, tmp_path / "kit")
    with pytest.raises(InputError, match=r"kit has another kit; give another folder"):
        kits.write_kit(space, covering(space), covering(space)[:2], 2, tmp_path / "kit", lambda *_: None)


def test_a_file_computes_what_the_part_does():
    part = next(part for part in distinct_parts(MICRO, ROWS) if part.se)
    module, example = build_part(part, batch=2)
    module.eval()
    for name, buffer in module.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)  # as after a training: a norm that is not folded would show
    images = torch.randn(example.shape)
    with torch.no_grad():
        expected = module(images)
    session = onnxruntime.InferenceSession(static_onnx(module, example), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    assert session.get_inputs()[0].shape == list(example.shape)
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data | {"schema": 2},
        lambda data: data | {"batch": 3},
        lambda data: data | {"parts": []},
        lambda data: data | {"parts": {"parts/00000.onnx": ["ir", -8]}},
        lambda data: data | {"networks": {}},
        lambda data: data | {"networks": {"networks/00.onnx": {"parts/9.onnx": 1}}},
    ],
    ids=["schema", "another batch", "no mapping", "negative width", "no networks", "unknown part"],
)
def test_a_damaged_kit_is_refused(space, tmp_path, quick, damage):
    small_kit(space, tmp_path)
    path = tmp_path / "kit.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=r"kit\.json is no latency kit, or is damaged; make one with"):
        load_kit(tmp_path)


def test_a_folder_without_a_kit_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the latency kit .*kit\.json"):
        load_kit(tmp_path)
