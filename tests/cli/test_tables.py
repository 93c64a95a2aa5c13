"""`fbnetv3 search table fetch | convert | show` as a user meets them."""

import json

from fbnetv3.search.real_tables.fetch import WHEEL
from tests.cli.test_cli import one_line
from tests.search.real_tables.made_up import make_wheel
from tests.search.tables import write


def test_a_file_that_is_there_is_not_fetched_again(run, tmp_path, monkeypatch):
    make_wheel(tmp_path / WHEEL, monkeypatch)
    code, text, _ = run("search", "table", "fetch", "--out", tmp_path)
    assert (code, text) == (0, f"{tmp_path / WHEEL}\n")


def test_a_table_is_converted_and_shown(run, tmp_path, monkeypatch):
    wheel, out = make_wheel(tmp_path / "a.whl", monkeypatch), tmp_path / "vehicle.npz"
    code, text, _ = run("search", "table", "convert", wheel, "--set", "mlp_vehicle", "--out", out, "--json")
    assert code == 0
    assert json.loads(text)["citation"].startswith("Eggensperger")
    code, text, _ = run("search", "table", "show", out)
    assert code == 0
    assert "Apache-2.0" in text
    assert "width (architecture): [16, 25," in text
    one_line(run("search", "table", "convert", wheel, "--set", "mlp_vehicle", "--out", out), "--overwrite")


def test_any_table_is_shown(run, tmp_path):
    code, text, _ = run("search", "table", "show", write(tmp_path / "mine.csv"), "--json")
    assert code == 0
    assert json.loads(text)["candidates"] == 5


def test_a_changed_file_is_one_line(run, tmp_path):
    (tmp_path / "a.whl").write_bytes(b"x")
    out = tmp_path / "a.npz"
    one_line(run("search", "table", "convert", tmp_path / "a.whl", "--set", "mlp_car", "--out", out), "its sha256 is")
    assert not (tmp_path / "a.npz").exists()
