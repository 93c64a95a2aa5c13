"""The zoo from nothing: what is kept of its account, and the committed file."""

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import regenerate as benchmark
from fbnetv3.benchmarks.search.regenerate import BENCHMARK


def test_the_account_of_the_zoo_is_kept(tmp_path, monkeypatch):
    calls = []

    def make_zoo(plan, out, data, search_data, seed, resources, report):
        calls.append((plan.name, out, data, search_data, seed, resources.at_once))
        networks = [{"model": f"micro_{x}", "flops": 1, "params": 1, "acc1": 80.0, "made": "x"} for x in "ab"]
        return {"hours": {"search": 0.5}, "networks": networks, "teacher": {"test_acc1": 81.0, "epochs": 6}}

    monkeypatch.setattr(benchmark, "make_zoo", make_zoo)
    values = benchmark.measure(tmp_path).values
    assert calls == [("micro", tmp_path, None, None, 0, 2)]
    assert values["teacher"] == {"acc1": 81.0, "network": "micro_b"}
    assert set(values) == {"hours", "networks", "teacher"}
    assert BENCHMARK.written(BENCHMARK.settings({"out": tmp_path})) == "fbnetv3 benchmark regenerate --out DIR"


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("regenerate")
    assert result.command == "fbnetv3 benchmark regenerate --out DIR"
    assert result.method == benchmark.METHOD.format(test="2,000")  # before the package had more
    networks, hours = benchmark.tables(result).values()
    assert len(networks.rows) == 5
    assert networks.rows[0][:3] == ("`micro_a`", "188K", "9.6K")
    assert [row[0] for row in hours.rows] == list(result.values["hours"])
