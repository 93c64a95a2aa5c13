"""The report says what was measured, and no more, in one page that needs nothing else."""

import dataclasses
import io
import json
import re

import pytest
import yaml
from PIL import Image

from fbnetv3.errors import InputError
from fbnetv3.pair_file import save_pair
from fbnetv3.recipes import load_recipe
from fbnetv3.search.nars.proposal import Finalist
from fbnetv3.search.report.page import write_report
from fbnetv3.search.report.trials_page import script, script_hash
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.space.reader import SPACES, load_space
from tests.search.made_up import (
    diverged,
    failed,
    make_config,
    make_result,
    make_trials,
    read,
    repeats,
    report,
    write_search,
    write_trials,
)

PLOTS = {
    "accuracy_by_round",
    "pareto",
    "convergence",
    "proxy",
    "predicted_vs_measured",
    "early_stopping",
    "evolution",
    "final_training",
}
ARCH = ("stage", "block", "k", "e", "c", "n", "s", "se")


@pytest.fixture(scope="module")
def both(space, tmp_path_factory):
    """Folder, source and page of a report with a baseline and a diverged trial; its plots are drawn."""
    config = make_config()
    trials = make_trials(config, space, 3)
    trials[7] = diverged(trials[7])
    results = [
        make_result(config, space, trials),
        make_result(config, space, make_trials(config, space, 3), "random", 80.0),
    ]
    folder = tmp_path_factory.mktemp("report")
    return folder, *report(folder, config, results)


def test_the_outcome_is_told_in_plain_words(both, space):
    page = both[2]
    trial = make_trials(make_config(), space, 3)[-1]
    assert f"{space.arch_size:,} architectures" in page.words
    assert f"{space.recipe_size:,} training recipes" in page.words
    assert "150,000 to 800,000 FLOPs (one multiply-add = 1)" in page.words
    assert "trained 15 candidates (5 for 3 epochs, 10 for 2 epochs)" in page.words
    assert f"{trial.flops:,} FLOPs and {trial.params:,} parameters" in page.words
    assert "classifies 81.25% of the 4,000 test images correctly" in page.words
    assert "subset of 13,000 images (5,000 for training, 4,000 for validation, 4,000 for testing)" in page.words
    assert "$" not in page.words  # of a template


def test_the_baseline_is_compared_with_the_noise_of_one_run(both):
    words = both[2].words
    assert "80.00% of the test images correctly, which is 1.25 points below NARS" in words
    assert "one run of each" in words
    assert "standard error of about 0.6 points" in words  # 100 * sqrt(0.8 * 0.2 / 4000) = 0.632


def test_all_pairs_are_listed_with_what_was_predicted_and_measured(both):
    nars, random = both[2].after("pair", "FLOPs", "parameters", "predicted", "measured")[:2]
    assert nars == ["NARS", nars[1], nars[2], "66.6 ± 0.9%", "81.25% (80.0 to 82.4)"]
    assert random == ["random search", nars[1], nars[2], "66.6 ± 0.9%", "80.00% (78.7 to 81.2)"]


def test_the_page_says_how_to_use_the_pair(both):
    words = both[2].words
    assert "fbnetv3 train --pair pair.yaml --out retrained" in words
    assert "fbnetv3 predict IMAGE --pair pair.yaml --weights weights.pt" in words


def test_the_architecture_is_shown_row_by_row(both, space):
    trial, page = make_trials(make_config(), space, 3)[-1], both[2]
    arch = space.arch(trial.candidate, "any")
    table = page.after(*ARCH)[: len(arch.rows) + 2]
    assert [row[1] for row in table] == ["conv", *["ir"] * len(arch.rows), "pool"]
    assert [row[2:7] for row in table[1:-1]] == [[str(v) for v in (b.k, b.e, b.c, b.n, b.s)] for b in arch.rows]


def test_every_recipe_field_says_where_it_comes_from(both, space):
    _, source, page = both
    config = make_config()
    recipe = space.recipe(make_trials(config, space, 3)[-1].candidate, load_recipe(config.recipe))
    assert page.row("dropout") == ["dropout", f"{recipe.dropout:.4g}", "searched: 0 to 0.6"]
    assert page.row("batch_size")[2] == "base recipe"
    assert page.row("epochs")[1:] == ["6", "base recipe, stretched 2 times"]
    assert source.count('<tr class="marked">') == 7  # the searched fields


def test_provenance_is_listed(both):
    page = both[2]
    assert page.row("training seed") == ["training seed", "4242"]
    assert page.row("torch") == ["torch", "9.8.7"]


def test_rounds_are_summed_up_after_the_same_number_of_epochs(both):
    first, second, third, random = both[2].after("round")[:4]
    assert first == ["1", "5", "3", "0", "0", "65.0%", "63.0%", "-", "-", "-"]  # after 2 epochs, not after 3
    # Without the diverged third trial: ranks 1 2 3 4 and 2 1 3 4, so 1 - 6 * 2 / (4 * 15) = 0.8; differences 1 1 0 1.
    assert second == ["2", "5", "2", "1", "0", "65.0%", "62.0%", "62.0%", "0.80", "0.8"]
    assert third == ["3", "5", "2", "0", "0", "65.0%", "63.0%", "62.0%", "0.80", "1.0"]
    assert random[:4] == ["random search", "15", "2, 3", "0"]


def test_the_page_needs_nothing_else(both):
    _, source, page = both
    assert "http://" not in source
    assert "https://" not in source
    assert not {"link", "iframe", "object"} & set(page.tags)
    # One script, which the page allows by its hash and no other.
    assert source.count("<script") == source.count("</script") == 1
    assert page.script == script()
    assert f"script-src '{script_hash()}'" in source
    assert not {"fetch(", "XMLHttp", "import("} & set(page.script.split())
    assert "@import" not in source
    assert "url(" not in source
    assert len(page.links) == len(PLOTS)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)


def test_plots_are_files_too(both):
    folder = both[0]
    files = {"config.yaml", "ledger.jsonl", "pair.yaml", "baseline", "result.json", "diagnostics.json"}
    assert {path.name for path in folder.iterdir()} == files | {"report.html", "plots"}  # no temporary file
    assert {path.name for path in (folder / "plots").iterdir()} == {f"{name}.png" for name in PLOTS}
    for path in (folder / "plots").iterdir():
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            assert image.width > 600
            assert len(image.convert("RGB").getcolors(1 << 20)) > 10  # something is drawn


def test_the_same_search_is_reported_to_the_same_bytes(both, tmp_path):
    """A finished search that is resumed is reported again."""
    folder, source, _ = both
    search = load_search(folder)
    assert report(tmp_path, search.config, search.results())[0] == source
    for path in (folder / "plots").iterdir():
        assert (tmp_path / "plots" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("optimizer", "choices"), [(0, "0.0003 to 0.03"), (1, "0.006 to 0.6")])
def test_the_rate_of_sgd_is_shown_with_the_range_it_was_searched_in(space, tmp_path, drawn, optimizer, choices):
    config = make_config()
    trials = make_trials(config, space, 1)
    trials[-1].candidate[[c.name for c in space.coordinates].index("optimizer")] = optimizer
    page = report(tmp_path, config, [make_result(config, space, trials)])[1]
    assert page.row("lr")[2] == f"searched: {choices}"


def test_finalists_are_listed_with_the_chosen_one_marked(space, tmp_path, drawn):
    config = make_config(finalists=2)
    result = make_result(config, space, make_trials(config, space, 4)[:17])
    finalists = (
        Finalist((0,) * len(space.sizes), (70.0, 1.5), 66.0, 71.25),
        Finalist(result.proposal.candidate, (69.0, 2.0), 68.0, 72.5),
    )
    result = dataclasses.replace(result, proposal=dataclasses.replace(result.proposal, finalists=finalists))
    text, page = report(tmp_path, config, [result])
    assert page.after("finalist", "predicted", "measured, same epochs", "off by", "measured, all epochs")[:2] == [
        ["1", "70.0 ± 1.5%", "66.0%", "-2.7", "71.2%"],
        ["2", "69.0 ± 2.0%", "68.0%", "-0.5", "72.5%"],
    ]
    assert '<tr class="marked"><td>2</td><td>69.0 ± 2.0%</td>' in text
    assert [row[0] for row in page.after("round")[:4]] == ["1", "2", "3", "finalists"]


def test_without_a_baseline_nothing_is_compared(space, tmp_path, drawn):
    config = make_config()
    page = report(tmp_path, config, [make_result(config, space, make_trials(config, space, 3))])[1]
    assert "81.25%" in page.text
    assert "random search" not in page.text
    assert "one run of each" not in page.text
    assert "All returned pairs" not in page.words  # there is one only


def test_one_round_has_no_predictions(space, tmp_path, drawn):
    config = make_config(rounds=1)
    page = report(tmp_path, config, [make_result(config, space, make_trials(config, space, 1))])[1]
    assert "There was only one round" in page.text
    assert page.after("round")[0][-3:] == ["-", "-", "-"]
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == PLOTS - {"predicted_vs_measured"}


def test_the_pair_is_reported_although_all_trials_diverged(space, tmp_path, drawn):
    config = make_config()
    result = make_result(config, space, [diverged(t) for t in make_trials(config, space, 3)])
    assert "81.25%" in report(tmp_path, config, [result])[1].text


@pytest.mark.parametrize(("acc1", "words"), [(83.0, "1.75 points above NARS"), (81.25, "the same as NARS")])
def test_a_better_baseline_is_said_to_be_better(space, tmp_path, drawn, acc1, words):
    config, trials = make_config(), make_trials(make_config(), space, 1)
    results = [make_result(config, space, trials), make_result(config, space, trials, "random", acc1)]
    assert words in report(tmp_path, config, results)[1].words


def test_a_constraint_on_parameters_is_named(space, tmp_path, drawn):
    config = make_config(constraint={"metric": "params", "max": 30000.0})
    page = report(tmp_path, config, [make_result(config, space, make_trials(config, space, 2))])[1]
    assert "with at most 30,000 parameters" in page.words
    assert "Accuracy against parameters" in page.text


def test_text_is_escaped(space, tmp_path, drawn):
    evil = "<script>alert('x')</script> & $name"
    micro = yaml.safe_load((SPACES / "micro.yaml").read_text())
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(micro | {"name": evil}, sort_keys=False))
    assert load_space(str(tmp_path / "evil.yaml")).name == evil
    config = make_config(name=evil, about=evil, space=str(tmp_path / "evil.yaml"))
    result = make_result(config, space, make_trials(config, space, 1))
    result.pair.provenance["note"] = evil
    page = report(tmp_path / "run", config, [result])[1]
    assert page.tags.count("script") == 1
    assert page.script == script()
    assert page.text.count(evil) >= 5
    assert page.row("note") == ["note", evil]


def test_a_failed_write_leaves_the_old_page(space, tmp_path, drawn, monkeypatch):
    config = make_config()
    report(tmp_path, config, [make_result(config, space, make_trials(config, space, 1))])
    before = (tmp_path / "report.html").read_bytes()
    write_search(tmp_path, config, [make_result(config, space, make_trials(config, space, 1), acc1=12.34)])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fbnetv3.files.os.fsync", full)
    with pytest.raises(InputError, match=re.escape("No space left")):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.rglob(".*"))


def test_repeats_are_counted_as_a_round_of_their_own(space, tmp_path, drawn):
    config = make_config(repeats=4)
    trials = make_trials(config, space, 3)
    result = make_result(config, space, [*repeats(trials, 88.0, 87.0, 89.0, 90.0), *trials])
    page = report(tmp_path, config, [result])[1]
    assert "trained 19 candidates (9 for 3 epochs, 10 for 2 epochs)" in page.words
    assert "Repeats are second trainings of candidates of round 1 with another seed" in page.words
    assert [row[0] for row in page.after("round")[:4]] == ["1", "repeats", "2", "3"]


def test_an_asynchronous_search_says_that_its_rounds_are_no_batches(space, tmp_path, drawn):
    results = [make_result(make_config(), space, make_trials(make_config(), space, 3))]
    words = "after round 1 it trained 2 candidates at a time and proposed the next one whenever a training ended"
    assert words in report(tmp_path / "a", make_config(asynchronous=2), results)[1].words
    assert (
        "find this pair again, if the trainings end in the same order." in (tmp_path / "a" / "report.html").read_text()
    )
    assert "asynchronous" not in report(tmp_path / "b", make_config(), results)[1].words


def test_a_plot_without_data_says_why_and_its_old_file_goes(space, tmp_path, drawn):
    config = make_config()
    trials = make_trials(config, space, 3)
    report(tmp_path, config, [make_result(config, space, trials)])
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == PLOTS
    bare = make_result(config, space, [diverged(t) for t in trials])
    bare = dataclasses.replace(bare, proposal=dataclasses.replace(bare.proposal, proxy=(), history=()))
    page = report(tmp_path, config, [bare])[1]
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"final_training"}
    assert page.words.count("is left out.") == 8
    assert "Importance of the coordinates is left out. Fewer than 20 trainings succeeded" in page.words


def test_failed_trainings_are_counted_with_their_first_errors(space, tmp_path, drawn):
    config = make_config()
    trials = make_trials(config, space, 3)
    trials[6] = failed(trials[6], "OSError: no <space> left")
    trials[7] = failed(trials[7], "OSError: no <space> left")
    trials[12] = failed(trials[12], "the worker died")
    page = report(tmp_path, config, [make_result(config, space, trials)])[1]
    assert "NARS, round 2, candidate 1: OSError: no <space> left" in page.words
    assert "candidate 2: OSError" not in page.words
    assert "NARS, round 3, candidate 2: the worker died" in page.words
    assert [row[3:5] for row in page.after("round")[:3]] == [["0", "0"], ["0", "2"], ["0", "1"]]


def test_results_come_before_the_recipe(both):
    titles = ["The search", "All trials", "Round by round", "The pair", "All returned pairs", "The predictor and early"]
    places = [both[1].index(f"<h2>{title}") for title in titles]
    assert places == sorted(places)
    head = both[1].index("<th>field</th>")
    assert both[1].index('id="trials"') < head < both[1].index("<h2>All returned pairs")


def test_the_page_says_what_the_search_cost(both, space, tmp_path, drawn):
    assert "Its trainings took 2 min in all; those of random search 2 min." in both[2].words  # 15 * 6 s each
    assert "wall clock" not in both[2].words  # nobody noted it
    config = make_config(device="cpu")
    sessions = [{"began": 0, "last": 100.0, "epochs": 0}, {"began": 500.0, "last": 4000.0, "epochs": 9}]
    (tmp_path / "clock.json").write_text(json.dumps({"sessions": sessions, "doing": ""}))
    page = report(tmp_path, config, [make_result(config, space, make_trials(config, space, 3))])[1]
    assert "took 2 min in all on cpu. The wall clock of the whole search is 1 h 00 min, in 2 sessions." in page.words


def test_the_page_advises_what_to_change(space, tmp_path, drawn):
    config = make_config()
    page = report(tmp_path, config, [make_result(config, space, make_trials(config, space, 3))])[1]
    assert "For the next search The best accuracy came from training 5 of 15; the later ones did not" in page.words
    short = report(tmp_path, config, [make_result(config, space, make_trials(config, space, 1))])[1]
    assert "For the next search" not in short.words


def test_pairs_of_budgets_join_the_page(space, tmp_path, drawn):
    config = make_config()
    result = make_result(config, space, make_trials(config, space, 3))
    row = {
        "budget": "flops 200K",
        "flops": 199_000,
        "params": 9_900,
        "predicted": 61.5,
        "pair": "budgets/flops_200K.yaml",
    }
    small = dataclasses.replace(result.pair, predicted={"mean": 61.5, "std": 0.5}, measured={})
    save_pair(small, tmp_path / row["pair"])
    (tmp_path / "budgets" / "front.json").write_text(json.dumps({"budgets": [row]}))
    page = report(tmp_path, config, [result])[1]
    assert page.row("budget flops 200K") == ["budget flops 200K", "199,000", "9,900", "61.5 ± 0.5%", "-"]
    recipes = page.after("budget flops 200K")
    assert recipes[0] == ["pair", "lr", "optimizer", "ema", "dropout", "stochastic depth", "mixup", "weight decay"]
    assert [row[0] for row in recipes[1:3]] == ["NARS", "budget flops 200K"]
    assert "Diamonds are pairs of other budgets" in page.words


def test_without_a_final_training_nothing_is_claimed(space, tmp_path, drawn):
    """The ImageNet presets: data elsewhere, and the pair trained by another command."""
    config = make_config(data="list:LISTS:IMAGENET", final_training=False)
    results = [make_result(config, space, make_trials(config, space, 3), method) for method in ("nars", "random")]
    results = [dataclasses.replace(r, pair=dataclasses.replace(r.pair, measured={}), curve=()) for r in results]
    page = report(tmp_path, config, results)[1]
    assert "It had no final training here." in page.words
    assert "test accuracy" not in page.words
    assert "81.25" not in page.words
    assert "fbnetv3 train --pair pair.yaml" in page.words
    assert "weights.pt" not in page.words
    assert "subset of" not in page.words
    assert "For comparison" not in page.words
    assert not (tmp_path / "plots" / "final_training.png").exists()
    assert "$" not in page.words


def test_an_accuracy_on_validation_images_is_called_one(space, tmp_path, drawn):
    config = make_config(data="folder:IMAGES")
    results = [make_result(config, space, make_trials(config, space, 3), method) for method in ("nars", "random")]
    results = [
        dataclasses.replace(r, pair=dataclasses.replace(r.pair, measured=r.pair.measured | {"split": "val"}))
        for r in results
    ]
    words = report(tmp_path, config, results)[1].words
    assert "classifies 81.25% of the validation images correctly. This data has no test images" in words
    assert "81.25% of the validation images correctly, which is the same as NARS" in words
    assert "gives an accuracy a standard error" not in words
    assert "No earlier step had used" not in words
    assert "$" not in words


def test_a_search_that_has_not_ended_is_reported_as_unfinished(space, tmp_path, drawn):
    config = make_config(finalists=2)
    write_trials(tmp_path, config, make_trials(config, space, 3)[:7])
    source, page = read(write_report(tmp_path))
    assert "<title>Search report: quickstart (unfinished)</title>" in source
    assert "This search has not ended." in page.words
    assert page.row("trainings") == ["trainings", "7 of 17 (41%); round 2 of 3: 2 of 5 trained"]
    assert page.row("next") == ["next", f"fbnetv3 search resume {tmp_path}"]
    assert "The candidate with the highest validation accuracy so far, 65.00% after 2 epochs." in page.words
    assert source.count("<tbody") == 7
    assert "It had no final training here" not in page.words
    assert "pair.yaml" not in page.words
    assert "$" not in page.words
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {
        *("accuracy_by_round", "pareto", "convergence", "predicted_vs_measured", "early_stopping")
    }


def test_without_a_training_that_succeeded_there_is_nothing_to_report(space, tmp_path):
    config = make_config()
    for trials in ([], [diverged(t) for t in make_trials(config, space, 1)]):
        write_trials(tmp_path, config, trials)
        with pytest.raises(InputError, match="has no training yet that succeeded"):
            write_report(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "ledger.jsonl"}
