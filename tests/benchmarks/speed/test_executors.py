import pytest

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.speed.executors import NAME, _efficiencies, targets


def test_efficiency_is_the_time_of_one_worker_over_that_of_two():
    rows = _efficiencies({"here": [8.0, 8.0, 9.0], "pool": [4.0, 5.0, 4.5], "ray": [8.0, 8.0, 9.0]})
    assert rows["seconds"] == {"here": 8.0, "pool": 4.5, "ray": 8.0}
    assert rows["pool"] == {"efficiency": 1.0, "low": 0.8, "high": 1.0}
    assert rows["ray"]["efficiency"] == 0.5
    found = targets({"cpu": rows})
    assert found["cpu_pool"]["met"] is True
    assert found["cpu_ray"] == {"value": 0.5, "at_least": pytest.approx(0.9), "met": False}


def test_the_committed_result_judges_itself():
    values = load_result(NAME).values
    cases = {name: row for name, row in values.items() if name.startswith(("cpu", "sleep"))}
    assert len(cases) == 4
    assert targets(cases) == values["targets"]
