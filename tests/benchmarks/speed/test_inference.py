"""The speed benchmark: its targets and tables by hand, and the committed file. test_inference_paths.py rehearses it."""

from fbnetv3.benchmarks.result import Result, load_result
from fbnetv3.benchmarks.speed import inference as benchmark
from fbnetv3.benchmarks.speed.inference import BENCHMARK


def values(ratio=2.5, over_peer=1.0, int8=1.5, imports=1.02, build=0.9):
    best = {"path": "fused", "peer": "timm_openvino", "product": "matmul_torch"}
    interval = {"low": 0.5, "high": 5.0}
    row = {"fused": {"ms": 1.0, "ratio": ratio, **interval}, "eager": {"ms": 2.0, "ratio": 1.0, **interval}}
    row |= {"int8": {"ms": 0.5, "ratio": 9.0, **interval}, "peak_share": 0.5}
    row |= {"matmul_torch": {"ms": 0.1, "ratio": 20.0, **interval}}
    row["best"] = best | {"over_peer": {"ratio": over_peer}, "int8_over_best": {"ratio": int8}}
    start = {"import_over_torch": {"ratio": imports, **interval}, "build_over_timm": {"ratio": build, **interval}}
    accuracy = {"mean": {"fp32": 84.5, "int8": 84.25, "agreement": 99.0}}
    return {"threads_1": {"batch_8": row}, "start": start, "int8_accuracy": accuracy}


def test_targets_are_computed():
    met = benchmark.targets(values())
    assert {name: row.met for name, row in met.items()} == {
        "import_over_torch": True,
        "build_over_timm": True,
        "eager_batch_8": True,
        "best_batch_8": True,
        "best_over_peer_batch_8": True,
        "int8_over_best_batch_8": True,
    }
    assert met["best_batch_8"].as_dict() == {"value": 2.5, "at_least": 2.3, "met": True}
    missed = benchmark.targets(values(ratio=2.29, over_peer=0.969, int8=1.0, imports=1.15, build=1.001))
    assert [name for name, row in missed.items() if row.met] == ["eager_batch_8"]


def test_the_tables_have_every_path_and_what_is_missed():
    result = Result("2026-01-01", "command", "method", {"python": "3"}, values(ratio=2.0))
    tables = {title: table.rows for title, table in BENCHMARK.all_tables(result).items()}
    assert tables["threads 1: times as fast as timm eager"] == (
        ("fused", "2.00 [0.50, 5.00]"),
        ("eager", "1.00 [0.50, 5.00]"),
        ("int8", "9.00 [0.50, 5.00]"),
    )
    assert tables["threads 1: milliseconds"][2] == ("int8", "0.50")
    assert tables["best paths"] == (("batch 8", "fused", "timm_openvino", "0.50"),)
    assert ("top-1 in int8 (%)", "84.25") in tables["start, and accuracy of int8"]
    assert ("`best_batch_8`", "at least 2.3", "2", "missed") in tables["targets"]


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("inference")
    assert result.command == "fbnetv3 benchmark inference"
    assert result.method == benchmark.METHOD
    assert "cpu" in result.versions
    one = result.values["threads_1"]["batch_1"]
    assert benchmark.path_names(one) == ["timm_eager", *benchmark.PATHS]
    assert one["timm_eager"]["ratio"] == 1.0
