"""The speed of detectors: three detectors of one function, timed training steps, and the committed file."""

import pytest
import torch

from fbnetv3.benchmarks.coco import speed as benchmark
from fbnetv3.benchmarks.coco.speed import BENCHMARK
from fbnetv3.benchmarks.result import load_result

SMALL = (96, 128)  # height and width


@pytest.fixture
def detectron2(monkeypatch):
    pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")
    monkeypatch.setattr(benchmark, "SIDES", SMALL)


@pytest.mark.usefixtures("detectron2")
def test_the_detectors_are_one_function():
    x = torch.randn(1, 3, *SMALL, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = benchmark.detectors(side=64)
        maps = {name: model.backbone(x)["c4"] for name, model in found.items()}
    assert list(maps) == ["timm", "eager", "folded"]
    for name in ("eager", "folded"):
        assert torch.allclose(maps[name], maps["timm"], rtol=1e-3, atol=1e-3 * float(maps["timm"].abs().max()))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in found["folded"].modules())


@pytest.mark.slow
@pytest.mark.usefixtures("detectron2")
def test_a_rehearsal_writes_a_complete_result(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "STEPS", 1)
    result = BENCHMARK.run(write_to=tmp_path / "speed.json", rounds=1)
    assert load_result("speed", tmp_path) == result
    assert "96 x 128 pixels" in result.method
    assert result.values["full_run"]["images"] == 4_320_000
    assert result.values["full_run"]["days"] > 0


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("detection_speed")
    words = {"height": 432, "width": 576, "rounds": 60, "steps": benchmark.STEPS}
    assert result.method == benchmark.METHOD.format(**words)
    full = result.values["full_run"]
    assert full["days"] == pytest.approx(full["images"] / full["images_per_s"] / 86400, rel=0.01)
    paths, training = benchmark.tables(result).values()
    assert [row[0] for row in paths.rows] == ["`timm`", "`eager`", "`folded`"]
    assert paths.rows[0][2] == "1.00 [1.00, 1.00]"
    assert training.rows == (("4,320,000", f"{full['images_per_s']:.2f}", f"{full['days']:.0f}"),)
