from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search.quickstart import NAME, summary


def measured(acc1, seconds):
    return {"test_acc1": acc1, "cpu_seconds": seconds}


def test_summary_pairs_by_seed():
    before = [measured(80.0, 100.0), measured(82.0, 110.0), measured(81.0, 300.0)]
    after = [measured(81.0, 55.0), measured(83.0, 50.0), measured(82.0, 60.0)]
    values = summary({"before": before, "after": after})
    assert values["mean"] == {"before": 81.0, "after": 82.0}
    assert values["difference"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert values["slower"] == 0.5


def test_the_committed_result_follows_from_its_seeds():
    values = load_result(NAME).values
    rows = {
        name: [measured(*row) for row in zip(values["test_acc1"][name], values["cpu_seconds"][name], strict=True)]
        for name in ("before", "after")
    }
    assert len(rows["after"]) == len(rows["before"]) >= 5
    assert summary(rows) == values
