"""Cases run the most valuable first, and every case has times, errors and floors of all its networks."""

import pytest
import torch

from fbnetv3.benchmarks.gpu import inference as benchmark
from fbnetv3.benchmarks.gpu.floors import Rates
from fbnetv3.benchmarks.gpu.inference import BENCHMARK, Case, planned, run_case
from fbnetv3.benchmarks.result import Result, load_result

RATES = Rates(1e9, {"fp32": 1e9, "tf32": 2e9, "bf16": 4e9})


def test_the_most_valuable_cases_are_the_first():
    cases = planned((256, 1))
    assert cases[0] == Case("fbnetv3_a", "bf16", "graph", 256)
    assert cases[1] == Case("fbnetv3_a", "bf16", "graph", 1)
    assert len({case.name for case in cases}) == len(cases)
    first_compiled = next(i for i, case in enumerate(cases) if case.path.startswith("compiled"))
    assert {case.network for case in cases[:first_compiled]} == {f"fbnetv3_{letter}" for letter in "abcdefg"}


@pytest.fixture(scope="module")
def case_values():
    case = Case("fbnetv3_d", "fp32", "channels_last", 2)
    return run_case(case, 32, torch.device("cpu"), lambda: RATES, 0.0, "eager")


def test_the_values_of_a_case(case_values):
    assert list(case_values["sides"]) == ["ours", "ours_folded", "timm"]
    for side in case_values["sides"].values():
        assert side["ms"]["low"] <= side["ms"]["median"] <= side["ms"]["high"]
        assert side["images_per_second"] == pytest.approx(2e3 / side["ms"]["median"], rel=1e-2)
        assert side["error"] < 1e-3
        floor = max(2e3 * side["macs"] / 1e9, 4e3 * side["least"] / 1e9)
        assert side["floor_ms"] == pytest.approx(floor, rel=1e-3)
        assert side["share"] == pytest.approx(floor / side["ms"]["median"], rel=1e-2)
        assert side["least"] < side["numbers"]
    assert case_values["best"] in ("ours", "ours_folded")
    ratios, median = case_values["ratios"], {name: side["ms"]["median"] for name, side in case_values["sides"].items()}
    # Both are there: timm's batch norms are not folded, so that only `ours` is compared in equal conditions.
    assert {name: set(found) for name, found in ratios.items()} == {"ours": {"timm"}, "ours_folded": {"timm"}}
    for name, found in ratios.items():
        assert found["timm"]["ratio"] == pytest.approx(median["timm"] / median[name], rel=1e-2)


@pytest.mark.slow
def test_the_compiler_gets_no_folded_network():
    case = Case("fbnetv3_a", "fp32", "compiled", 1)
    values = run_case(case, 64, torch.device("cpu"), lambda: RATES, 0.0, "eager")
    assert list(values["sides"]) == ["ours", "tf_efficientnet_b0"]


def test_tables(case_values):
    values = {
        "cases": {
            "rates": {"copy": 4e12, "products": {"fp32": 6e13}},
            "first": case_values,
            "second": case_values | {"batch": 1},
        },
        "failed": {},
        "not_reached": ["third"],
    }
    tables = BENCHMARK.all_tables(Result("2026-01-01", "c", "m", {"card": "some"}, values))
    throughput, latency, rates, *_ = tables
    assert throughput == "batch 2: images per second"
    assert latency == "batch 1: latency in ms: median [10%, 90%]"
    assert tables[rates].rows == (("copy, read and written", "4 TB/s"), ("product in fp32", "60 TFLOP/s"))
    row = dict(zip(tables[throughput].columns, tables[throughput].rows[0], strict=True))
    assert row[throughput] == "`fbnetv3_d`"
    assert row["path"] == "fp32 channels_last"
    assert row["EfficientNet"] == "-"
    assert row["ours, times timm"].startswith(f"{case_values['ratios']['ours']['timm']['ratio']:.2f} [")
    assert row["folded, times timm"].startswith(f"{case_values['ratios']['ours_folded']['timm']['ratio']:.2f} [")
    assert tables["not reached in the time"].rows == (("`third`",),)


def test_without_time_the_card_alone_is_measured(tmp_path):
    result = BENCHMARK.run(write_to=tmp_path / "a.json", quick=True, seconds=0, device="cpu")
    assert load_result("a", tmp_path) == result
    assert list(result.values["cases"]) == [benchmark.RATES]
    assert result.values["not_reached"][0] == "fbnetv3_a bf16 graph 1"
    assert "{" not in result.method
