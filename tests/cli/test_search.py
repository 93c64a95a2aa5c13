"""`fbnetv3 search run | resume | extend | verify | export | budgets | confirm | importance` as a user meets them."""

import contextlib
import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from fbnetv3.cli import main, search
from fbnetv3.pages import plots
from fbnetv3.pair_file import load_pair
from fbnetv3.search import sessions
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset, read_config, save_config
from fbnetv3.search.report import front, outcome
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.runs.run import check_same
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.latency import LatencyLimit
from fbnetv3.search.space.reader import load_space
from tests.cli.test_cli import one_line
from tests.search.images import fashion_config, write_noise
from tests.search.scripted import PLAIN, QUICK, config
from tests.tracking.readers import read_tensorboard


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a search that the command made with real trainings, and what it printed."""
    folder, out = tmp_path_factory.mktemp("searched"), io.StringIO()
    save_config(fashion_config(folder, batch=3, baseline=True), folder / "preset.yaml")
    given = ["--preset", str(folder / "preset.yaml"), "--out", str(folder / "run"), "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(plots, "png_of", lambda figure: b"a PNG")
        patch.setattr(sys, "argv", ["fbnetv3", "search", "run", *given])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return folder / "run", out.getvalue()


@pytest.fixture
def copied(searched, tmp_path, monkeypatch):
    """A copy of the search, to be changed. New plots are not drawn."""
    for module in (plots, front):
        monkeypatch.setattr(module, "png_of", lambda figure: b"a PNG")
    shutil.copytree(searched[0], tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    return tmp_path / "run"


def test_a_search_prints_what_every_method_found_and_where(searched):
    folder, out = searched
    for name, method in (("NARS", "nars"), ("random search", "random")):
        path = load_search(folder).pair(method)
        pair, flops = load_pair(path), load_search(folder).results()[method == "random"].flops
        line = next(line for line in out.splitlines() if line.startswith(f"{name}: "))
        assert f"{pair.measured['acc1']:.2f}% on the test images after 2 epochs" in line
        assert f"{flops / 1e6:.3f}M FLOPs" in line
        assert line.endswith(str(path))
    assert f"report: {folder / 'report.html'}" in out
    assert (folder / "report.html").is_file()


def test_a_finished_search_that_is_resumed_prints_the_same(run, searched, copied):
    code, out, _ = run("search", "resume", copied, "--workers", 1)
    assert code == 0
    assert out == searched[1].replace(str(searched[0]), str(copied))


def test_a_pair_without_a_final_training_is_said_to_have_none(run, copied):
    shutil.rmtree(copied / "baseline")
    written = read_config(yaml.safe_load((copied / "config.yaml").read_text()), "here")
    config = written.replace(final_training=False, baseline=False)
    save_config(config, copied / "config.yaml")
    header, *rest = (copied / "ledger.jsonl").read_text().splitlines(keepends=True)
    header = json.dumps(json.loads(header) | {"config": config.fingerprint}) + "\n"
    (copied / "ledger.jsonl").write_text(header + "".join(rest))
    code, out, _ = run("search", "resume", copied, "--workers", 1)
    assert code == 0
    mean, (nars,) = load_pair(copied / "pair.yaml").predicted["mean"], load_search(copied).results()
    assert f"NARS: predicted {mean:.2f}% after {nars.proposal.epochs} epochs, without a final training" in out


def test_a_search_is_verified(run, searched):
    code, out, _ = run("search", "verify", searched[0], "--retrain", 0, "--json")
    assert code == 0
    assert [row["what"] for row in json.loads(out)] == [
        "versions",
        "nars: 8 proposals of the ledger",
        "nars: pair.yaml",
        "nars: accuracy of the pair's weights",
        "random: 8 proposals of the ledger",
        "random: baseline/pair.yaml",
        "random: accuracy of the pair's weights",
    ]
    assert {row["status"] for row in json.loads(out)} == {"same"}


def test_a_search_is_extended_and_verified(run, copied):
    before = load_pair(copied / "pair.yaml")
    code, out, _ = run("search", "extend", copied, "--trainings", 1, "--workers", 1, "--log", "csv")
    assert code == 0
    logged = list(csv.DictReader((copied / "logs" / "csv" / "nars.csv").read_text().splitlines()))
    # Those that were made before the extension are told first.
    assert [float(row["accuracy"]) for row in logged] == [trial.acc1[-1] for trial in load_search(copied).trials()]
    assert "NARS: " in out
    assert f"report: {copied / 'report.html'}" in out
    kept = [copied / "pair.yaml", copied / "earlier" / "1" / "pair.yaml"]
    assert before.measured in [load_pair(path).measured for path in kept if path.is_file()]
    code, out, _ = run("search", "verify", copied, "--retrain", 0, "--json")
    assert code == 0
    assert {row["status"] for row in json.loads(out)} == {"same"}
    assert {"nars: 9 proposals of the ledger", "random: 9 proposals of the ledger"} < {
        r["what"] for r in json.loads(out)
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "rounds is None and trainings is None; give one of them, a whole number from 1"),
        (("--rounds", 1, "--trainings", 1), "rounds is 1 and trainings is 1; give one of them"),
        (("--rounds", 0), "rounds is 0 and trainings is None; give one of them, a whole number from 1"),
    ],
    ids=["none", "both", "no round"],
)
def test_a_search_is_extended_by_one_number(run, copied, given, words):
    before = (copied / "config.yaml").read_bytes()
    one_line(run("search", "extend", copied, *given), words)
    assert (copied / "config.yaml").read_bytes() == before


def test_a_search_that_has_not_ended_is_not_extended(run, copied):
    (copied / "result.json").unlink()
    one_line(run("search", "extend", copied, "--rounds", 1), "has not ended: result.json is missing; continue it with")
    one_line(run("search", "extend", copied / "absent", "--rounds", 1), "config.yaml is missing")


def test_a_search_that_was_changed_gives_exit_code_1(run, copied):
    lines = (copied / "ledger.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"flops": 1})
    (copied / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    code, out, _ = run("search", "verify", copied, "--retrain", 0)
    assert code == 1
    assert "flops is 1, not" in out


@pytest.mark.parametrize(("options", "method"), [((), "nars"), (("--baseline",), "random")], ids=["nars", "random"])
def test_trials_are_exported(run, searched, tmp_path, options, method):
    code, out, _ = run("search", "export", searched[0], "--out", tmp_path / "x.json", "--format", "json", *options)
    assert code == 0
    assert out.strip() == f"8 trials: {tmp_path / 'x.json'}"
    seeds = [row["seed"] for row in json.loads((tmp_path / "x.json").read_text())]
    assert sorted(seeds) == sorted(t.seed for t in load_search(searched[0]).trials(method))


def test_an_export_replaces_nothing_unless_it_is_asked_to(run, searched, tmp_path):
    (tmp_path / "x.csv").write_text("mine")
    call = ("search", "export", searched[0], "--out", tmp_path / "x.csv")
    one_line(run(*call), "x.csv exists already; give --overwrite to replace it, or another path")
    assert (tmp_path / "x.csv").read_text() == "mine"
    assert run(*call, "--overwrite")[0] == 0
    assert (tmp_path / "x.csv").read_text().startswith("arch.")
    one_line(run(*call[:-1], tmp_path), "is a folder; give the path of a file to write")


def test_an_unknown_export_format_suggests_the_nearest(run, searched, tmp_path):
    one_line(run("search", "export", searched[0], "--out", tmp_path / "x", "--format", "jsn"), "did you mean 'json'?")
    assert not (tmp_path / "x").exists()


def test_budgets_are_answered(run, copied):
    code, out, _ = run("search", "budgets", copied, "--max-flops", "250K, 300K", "--max-flops", "400K", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["budget"] for row in rows] == ["flops 250K", "flops 300K", "flops 400K"]
    assert all(row["flops"] <= top for row, top in zip(rows, (250e3, 300e3, 400e3), strict=True))
    for row in rows:
        assert row["test_acc1"] is None
        code, shown, _ = run("info", copied / row["pair"], "--json")
        assert json.loads(shown)["totals"][0]["flops"] == row["flops"]


def test_the_table_of_budgets_names_the_plot_of_the_front(run, copied):
    code, out, _ = run("search", "budgets", copied, "--max-params", "20K")
    assert code == 0
    assert "params 20K" in out
    assert f"Pareto front: {copied / 'budgets' / 'front.png'}, front.json" in out
    assert (copied / "budgets" / "front.png").is_file()


def test_mistakes_with_budgets_are_one_line(run, searched):
    folder = searched[0]
    one_line(run("search", "budgets", folder), "give budgets with --max-flops or with --max-params")
    one_line(run("search", "budgets", folder, "--max-flops", "many"), "--max-flops is 'many'")
    one_line(run("search", "budgets", folder / "absent", "--max-flops", "1M"), "no search in")


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of `run_search`, which searches nothing here."""
    given = {}

    def run_search(config, out, *, executor, progress, resume, callbacks):
        given.update(config=config, out=out, executor=executor, resume=resume)
        return []

    monkeypatch.setattr(sessions, "run_search", run_search)
    monkeypatch.setattr(search, "_print_results", lambda results, folder: None)
    return given


QUICKSTART = load_preset("quickstart")


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ((), {}),
        (("--seed", "3"), {"seed": 3}),
        (("--baseline",), {"baseline": True}),
        (("--preset", "quickstart", "--data", "folder", "--device", "cuda"), {"data": "folder", "device": "cuda"}),
        (("--precision", "bf16"), {"precision": "bf16"}),
        (("--readers", "2", "--processes-per-trial", "4"), {"readers": 2, "processes": 4}),
        (
            ("--max-latency", "2.5", "--latency-table", "t.json"),
            {"latency": {"table": "t.json", "max": 2.5}},
        ),
    ],
    ids=["none", "seed", "baseline", "data", "precision", "processes", "latency"],
)
def test_options_change_the_preset(run, asked, tmp_path, options, changes):
    assert run("search", "run", "--out", tmp_path / "run", *options)[0] == 0
    assert asked["config"] == QUICKSTART.replace(**changes)
    assert asked["out"] == tmp_path / "run"
    assert not asked["resume"]


def test_data_without_a_preset_is_searched_with_one_that_fits_any_images(run, asked, tmp_path):
    assert run("search", "run", "--data", "folder", "--space", "my.yaml", "--out", tmp_path)[0] == 0
    assert asked["config"] == load_preset("images").replace(data="folder", space="my.yaml")


def test_one_command_searches_on_any_folder_and_records_what_it_took_from_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "png_of", lambda figure: b"a PNG")
    small = {"pool": 32, "first": 2, "batch": 1, "rounds": 2, "finalists": 0, "final_stretch": 1, **QUICK, **PLAIN}
    save_config(load_preset("images").replace(**small, epochs=2), tmp_path / "small.yaml")
    data = Path(write_noise(tmp_path / "pictures", 3)) / "train"  # a folder with CLASS/IMAGE
    given = ["--preset", tmp_path / "small.yaml", "--data", data, "--out", tmp_path / "run", "--workers", 1]
    code, out, err = run("search", "run", *given)
    assert code == 0
    assert "NARS: " in out
    assert "for this data, networks and trainings have 3 channels, 3 classes, 20 pixels, 2 epochs" in err
    space = yaml.safe_load((tmp_path / "run" / "inputs" / "space" / "images.yaml").read_text())
    assert (space["in_chans"], space["num_classes"], space["resolution"]) == (3, 3, 20)
    pair = load_pair(tmp_path / "run" / "pair.yaml")
    assert (pair.arch.resolution, pair.provenance["num_classes"]) == (20, 3)
    # The same settings are the same search, and other images are another one.
    check_same(load_preset(str(given[1])).replace(data=str(data)), tmp_path / "run", ExecutorSettings(workers=1))
    given[3] = Path(write_noise(tmp_path / "more", 4)) / "train"
    one_line(
        run("search", "run", *given, "--resume"), "began with other settings: data, the content of space; give those"
    )
    # What was taken is in the folder: nothing asks the data again.
    data.parent.rename(tmp_path / "moved")
    moved = ("--data", tmp_path / "moved" / "train", "--retrain", 0)
    assert run("search", "verify", tmp_path / "run", *moved)[0] == 0


OWN = """
from fbnetv3.search import Outcome

def evaluate(candidate, epochs, seed):
    return Outcome(tuple(90 - 30 * candidate.recipe.mixup - 9 / (e + 1) for e in range(epochs)), "ok", 0.5)

def other(candidate, epochs, seed):
    return evaluate(candidate, epochs, seed)

def number(candidate, epochs, seed):
    return 3.0
"""


def test_a_search_with_ones_own_function_ends_with_the_folder_of_any_search(run, tmp_path, monkeypatch):
    for module in (plots, front):
        monkeypatch.setattr(module, "png_of", lambda figure: b"a PNG")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "own_here.py").write_text(OWN)
    save_config(config(tmp_path, first=4), tmp_path / "small.yaml")
    given = ["search", "run", "--preset", "small.yaml", "--workers", 1]
    own = [*given, "--evaluator", "own_here:evaluate", "--out", "run"]
    code, out, _ = run(*own, "--log", "csv,tensorboard")
    assert code == 0
    logged = list(csv.DictReader(Path("run/logs/csv/nars.csv").read_text().splitlines()))
    trials = load_search("run").trials("nars")
    assert [float(row["accuracy"]) for row in logged] == [trial.acc1[-1] for trial in trials]
    pair = load_pair("run/pair.yaml")
    assert (pair.measured["split"], pair.measured["epochs"]) == ("val", 2)
    assert f"NARS: {pair.measured['acc1']:.2f}% on the val images after 2 epochs" in out
    assert pair.provenance["evaluator"] == load_search("run").config.evaluator == "own_here:evaluate"
    assert "own_here:evaluate" in Path("run/report.html").read_text()
    # Everything that follows a search finds the function by its name.
    checks = {row["what"]: row["status"] for row in json.loads(run("search", "verify", "run", "--json")[1])}
    assert checks.pop("nars: accuracy of the pair") == "not checked"
    assert set(checks.values()) == {"same"}
    assert len(checks) == 4
    assert run("search", "resume", "run", "--workers", 1, "--log", "csv,tensorboard")[1] == out
    assert list(csv.DictReader(Path("run/logs/csv/nars.csv").read_text().splitlines())) == logged
    steps = read_tensorboard(Path("run/logs"), "nars")["accuracy"]
    assert steps == [(i, pytest.approx(trial.acc1[-1])) for i, trial in enumerate(trials, 1)]
    (row,) = json.loads(run("search", "budgets", "run", "--max-flops", "350K", "--train", "--json")[1])
    assert row["val_acc1"] > 50
    assert run("search", "export", "run", "--out", "trials.csv")[0] == 0
    assert load_space("trials.csv").name == "trials"
    # Another function, or one that is none, is refused.
    one_line(
        run(*given, "--evaluator", "own_here:other", "--out", "run", "--resume"), "other settings: evaluator; give"
    )
    one_line(run(*given, "--evaluator", "own_here:absent", "--out", "new"), "own_here:absent cannot be imported")
    code, _, err = run(*given, "--evaluator", "own_here:number", "--out", "odd")
    assert code == 2
    assert "the evaluator answered with 3.0; it must return an Outcome" in err
    assert not Path("new").exists()


def test_a_search_may_be_started_or_continued(run, asked, tmp_path):
    assert run("search", "run", "--out", tmp_path, "--resume")[0] == 0
    assert asked["resume"]
    assert asked["config"] == QUICKSTART


def test_a_latency_is_a_limit_of_the_table(run, asked, tmp_path):
    run("search", "run", "--out", tmp_path, "--max-latency", 2.5, "--latency-table", "t.json")
    assert asked["config"].latency == LatencyLimit("t.json", 2.5)


@pytest.mark.parametrize(
    ("options", "constraints"),
    [
        # The window of the preset is 150,000 to 800,000 FLOPs.
        (("--max-flops", "1.6M"), [Constraint("flops", 1.6e6, 3e5)]),
        (("--flops-convention", "fvcore"), [Constraint("flops", 8e5, 1.5e5, "fvcore")]),
        (("--max-params", "20K"), [Constraint("params", 2e4)]),
        (("--max-flops", "1.6M", "--max-params", "20K"), [Constraint("flops", 1.6e6, 3e5), Constraint("params", 2e4)]),
        (
            ("--max-flops", "1.6M", "--max-params", "20K", "--flops-convention", "fvcore"),
            [Constraint("flops", 1.6e6, 3e5, "fvcore"), Constraint("params", 2e4, 0.0, "fvcore")],
        ),
    ],
    ids=["flops", "convention", "params", "both", "both in a convention"],
)
def test_budgets_replace_the_constraint_of_the_preset(run, asked, tmp_path, options, constraints):
    assert run("search", "run", "--out", tmp_path, *options)[0] == 0
    assert [asked["config"].constraint, *asked["config"].also] == constraints


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ((), ExecutorSettings()),
        (("--workers", "3"), ExecutorSettings(workers=3)),
        (("--trials-per-gpu", "4"), ExecutorSettings(trials_per_gpu=4)),
        (("--trial-timeout", "90.5"), ExecutorSettings(trial_timeout=90.5)),
        (
            ("--executor", "ray", "--ray-address", "local", "--cpus-per-trial", "2", "--gpus-per-trial", "0.5"),
            ExecutorSettings("ray", None, "local", 2.0, 0.5),
        ),
    ],
    ids=["none", "workers", "trials on a GPU", "time limit", "ray"],
)
def test_options_choose_where_trainings_run(run, asked, tmp_path, options, settings):
    assert run("search", "run", "--out", tmp_path, *options)[0] == 0
    assert asked["executor"] == settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "slow"), "unknown preset 'slow'; available: cifar10, imagenet200"),
        (("--max-flops", "lots"), "--max-flops is 'lots'; give a count such as 450M"),
        (("--max-latency", "2"), "--max-latency and --latency-table work only together"),
        (("--max-params", "9K", "--max-flops", "400K"), "params (published convention) from 0 to 9,000"),
        (("--flops-convention", "mine"), "convention is 'mine'"),
        (("--executor", "slurm"), "the executor is 'slurm'; allowed: processes, ray"),
        (("--ray-address", "auto"), "give --executor ray too"),
        (("--trial-timeout", "0"), "the time limit of a trial is 0.0 seconds; give a number above 0"),
        (("--seed", "1180591620717411303424"), "Invalid value for '--seed'"),
        (("--max-flops", ""), "--max-flops is empty"),
        (("--max-params", ""), "--max-params is empty"),
        (("--flops-convention", ""), "--flops-convention is empty"),
        (("--log", "csv,wandbb"), "no library to log with is called 'wandbb'; did you mean 'wandb'?"),
        (("--max-flops", "10K", "--workers", "1"), "give wider constraints"),
    ],
    ids=str,
)
def test_a_wrong_option_is_one_line_and_leaves_no_folder(run, tmp_path, options, words):
    one_line(run("search", "run", "--out", tmp_path / "run", *options), words)
    assert not (tmp_path / "run").exists()


def test_resuming_no_search_is_one_line(run, tmp_path):
    one_line(run("search", "resume", tmp_path / "run"), "no search in")
    assert not (tmp_path / "run").exists()


def test_a_damaged_ledger_is_one_line(run, tmp_path):
    folder = tmp_path / "run"
    save_config(QUICKSTART, folder / "config.yaml")
    header = json.dumps({"ledger": 2, "config": QUICKSTART.fingerprint})
    (folder / "ledger.jsonl").write_text(f"{header}\nnot json\n")
    one_line(run("search", "resume", folder), "line 2 is damaged; restore the file")


def test_an_unwritable_folder_is_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    one_line(run("search", "run", "--out", tmp_path / "file" / "run"), "give a folder that can be written")


def test_a_search_may_start_from_others(run, searched, copied, tmp_path):
    preset = str(searched[0].parent / "preset.yaml")
    given = ["--preset", preset, "--from", copied, "--from", copied, "--out", tmp_path / "new", "--workers", 1]
    code, out, _ = run("search", "run", *given)
    assert code == 0
    assert out.count("started from quickstart: ") == 2
    assert load_search(tmp_path / "new").config.warm_start[1].endswith("inputs/source/2.json")


def test_a_search_may_be_asynchronous(run, searched, copied, tmp_path):
    """`copied` keeps new plots from being drawn."""
    preset = str(searched[0].parent / "preset.yaml")
    given = ["--preset", preset, "--asynchronous", 2, "--out", tmp_path / "new", "--workers", 1]
    code, _, err = run("search", "run", *given)
    assert code == 0
    assert "the number of workers is 1, so proposed trainings wait for a worker; give --workers 2" in err
    assert load_search(tmp_path / "new").config.asynchronous == 2
    checks = json.loads(run("search", "verify", tmp_path / "new", "--json")[1])
    assert {check["status"] for check in checks} == {"same"}
    one_line(run("search", "run", *given[:3], 4, *given[4:]), "stage 2 has 3 trainings after the first batch")


def test_an_answer_is_confirmed(run, copied, monkeypatch):
    monkeypatch.setattr(outcome, "png_of", lambda figure: b"a PNG")
    code, out, _ = run("search", "confirm", copied, "--seeds", "2", "--workers", "1", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["answer"] for row in rows] == ["NARS", "random search", "the same network with the base recipe"]
    assert all(row["interval"][0] <= row["test_acc1"] <= row["interval"][1] and row["trainings"] == 2 for row in rows)
    accuracies = json.loads((copied / "confirmed.json").read_text())["accuracies"]
    assert accuracies["nars"][0] == load_pair(copied / "pair.yaml").measured["acc1"]
    assert rows[1]["nars_is_better_by"] == pytest.approx(
        sum(accuracies["nars"]) / 2 - sum(accuracies["random"]) / 2, abs=0.01
    )
    assert "the mean of 2 trainings with different seeds" in (copied / "report.html").read_text()
    out = run("search", "confirm", copied, "--seeds", "2")[1]  # nothing is trained again
    assert f"Report: {copied / 'report.html'}" in out
    # Whoever resumes the search sees it too.
    assert "the same network with the base recipe" in run("search", "resume", copied, "--workers", "1")[1]


def test_mistakes_with_confirm_are_one_line(run, searched, tmp_path):
    one_line(run("search", "confirm", searched[0], "--seeds", "1"), "greater than or equal to 2")
    one_line(run("search", "confirm", tmp_path), "no search in")


def test_importance_says_what_the_trials_tell(run, copied):
    """So few trials tell nothing about the space, but later ones had predictions."""
    code, out, _ = run("search", "importance", copied, "--json")
    data = json.loads(out)
    assert (code, data["variance"], data["recipes"], data["coordinates"]) == (0, [], [], [])
    assert [row["interval"] for row in data["calibration"]] == [0.5, 0.8, 0.95]
    out = run("search", "importance", copied)[1]
    assert "The trials do not tell: there are too few, or the predictor does not explain them." in out
    assert "Share of the trainings inside their predicted interval" in out
    # Of the first batch alone, nothing was predicted.
    ledger = copied / "ledger.jsonl"
    header, *rows = ledger.read_text().splitlines(keepends=True)
    ledger.write_text(header + "".join(row for row in rows if json.loads(row)["round"] == 1))
    assert "No training has a prediction yet: the first batch is random." in run("search", "importance", copied)[1]
