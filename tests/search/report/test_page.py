"""The report says what was measured, no more, in one page that needs nothing else."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fbnetv3.errors import InputError
from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.recipes import load_recipe
from fbnetv3.search.nars.algorithm import Finalist, Proposal
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.predictor.diagnostics import Statistic
from fbnetv3.search.report.analysis import accuracies, convergence, errors, pareto_front, repeated_accuracies, summary
from fbnetv3.search.report.page import write_report
from fbnetv3.search.runs.run import Found
from fbnetv3.search.space.costs import cost
from fbnetv3.search.space.sobol import sample
from fbnetv3.search.space.space import load_space
from fbnetv3.search.trial import Trial

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
EPOCHS = 2  # of the early stopping; the first round has 3
# A hand-made round: ranks of the predictions 1 2 3 4 5, of the measurements 2 1 4 3 5, so that the squared differences
# add up to 4 and Spearman's coefficient is 1 - 6 * 4 / (5 * 24) = 0.8. Absolute differences: 1 1 2 0 1.
PREDICTED = (60.0, 61.0, 62.0, 63.0, 64.0)
MEASURED = (61.0, 60.0, 64.0, 63.0, 65.0)


class Page(HTMLParser):
    """Text, tables (rows of cells) and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.text, self.rows, self.tags, self.links, self.in_cell = "", [], [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "action", "data")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data

    def row(self, first):
        return next(row for row in self.rows if row[0] == first)


@pytest.fixture(scope="module")
def space():
    return load_space("micro")


def make_config(**changes):
    return load_preset("quickstart").replace(batch=5, rounds=3, **changes)


def make_trials(config, space, rounds):
    rows = sample(space, 5 * rounds, config.constraint, 3)
    costs, rng = cost(space, rows), np.random.default_rng(0)
    trials = []
    for i, row in enumerate(rows.tolist()):
        round, index = i // 5 + 1, i % 5
        curve = [50.0, MEASURED[index], 90.0 + index][: 3 if round == 1 else EPOCHS]
        trials.append(
            Trial(
                round=round,
                index=index,
                candidate=row,
                seed=i,
                epochs=3 if round == 1 else EPOCHS,
                flops=int(costs.flops()[i]),
                params=int(costs.params()[i]),
                predicted=None if round == 1 else [PREDICTED[index], float(rng.uniform(0.5, 2))],
                acc1=curve,
                status="ok",
                seconds=6.0,
            )
        )
    return trials


def diverged(trial):
    return dataclasses.replace(trial, acc1=[], status="diverged")


def failed(trial, error):
    return dataclasses.replace(trial, acc1=[], status="failed", error=error)


def repeats(trials, *accuracies):
    """Second trainings of the first candidates of the first batch."""
    return [
        dataclasses.replace(t, round=0, acc1=[50.0, 60.0, acc1], seed=99)
        for t, acc1 in zip(trials, accuracies, strict=False)
    ]


PROXY = (
    Statistic("flops", (100.0, 200.0, 300.0), (110.0, 190.0, 300.0)),
    Statistic("params", (10.0, 20.0, 30.0), (10.0, 20.0, 30.0)),
)


def make_found(config, space, trials, method="nars", acc1=81.25, name="micro_pair"):
    best = trials[-1]
    arch, recipe, _ = space.candidate(best.candidate, load_recipe(config.recipe), name)
    recipe = recipe.stretched(config.final_stretch)
    pair = Pair(
        arch=arch,
        recipe=recipe,
        space=config.space,
        seed=config.seed,
        constraint={"metric": "flops", "convention": "published", "max": config.constraint.max},
        predicted={"mean": 66.6, "std": 0.9},
        measured={"split": "test", "epochs": recipe.epochs, "acc1": acc1},
        provenance={"data": config.data, "search": method, "training_seed": 4242, "torch": "9.8.7"},
    )
    nars = method == "nars"
    proposal = Proposal(
        tuple(best.candidate),
        (66.6, 0.9) if nars else None,
        EPOCHS,
        (65.0, 66.0, 66.6) if nars else (),
        proxy=PROXY if nars else (),
    )
    curve = tuple(np.linspace(60, 82, recipe.epochs).tolist())
    return Found(method, pair, proposal, tuple(trials), curve, best.flops, best.params)


def test_finalists_stand_side_by_side(space, tmp_path):
    config = make_config(finalists=2)
    found = make_found(config, space, make_trials(config, space, 4)[:17])
    finalists = (
        Finalist((0,) * len(space.sizes), (70.0, 1.5), 66.0, 71.25),
        Finalist(found.proposal.candidate, (69.0, 2.0), 68.0, 72.5),
    )
    found = dataclasses.replace(found, proposal=dataclasses.replace(found.proposal, finalists=finalists))
    write_report(config, space, [found], tmp_path / "report.html")
    text, page = read(tmp_path / "report.html")
    start = page.rows.index(["finalist", "predicted", "measured, as long", "measured, all epochs"])
    assert page.rows[start + 1 : start + 3] == [
        ["1", "70.0 ± 1.5%", "66.0%", "71.2%"],
        ["2", "69.0 ± 2.0%", "68.0%", "72.5%"],
    ]
    assert '<tr class="marked"><td>2</td><td>69.0 ± 2.0%</td>' in text
    assert [row[0] for row in round_rows(page)[:4]] == ["1", "2", "3", "finalists"]


def read(path):
    text = path.read_text()
    return text, Page(text)


def round_rows(page):
    return page.rows[page.rows.index(page.row("round")) + 1 :]


@pytest.fixture(scope="module")
def both(space, tmp_path_factory):
    """Folder, source and page of a report with a baseline and a diverged trial."""
    config = make_config()
    trials = make_trials(config, space, 3)
    trials[7] = diverged(trials[7])
    found = [
        make_found(config, space, trials),
        make_found(config, space, make_trials(config, space, 3), "random", 80.0),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(config, space, found, path)
    return path.parent, *read(path)


def test_outcome_in_plain_words(both, space):
    _, _, page = both
    text = " ".join(page.text.split())
    trial = make_trials(make_config(), space, 3)[-1]
    assert f"{space.arch_size:,} architectures" in text
    assert f"{space.recipe_size:,} training recipes" in text
    assert "150,000 to 400,000 FLOPs (one multiply-add = 1)" in text
    assert "trained 15 candidates (5 for 3 epochs, 10 for 2 epochs)" in text
    assert f"{trial.flops:,} FLOPs and {trial.params:,} parameters" in text
    assert "classifies 81.25% of the 2,000 test images correctly" in text
    assert "80.00% of the test images, 1.25 points below NARS" in text
    # 100 * sqrt(0.8 * 0.2 / 2000) = 0.894
    assert "one run of each" in text
    assert "standard error of about 0.9 points" in text
    assert "8,000-image subset (5,000 to train, 1,000 to validate, 2,000 to test)" in text
    assert "fbnetv3 train --pair pair.yaml --out retrained" in text
    assert "fbnetv3 predict IMAGE --pair pair.yaml --weights weights.pt" in text
    assert "$" not in text  # of a template


def test_pair_and_provenance(both, space):
    _, source, page = both
    config = make_config()
    trial = make_trials(config, space, 3)[-1]
    arch, recipe, _ = space.candidate(trial.candidate, load_recipe(config.recipe), "any")
    start = page.rows.index(["stage", "block", "k", "e", "c", "n", "s", "se"]) + 1
    table = page.rows[start : start + len(arch.rows) + 2]
    assert [row[1] for row in table] == ["conv", *["ir"] * len(arch.rows), "pool"]
    assert [row[2:7] for row in table[1:-1]] == [[str(v) for v in (b.k, b.e, b.c, b.n, b.s)] for b in arch.rows]
    assert page.row("dropout") == ["dropout", f"{recipe.dropout:.4g}", "searched: 0 to 0.6"]
    assert page.row("batch_size")[2] == "base recipe"
    assert page.row("epochs")[1:] == ["6", "base recipe, stretched 2 times"]
    assert source.count('<tr class="marked">') == 7  # the searched fields
    assert page.row("training seed") == ["training seed", "4242"]
    assert page.row("torch") == ["torch", "9.8.7"]


def test_rate_of_sgd_is_shown_with_the_range_it_was_searched_in(space, tmp_path):
    config = make_config()
    optimizer = [c.name for c in space.coordinates].index("optimizer")
    for value, choices in ((0, "0.001 to 0.012"), (1, "0.02 to 0.24")):
        trials = make_trials(config, space, 1)
        trials[-1].candidate[optimizer] = value
        write_report(config, space, [make_found(config, space, trials)], tmp_path / "report.html")
        assert read(tmp_path / "report.html")[1].row("lr")[2] == f"searched: {choices}"


def test_rounds(both):
    _, _, page = both
    first, second, third, random = round_rows(page)[:4]
    assert first == ["1", "5", "3", "0", "0", "65.0%", "63.0%", "-", "-", "-"]  # after 2 epochs, not after 3
    # Without the diverged third trial: ranks 1 2 3 4 and 2 1 3 4, so 1 - 6 * 2 / (4 * 15) = 0.8; differences 1 1 0 1.
    assert second == ["2", "5", "2", "1", "0", "65.0%", "62.0%", "62.0%", "0.80", "0.8"]
    assert third == ["3", "5", "2", "0", "0", "65.0%", "63.0%", "62.0%", "0.80", "1.0"]
    assert random[:4] == ["random search", "15", "2, 3", "0"]


def test_summary_of_few_or_failed_trials(space):
    trials = make_trials(make_config(), space, 2)[5:]
    assert summary(trials[:2], EPOCHS)[4:] == ["61.0%", "60.5%", "60.5%", "-", "1.0"]
    assert summary([diverged(t) for t in trials], EPOCHS) == ["5", "2", "5", "0", "-", "-", "-", "-", "-"]
    equal = [dataclasses.replace(t, predicted=[60.0, 0.1]) for t in trials]
    assert summary(equal, EPOCHS)[7] == "-"  # no ranking to correlate
    assert accuracies(trials, 99) == list(MEASURED)


def test_page_needs_nothing_else_and_plots_are_files(both):
    folder, source, page = both
    assert "http://" not in source
    assert "https://" not in source
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in source
    assert "url(" not in source
    assert len(page.links) == len(PLOTS)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert {path.name for path in folder.iterdir()} == {"report.html", "plots"}  # no temporary file
    assert {path.name for path in (folder / "plots").iterdir()} == {f"{name}.png" for name in PLOTS}
    for path in (folder / "plots").iterdir():
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            assert image.width > 600
            assert len(image.convert("RGB").getcolors(1 << 20)) > 10  # something is drawn


def test_without_baseline_nothing_is_compared(space, tmp_path):
    config = make_config()
    found = make_found(config, space, make_trials(config, space, 3))
    write_report(config, space, [found], tmp_path / "report.html")
    _, page = read(tmp_path / "report.html")
    assert "81.25%" in page.text
    assert "random search" not in page.text
    assert "one run of each" not in page.text


def test_one_round_has_no_predictions(space, tmp_path):
    config = make_config().replace(rounds=1)
    found = make_found(config, space, make_trials(config, space, 1))
    write_report(config, space, [found], tmp_path / "report.html")
    _, page = read(tmp_path / "report.html")
    assert "one round only" in page.text
    assert round_rows(page)[0][-3:] == ["-", "-", "-"]
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == PLOTS - {"predicted_vs_measured"}


def test_all_trials_diverged(space, tmp_path):
    config = make_config()
    found = make_found(config, space, [diverged(t) for t in make_trials(config, space, 3)])
    write_report(config, space, [found], tmp_path / "report.html")
    assert "81.25%" in read(tmp_path / "report.html")[1].text


@pytest.mark.parametrize(("acc1", "words"), [(83.0, "1.75 points above NARS"), (81.25, "the same as NARS")])
def test_a_better_baseline_is_said_to_be_better(space, tmp_path, acc1, words):
    config, trials = make_config(), make_trials(make_config(), space, 1)
    found = [make_found(config, space, trials), make_found(config, space, trials, "random", acc1)]
    write_report(config, space, found, tmp_path / "report.html")
    assert words in " ".join(read(tmp_path / "report.html")[1].text.split())


def test_constraint_on_parameters(space, tmp_path):
    config = make_config().replace(constraint={"metric": "params", "max": 30000.0})
    found = make_found(config, space, make_trials(config, space, 2))
    write_report(config, space, [found], tmp_path / "report.html")
    _, page = read(tmp_path / "report.html")
    assert "with at most 30,000 parameters" in " ".join(page.text.split())
    assert "Accuracy and parameters" in page.text


def test_text_is_escaped(space, tmp_path):
    evil = "<script>alert('x')</script> & $name"
    config = make_config().replace(name=evil, about=evil)
    found = make_found(config, space, make_trials(config, space, 1))
    found.pair.provenance["note"] = evil
    write_report(config, dataclasses.replace(space, name=evil), [found], tmp_path / "report.html")
    source, page = read(tmp_path / "report.html")
    assert "<script" not in source
    assert "script" not in page.tags
    assert page.text.count(evil) >= 5
    assert page.row("note") == ["note", evil]


def test_same_search_same_files(space, tmp_path):
    """A finished search that is resumed is reported again, to the same bytes."""
    config = make_config()
    found = [make_found(config, space, make_trials(config, space, 3))]
    write_report(config, space, found, tmp_path / "a" / "report.html")
    write_report(config, space, found, tmp_path / "b" / "report.html")
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_a_failed_write_leaves_the_old_page_whole(space, tmp_path, monkeypatch):
    config = make_config()
    path = tmp_path / "report.html"
    write_report(config, space, [make_found(config, space, make_trials(config, space, 1))], path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fbnetv3.files.os.fsync", full)
    with pytest.raises(InputError, match=re.escape("No space left")):
        write_report(config, space, [make_found(config, space, make_trials(config, space, 1), acc1=12.34)], path)
    assert path.read_bytes() == before
    assert not list(tmp_path.rglob(".*"))


def words(config, space, found, folder):
    """Text of the page and names of the plots of a report written anew."""
    write_report(config, space, found, folder / "report.html")
    text = " ".join(read(folder / "report.html")[1].text.split())
    return text, {path.stem for path in (folder / "plots").iterdir()}


def test_early_stopping_in_words(space, tmp_path):
    """After 2 epochs the ranks of the first batch are 2 1 4 3 5, after all 1 2 3 4 5: 0.8, and Kendall's (8 - 2) / 10."""
    config = make_config(early_stopping=0.8)
    trials = make_trials(config, space, 3)
    text, _ = words(config, space, [make_found(config, space, trials)], tmp_path)
    assert "Of the 5 trainings of the first batch that ended well." in text
    assert "After epoch 2 of 3 the ranking agrees with the last one by 0.80 (Spearman; Kendall 0.60)" in text
    assert "is unknown: none was repeated, or too few" in text
    # Four repeats rank 90 .. 93 as 2 1 3 4: 1 - 6 * 2 / (4 * 15) = 0.8, one of six pairs turned round: 4 / 6.
    noisy = make_found(config, space, [*trials, *repeats(trials, 88.0, 87.0, 89.0, 90.0)])
    text, _ = words(config, space, [noisy], tmp_path)
    assert "with other seeds agree by 0.80 (Kendall 0.67), on 4 candidates" in text
    assert "is unknown" not in text
    assert "trained 19 candidates (9 for 3 epochs, 10 for 2 epochs)" in text
    assert "Repeats are trainings of candidates of round 1 with another seed" in text
    names = [row[0] for row in round_rows(read(tmp_path / "report.html")[1])]
    assert names[:4] == ["1", "repeats", "2", "3"]


def test_a_threshold_that_buys_nothing_says_so(space, tmp_path):
    config = make_config(early_stopping=0.92)
    found = make_found(config, space, make_trials(config, space, 1))
    found = dataclasses.replace(found, proposal=dataclasses.replace(found.proposal, epochs=3))
    text, plots = words(config, space, [found], tmp_path)
    assert "The threshold of 0.92 buys nothing here: no epoch before the last, 3, reaches it" in text
    assert "early_stopping" in plots


def test_a_plot_without_data_says_why_and_an_old_file_goes(space, tmp_path):
    config = make_config()
    trials = make_trials(config, space, 3)
    _, plots = words(config, space, [make_found(config, space, trials)], tmp_path)
    assert plots == PLOTS
    bare = make_found(config, space, [diverged(t) for t in trials])
    bare = dataclasses.replace(bare, proposal=dataclasses.replace(bare.proposal, proxy=(), history=()))
    text, plots = words(config, space, [bare], tmp_path)
    assert plots == {"final_training"}
    assert text.count("is left out.") == 8
    assert "Importance of the coordinates is left out. Fewer than 20 trainings ended well" in text


def test_failed_trainings_are_counted_with_their_first_errors(space, tmp_path):
    config = make_config()
    trials = make_trials(config, space, 3)
    trials[6] = failed(trials[6], "OSError: no <space> left")
    trials[7] = failed(trials[7], "OSError: no <space> left")
    trials[12] = failed(trials[12], "the worker died")
    text, _ = words(config, space, [make_found(config, space, trials)], tmp_path)
    assert "NARS, round 2, candidate 1: OSError: no <space> left" in text
    assert text.count("OSError") == 1
    assert "NARS, round 3, candidate 2: the worker died" in text
    rows = round_rows(read(tmp_path / "report.html")[1])
    assert [row[3:5] for row in rows[:3]] == [["0", "0"], ["0", "2"], ["0", "1"]]
    many = [failed(t, f"error {i}") for i, t in enumerate(trials)]
    assert errors(many) == [f"round 1, candidate {i}: error {i}" for i in range(5)]
    assert errors([diverged(trials[0])]) == []


def test_convergence_by_hand(space):
    config = make_config()
    trials = make_trials(config, space, 2)
    trials[1] = diverged(trials[1])
    trials += repeats(trials, 99.0)
    curve = convergence(reversed(trials), EPOCHS)  # whatever the order in the ledger
    # Five of 3 epochs, one of them diverged; a repeat of 3, which is no candidate; five of 2.
    assert curve.epochs.tolist() == [3, 6, 9, 12, 15, 18, 20, 22, 24, 26, 28]
    assert curve.best.tolist() == [61, 61, 64, 64, 65, 65, 65, 65, 65, 65, 65]
    lost = convergence([diverged(t) for t in trials[:2]], EPOCHS)
    assert np.isnan(lost.best).all()


def test_repeated_accuracies_by_candidate(space):
    config = make_config()
    trials = make_trials(config, space, 2)
    again = repeats(trials, 70.0, 71.0)
    trials[1] = diverged(trials[1])
    table = repeated_accuracies([*again, *trials])
    assert np.array_equal(table, [[90.0, np.nan], [70.0, 71.0]], equal_nan=True)
    assert repeated_accuracies(trials).size == 0


def test_front_by_hand():
    cost, value = np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([5.0, 1.0, 4.0, 5.0, 6.0])
    assert pareto_front(cost, value).tolist() == [1, 3, 4]  # the first costs more than the fourth and is no better


def test_held_out_statistic_by_hand():
    # Mean 200, squares about it 20,000, squared errors 100 + 100 + 0.
    assert PROXY[0].r2 == pytest.approx(0.99)
    assert PROXY[1].r2 == 1
    assert Statistic("flops", (1.0, 1.0), (1.0, 2.0)).r2 == 0


def test_pairs_of_budgets_join(space, tmp_path):
    config = make_config()
    found = make_found(config, space, make_trials(config, space, 3))
    text, _ = words(config, space, [found], tmp_path)
    assert "All returned pairs" not in text  # there is one only
    row = {
        "budget": "flops 200K",
        "flops": 199_000,
        "params": 9_900,
        "predicted": 61.5,
        "pair": "budgets/flops_200K.yaml",
    }
    small = dataclasses.replace(found.pair, predicted={"mean": 61.5, "std": 0.5}, measured={})
    save_pair(small, tmp_path / row["pair"])
    (tmp_path / "budgets" / "front.json").write_text(json.dumps({"budgets": [row]}))
    text, _ = words(config, space, [found], tmp_path)
    page = read(tmp_path / "report.html")[1]
    assert page.row("budget flops 200K") == ["budget flops 200K", "199,000", "9,900", "61.5 ± 0.5%", "-"]
    recipes = page.rows[page.rows.index(page.row("budget flops 200K")) + 1 :]
    assert recipes[0] == ["pair", "lr", "optimizer", "ema", "dropout", "stochastic depth", "mixup", "weight decay"]
    assert [row[0] for row in recipes[1:3]] == ["NARS", "budget flops 200K"]
    assert "Diamonds are pairs of other budgets" in text


def test_without_a_final_training_nothing_is_claimed(space, tmp_path):
    """The ImageNet presets: data elsewhere, and the pair trained by another command."""
    config = make_config(data="list:LISTS:IMAGENET", final_training=False)
    found = make_found(config, space, make_trials(config, space, 3))
    found = dataclasses.replace(found, pair=dataclasses.replace(found.pair, measured={}), curve=())
    other = make_found(config, space, make_trials(config, space, 3), "random")
    other = dataclasses.replace(other, pair=dataclasses.replace(other.pair, measured={}), curve=())
    text, plots = words(config, space, [found, other], tmp_path)
    assert "It had no final training here." in text
    assert "test accuracy" not in text
    assert "81.25" not in text
    assert "fbnetv3 train --pair pair.yaml" in text
    assert "weights.pt" not in text
    assert "image subset" not in text
    assert "To compare" not in text
    assert "final_training" not in plots
    assert "$" not in text


def test_measured_on_validation_images_says_so(space, tmp_path):
    config = make_config(data="folder:PICTURES")
    pairs = [make_found(config, space, make_trials(config, space, 3), method) for method in ("nars", "random")]
    pairs = [
        dataclasses.replace(f, pair=dataclasses.replace(f.pair, measured=f.pair.measured | {"split": "val"}))
        for f in pairs
    ]
    text, _ = words(config, space, pairs, tmp_path)
    assert "classifies 81.25% of the validation images correctly. This data has no test images" in text
    assert "81.25% of the validation images, the same as NARS" in text
    assert "standard error" not in text
    assert "which no earlier step had used" not in text
    assert "$" not in text
