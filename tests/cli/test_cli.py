"""The command as a user meets it: what it prints, what it writes, and one clear line for every mistake."""

import json
import os
import subprocess
import sys

import pytest

import fbnetv3
from fbnetv3.training.data.packaged import load_images
from tests.places import ROOT


def one_line(result, words):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("fbnetv3: ")
    assert words in err, err


def test_ctrl_c_is_no_traceback(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fbnetv3.hub.registry.read_registry", interrupted)
    code, out, err = run("models")
    assert (code, out, err.strip()) == (130, "", "")


def test_train_then_predict(run, pair, picture, tmp_path):
    code, out, err = run("train", "--pair", pair, "--out", tmp_path / "run", "--json")
    row = json.loads(out)[0]
    assert code == 0
    assert "epoch 1/1" in err
    assert 0 <= row["test_acc1"] <= 100
    assert (tmp_path / "run" / "metrics.csv").exists()
    _, out, _ = run(
        "predict", picture, "--pair", pair, "--weights", tmp_path / "run" / "weights.pt", "--json", "--top", "10"
    )
    rows = json.loads(out)
    assert {row["class"] for row in rows} == set(load_images("fashion_mnist").classes)
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-3)
    one_line(run("train", "--pair", pair, "--out", tmp_path / "run"), "already holds a training; resume it")
    code, again, _ = run("train", "--pair", pair, "--out", tmp_path / "run", "--resume", "--json")
    assert json.loads(again)[0] == row


def test_train_needs_nothing_but_the_pair(run, pair):
    code, _, _ = run("train", "--pair", pair)
    assert code == 0
    assert (pair.parent / "retrained" / "weights.pt").exists()


def test_train_names_what_is_wrong_with_a_file(run, pair, weights, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    one_line(run("train", "--pair", weights, "--out", tmp_path / "x"), "is no pair file, or is damaged")
    one_line(run("train", "--pair", tmp_path / "absent.yaml", "--out", tmp_path / "x"), "cannot read the pair file")
    one_line(run("train", "--pair", pair, "--out", text), "give a folder that can be written")
    one_line(run("train", "--pair", pair, "--out", tmp_path / "x", "--data", "imagenet"), "unknown data set 'imagenet'")
    assert not (tmp_path / "x").exists()


def test_version(run):
    assert run("--version")[1].strip() == fbnetv3.__version__


def test_recipe_and_reproduce(run):
    _, out, _ = run("recipe", "list")
    assert "fashion_mnist/micro" in out.split()
    _, out, _ = run("recipe", "show", "fashion_mnist/micro", "--json")
    assert {row["provenance"] for row in json.loads(out)["values"]} == {"choice"}
    code, out, _ = run("reproduce", "table4")
    assert code == 0
    assert "measured here" in out


def test_unknown_names_suggest_the_nearest(run):
    one_line(run("info", "fbnetv3_z"), "unknown model 'fbnetv3_z'; did you mean 'fbnetv3_g'")
    one_line(run("recipe", "show", "nothing"), "unknown recipe 'nothing'; `fbnetv3 recipe list` lists all")
    one_line(run("reproduce", "table99"), "table99")


def test_errors_that_typer_finds_look_like_all_others(run):
    one_line(run("modles"), "No such command 'modles'. Did you mean 'models'? `fbnetv3 --help`")
    one_line(run("search", "run"), "Missing option '--out'. `fbnetv3 search run --help` shows what it takes")
    one_line(run("models", "--jsno"), "--json")
    one_line(run("predict", "x.png", "--top", "none"), "--top")


def test_a_command_without_arguments_shows_its_help(run):
    code, out, err = run("search")
    assert code == 2
    assert "audit" in out
    assert err == ""


def test_the_module_is_the_command():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fbnetv3", "models", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert len(json.loads(done.stdout)) == 10


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            ["search", "run", "--out", "new", "--max-flops", ""],
            "--max-flops is empty; give a value, or leave the option out",
        ),
        (["search", "run", "--out", "new", "--max-flops="], "--max-flops is empty"),
        (["search", "run", "--out", " "], "--out is empty"),
        (["train", "--pair", "", "--out", "new"], "--pair is empty"),
        (["search", "compare", "--table", "t.csv", "--out", "new", "--trainings", ""], "--trainings is empty"),
        (["weights", "publish", "x.pt", "--name", "", "--licence", "MIT", "--zoo", "new"], "--name is empty"),
        (["search", "resume", ""], "an argument is empty; give a value"),
        (["search", "verify", "new", "\t"], "an argument is empty; give a value"),
    ],
    ids=str,
)
def test_empty_texts_are_refused(run, tmp_path, monkeypatch, words, named):
    """A script gives them where a variable is not set. `--max-flops ''` started the quickstart."""
    monkeypatch.chdir(tmp_path)
    one_line(run(*words), named)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "-1", "0", "abc", "1e400", "-450M", "1.5.2K", "K", "nanM", "infG"]
)
@pytest.mark.parametrize("option", ["--max-flops", "--max-params"])
def test_a_budget_is_a_number_above_zero(run, tmp_path, monkeypatch, option, value):
    monkeypatch.chdir(tmp_path)
    one_line(run("search", "run", "--out", "new", option, value), f"{option} is '{value}'; give a count such as 450M")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize("option", ["--max-latency", "--gpus-per-trial", "--cpus-per-trial"])
def test_a_number_of_an_option_is_finite(run, tmp_path, monkeypatch, option, value):
    monkeypatch.chdir(tmp_path)
    one_line(run("search", "run", "--out", "new", option, value), f"Invalid value for '{option}'")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["nan", "inf", "-0.5", "1.5"])
def test_a_threshold_is_a_probability(run, value):
    one_line(run("detect", "x.jpg", "--weights", "x.pth", "--threshold", value), "Invalid value for '--threshold'")


@pytest.mark.parametrize("option", ["--seed", "--readers", "--processes-per-trial", "--workers"])
@pytest.mark.parametrize("value", ["nan", "1.5", "-1", "x", "1e3"])
def test_a_whole_number_of_an_option_is_one(run, tmp_path, monkeypatch, option, value):
    monkeypatch.chdir(tmp_path)
    one_line(run("search", "run", "--out", "new", option, value), f"Invalid value for '{option}'")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [",", ", ,"])
def test_budgets_without_a_number_are_refused(run, words):
    one_line(
        run("search", "budgets", "nothing", "--max-flops", words), "--max-flops has no budget; give counts such as 450M"
    )


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--trainings", "nan", "--trainings is 'nan'; give whole numbers"),
        ("--trainings", "40 inf", "--trainings is '40 inf'; give whole numbers"),
        ("--trainings", "1.5", "--trainings is '1.5'; give whole numbers"),
        ("--trainings", "-40", "-40 trainings are too few"),
        ("--max-flops", "all nan", "--max-flops is 'nan'; give a count"),
    ],
)
def test_a_comparison_takes_numbers_only(run, tmp_path, option, value, named):
    one_line(
        run("search", "compare", "--preset", "quickstart", "--invented", "--out", tmp_path / "new", option, value),
        named,
    )
    assert not list(tmp_path.iterdir())
