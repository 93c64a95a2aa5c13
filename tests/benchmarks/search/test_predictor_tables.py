"""The tables that the predictor is measured on: invented ones, useless statistics, and trainings of this package."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.predictor_tables import fashion_mnist, invented, nas_bench_macro, useless


def test_invented_tables_are_functions_of_their_draw():
    for geometry in ("mnasnet", "fbnet"):
        one, other = invented(geometry, 7, rich=False, n=300), invented(geometry, 8, rich=True, n=300)
        assert np.array_equal(one.x, other.x)
        assert np.array_equal(one.labels, other.labels[:, :2])
        assert other.labels.shape[1] > 10
        assert not np.array_equal(one.y, other.y)
        assert np.array_equal(one.y, invented(geometry, 7, rich=True, n=300).y)
        assert one.x.min() == 0.0
        assert one.x.max() == 1.0
        assert 1.0 < one.y.std() < 4.5


def test_useless_statistics_are_the_same_numbers_elsewhere():
    table = invented("mnasnet", 7, rich=False, n=2000)
    changed = useless(table)
    assert np.array_equal(np.sort(table.labels, axis=0), np.sort(changed.labels, axis=0))
    assert abs(np.corrcoef(table.labels[:, 0], changed.labels[:, 0])[0, 1]) < 0.1
    assert np.array_equal(table.y, changed.y)


def test_the_table_of_own_trainings():
    table = fashion_mnist()
    assert len(table.x) == len(table.y) == len(table.labels) >= 400
    assert table.y.min() >= 10.0  # chance of ten classes
    assert not table.arch_columns.all()


def test_a_foreign_table_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"012": {"flops": 1}}')
    for name in ("other.json", "absent.json"):
        with pytest.raises(InputError, match="table of NAS-Bench-Macro"):
            nas_bench_macro(tmp_path / name)
