"""Times of a kit: what is refused, the calibration by hand, and a table from a made-up device."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.latency_kit import kit as kits
from fbnetv3.search.latency_kit.times import calibrate, import_table, read_times
from fbnetv3.search.space.latency import load_table, save_table
from tests.search.latency_kit.kits import every_row, small_kit, small_space, write_times


@pytest.fixture
def space(tmp_path):
    return small_space(tmp_path)[0]


@pytest.fixture
def kit(space, tmp_path, monkeypatch):
    """A kit in `tmp_path`, of empty files."""
    monkeypatch.setattr(kits, "static_onnx", lambda module, example: b"")
    return small_kit(space, tmp_path)


def test_the_calibration_by_hand():
    found = calibrate([1.0, 2.0, 4.0], [2.0, 5.0, 8.0])  # ratios 2, 2.5 and 2
    assert found.factor == 2.0
    assert found.networks == 3
    # With the factor of the others: 2.25 for a ratio of 2, twice, and 2 for one of 2.5.
    assert found.error == pytest.approx((0.125 + 0.2 + 0.125) / 3)
    assert found.rank_correlation == 1.0


def test_one_disturbed_network_does_not_change_the_factor():
    assert calibrate([1.0, 2.0, 4.0, 5.0, 6.0], [0.5, 1.0, 20.0, 2.5, 3.0]).factor == 0.5


def test_networks_in_reverse_order():
    assert calibrate([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).rank_correlation == -1.0


def test_equal_networks_have_no_rank_correlation():
    found = calibrate([2.0, 2.0], [3.0, 3.0])
    assert (found.factor, found.error, found.rank_correlation) == (1.5, 0.0, None)


def test_a_table_is_in_milliseconds_of_the_device(space, kit, tmp_path):
    """Every part takes 2 ms and every network 3 ms more than half of its sum: the factor is the median of the ratios."""
    sums = {file: 2.0 * sum(counts.values()) for file, counts in kit.networks.items()}
    times = {file: ms / 2 + 3 for file, ms in sums.items()}
    write_times(tmp_path / "times.csv", kit, lambda file: times.get(file, 2.0), ["# device: toy: 2"])
    table = import_table(tmp_path)
    factor = np.median([times[file] / sums[file] for file in sums])
    assert table.machine == {"device": "toy: 2", "batch": "1"}
    assert table.calibration.factor == pytest.approx(factor)
    # A stem, 1 or 2 blocks, head and classifier.
    assert sorted(set(table.latency(space, every_row(space)))) == pytest.approx([8 * factor, 10 * factor])
    save_table(table, tmp_path / "table.json")
    assert load_table(tmp_path / "table.json") == table


def test_times_may_be_elsewhere_and_have_other_columns(kit, tmp_path):
    path = tmp_path / "phone.csv"
    names = (*kit.parts, *kit.networks)
    path.write_text(f"# kit: {kit.id}\nnote,ms,file\n" + "".join(f"x,1.5,{name}\n" for name in reversed(names)))
    assert read_times(path, kit).ms == dict.fromkeys(names, 1.5)
    assert set(import_table(tmp_path, path).ms.values()) == {1.5}


@pytest.mark.parametrize("text", ["-1", "0", "nan", "inf", "", "fast", "1e-9"])
def test_an_impossible_time_is_refused(kit, tmp_path, text):
    path = tmp_path / "times.csv"
    write_times(path, kit, lambda file: text if file == "parts/00003.onnx" else 1)
    with pytest.raises(InputError, match=rf"times\.csv: ms of parts/00003\.onnx is '{text}'; allowed: 1e-06 to 1e\+09"):
        read_times(path, kit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,ms\nparts/9.onnx,1\n", r"has 'parts/9\.onnx', which is no file of the kit; did you mean"),
        ("file,ms\nparts/00001.onnx,1\nparts/00001.onnx,2\n", r"has parts/00001\.onnx twice"),
        (
            "file,ms\nparts/00000.onnx,1\n",
            r"lacks 13 of 14 files, such as parts/00001\.onnx \(ir cin 8 .*\); continue meas",
        ),
        ("file,seconds\n", r"has the columns \['file', 'seconds'\]; needed: file, ms"),
        ("", r"has the columns None; needed: file, ms"),
        ("# kit: 0123\nfile,ms\n", "has the times of another kit; give the times of this one"),
    ],
    ids=["unknown file", "twice", "missing", "columns", "empty", "another kit"],
)
def test_a_wrong_file_of_times_is_refused(kit, tmp_path, text, words):
    (tmp_path / "times.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        import_table(tmp_path)


def test_a_kit_that_was_not_measured_is_refused(kit, tmp_path):
    with pytest.raises(InputError, match=r"cannot read the table of times .*times\.csv"):
        import_table(tmp_path)
