"""`fbnetv3 search audit | latency-table | latency-kit | latency-import | init` as a user meets them."""

import json

import numpy as np

from fbnetv3.search.latency_kit import kit as kit_files
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.runs import draft
from fbnetv3.search.space import measure_latency as timing
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import distinct_parts, load_table
from fbnetv3.search.space.reader import load_space
from tests.cli.test_cli import one_line
from tests.search.images import write_noise

MICRO = load_space("micro")


def test_an_audit_shows_sizes_and_what_is_outside(run):
    code, text, _ = run("search", "audit", "table2")
    assert code == 0
    assert "table2: 1.23e+18 architectures, 1.76e+17 without the choice of resolution (7)" in text
    assert "260 times fewer" in text
    assert "fbnetv3_b" in text
    line = next(line for line in text.splitlines() if "fbnetv3_d" in line and "row6.c" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["fbnetv3_d", "row6.c", "240", "(180, 224, 4)", "-"]
    line = next(line for line in text.splitlines() if "fbnetv3_c" in line and "row3.c" in line)
    assert "84 is built as this" in line


def test_an_audit_can_be_json(run):
    code, text, _ = run("search", "audit", "table2", "--json")
    data = json.loads(text)
    assert code == 0
    assert data["space"] == "table2"
    assert data["architectures"] > 1e17


def test_the_audit_of_the_released_space_says_which_networks_it_contains(run):
    code, text, _ = run("search", "audit", "released", "--json")
    data = json.loads(text)
    assert code == 0
    assert [network["contained"] for network in data["networks"]] == [True] * 5 + [False] * 2
    assert data["recipes"] == 9_452_520


def test_an_unknown_space_is_refused_with_the_names(run):
    one_line(run("search", "audit", "mirco"), "did you mean 'micro'?")
    names = "unknown search space 'nano'; available: cifar, images, micro, micro_recipe, recipe_only, released, table2"
    one_line(run("search", "audit", "nano"), names)


def test_latency_table_and_a_search_within_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 1)
    file, space = tmp_path / "latency.json", MICRO
    cpu = ("--device", "cpu")
    code, out, err = run("search", "latency-table", "micro", "--out", file, "--networks", "2", "--seed", "3", *cpu)
    rows = random_rows(space, 2, np.random.default_rng(3))
    assert code == 0
    assert "measuring the blocks of space micro" in err
    assert sorted(load_table(file).ms) == distinct_parts(space, rows)
    assert f"{len(load_table(file).ms)} blocks" in out
    other = run("search", "latency-table", "micro", "--out", file, "--batch", "2", *cpu)
    one_line(other, "this measurement of micro on")
    other = run("search", "latency-table", "micro", "--out", file, "--precision", "bf16", *cpu)
    one_line(other, "precision is 'bf16'; allowed on cpu: fp32")
    new = ["--out", tmp_path / "run", "--max-latency", "1", "--latency-table"]
    one_line(run("search", "run", *new, file), "measure it with `fbnetv3 search latency-table`")
    one_line(run("search", "run", *new, tmp_path / "absent.json"), "cannot read the latency table")


def test_a_latency_kit_and_the_import_of_its_times(run, tmp_path, monkeypatch):
    monkeypatch.setattr(kit_files, "static_onnx", lambda module, example: bytes(1000))
    folder, file = tmp_path / "kit", tmp_path / "latency.json"
    code, out, err = run("search", "latency-kit", "micro", "--out", folder, "--networks", "2", "--whole", "4")
    kit = kit_files.load_kit(folder)
    assert code == 0
    assert "exporting the blocks of space micro" in err
    assert f"{len(kit.parts)} blocks and 4 networks, {(len(kit.parts) + 4) / 1000:.1f} MB" in out
    assert {*kit.parts.values()} >= {*distinct_parts(MICRO, random_rows(MICRO, 2, np.random.default_rng(0)))}
    one_line(run("search", "latency-import", folder, "--out", file), "cannot read the table of times")
    # Every block takes 2 ms, and a network a quarter more than its blocks.
    ms = {name: 2.5 * sum(counts.values()) for name, counts in kit.networks.items()} | dict.fromkeys(kit.parts, 2.0)
    times = tmp_path / "phone.csv"
    times.write_text("# device: phone\nfile,ms\n" + "".join(f"{name},{t}\n" for name, t in ms.items()))
    code, out, _ = run("search", "latency-import", folder, "--times", times, "--out", file)
    assert code == 0
    assert "4 whole networks take 1.250 times the sum of their blocks; mean error after this calibration 0.0%" in out
    assert load_table(file).machine == {"device": "phone", "batch": "1"}
    one_line(run("search", "latency-import", folder, "--times", times, "--out", file), "give --overwrite")
    one_line(run("search", "latency-kit", "micro", "--out", folder), "kit has another kit; give another folder")


def test_a_preset_for_ones_images_is_written_once(run, tmp_path, monkeypatch):
    monkeypatch.setattr(draft, "measure_epoch", lambda *_: 0.1)
    given = ["search", "init", "--data", write_noise(tmp_path / "data", 3), "--device", "cpu"]
    code, out, _ = run(*given, "--out", tmp_path / "my.yaml")
    assert code == 0
    config = load_preset(str(tmp_path / "my.yaml"))
    assert f"36 training images, 3 classes, 20 pixels: {config.trainings} trainings of {config.epochs} epochs" in out
    one_line(run(*given, "--out", tmp_path / "my.yaml"), "my.yaml exists already; give --overwrite")
    (tmp_path / "my.yaml").unlink()
    one_line(run(*given, "--out", tmp_path / "my.yaml"), "my_space.yaml exists already; give --overwrite")
    one_line(run(*given, "--out", tmp_path / "my.txt"), "a preset is a .yaml file")
    one_line(run("search", "init", "--data", "absent", "--out", tmp_path / "new.yaml"), "unknown data set 'absent'")
