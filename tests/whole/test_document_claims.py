"""Sentences of README.md and docs/ about measured numbers, against the result files.

Every test computes what a result file says and looks for the sentence that claims it. A new measurement that changes the answer
fails here, so that the sentence is written again.
"""

import functools
import statistics

import pytest

from fbnetv3.benchmarks.experiments.config import list_experiments
from fbnetv3.benchmarks.experiments.experiment_tables import verdict as sign
from fbnetv3.benchmarks.experiments.fine_tuning import RATES
from fbnetv3.benchmarks.paper.numbers import load_paper
from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search import early_stopping
from fbnetv3.benchmarks.search.comparison.summary import verdict
from fbnetv3.benchmarks.search.evolution import LANDSCAPES, paper_gaps
from fbnetv3.benchmarks.search.finalists import SEARCH, cases
from fbnetv3.benchmarks.speed.executors import case_values
from fbnetv3.benchmarks.speed.inference import path_names
from fbnetv3.benchmarks.speed.inference import targets as inference_targets
from fbnetv3.recipes import load_recipe
from tests.places import ROOT

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@functools.cache
def text(page):
    """The page in one line, so that the ends of lines do not matter."""
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def claimed(page, *sentences):
    """Check that the page has the sentences."""
    for sentence in sentences:
        assert " ".join(sentence.split()) in text(page), sentence


def missed(result):
    return [name for name, target in result.values["targets"].items() if not target["met"]]


# ---------------------------------------------------------------- README.md


def test_the_measurement_at_the_end():
    result = load_result("compare_final")
    cases_, overall = result.values["cases"], result.values["overall"]["trainings_48"]
    assert len(cases_) == 6
    assert {len(case["seeds"]) for case in cases_.values()} == {20}
    found, ratios = overall["tables"], overall["regret_over_best_rival"]
    assert {row["worse"] for row in found.values()} == {0}
    better = {method: row["better"] for method, row in found.items()}
    assert [better[m] for m in ("random", "evolution", "cmaes", "tpe", "smac", "gp", "gp_sequential")] == [
        3,
        3,
        3,
        2,
        2,
        0,
        0,
    ]
    orders = ("architecture_only", "recipe_only", "architecture_then_recipe", "recipe_then_architecture")
    assert [better[order] for order in orders] == [5, 3, 2, 2]
    assert [better[f"{order}_random"] for order in orders] == [5, 5, 5, 6]
    ablations = ("nars_scratch", "nars_paper_labels", "nars_no_stage3", "nars_no_uncertainty")
    assert [better[ablation] for ablation in ablations] == [0, 0, 2, 1]
    for page in ("README.md", "docs/search.md"):
        claimed(page, "No method is better than NARS on any table.")
    claimed(
        "README.md",
        "NARS is better than random search on three, and than TPE on two.",
        "Optuna's Gaussian process (`gp`) is not distinguishable from NARS on any table.",
        "(`architecture_only`) on five tables, and than that of the recipe alone on three",
    )
    assert overall["median_regret_over_best_rival"] > 0.5  # the target is missed
    claimed(
        "docs/search.md",
        "NARS is better than random search, evolution and CMA-ES on three of the six tables, and than TPE and SMAC3 on two.",
        "From Optuna's Gaussian process it is not distinguishable on any",
        f"on the median table NARS's regret is {overall['median_regret_over_best_rival']:.2f} times that of the best rival,",
        f"from {ratios['fcnet_naval_propulsion']:.2f} times on `fcnet_naval_propulsion` to "
        f"{ratios['fcnet_slice_localization']:.2f} times on `fcnet_slice_localization`.",
        "NARS is better than the search of the architecture alone on five tables, and than that of the recipe alone on three; "
        "of the orders, it is better than architecture then recipe and than recipe then architecture on two tables each, and "
        "worse on none. With random search, it is better than every order on five or six.",
        "NARS is worse on two tables, and better on none. Uncertainty pays on one.",
        "Pretraining makes no difference on these tables.",
    )
    assert (min(ratios, key=ratios.get), max(ratios, key=ratios.get)) == (
        "fcnet_naval_propulsion",
        "fcnet_slice_localization",
    )
    best = [next(key for key in case["needed"]["regrets"] if "best rival" in key) for case in cases_.values()]
    assert (
        sorted(key.split(",")[0].removeprefix("of ") for key in best)
        == ["gp"] * 2 + ["gp_sequential"] * 2 + ["tpe"] * 2
    )
    inside = {name: case["methods"]["nars"]["calibration"]["inside"] for name, case in cases_.items()}
    noisiest = inside.pop("mlp_segment/trainings_48")
    assert noisiest["95%"] < min(row["95%"] for row in inside.values())
    low, high = ({level: f(row[level] for row in inside.values()) for level in noisiest} for f in (min, max))
    claimed(
        "docs/search.md",
        f"50% intervals hold {low['50%']:.0%} to {high['50%']:.0%} of the trainings, 80% intervals {low['80%']:.0%} to "
        f"{high['80%']:.0%}, and 95% intervals {low['95%']:.0%} to {high['95%']:.0%}.",
    )


def test_the_measurement_at_the_end_with_fewer_and_more_trainings():
    result = load_result("compare_final_all")
    assert len(result.values["cases"]) == 12
    overall = [result.values["overall"][f"trainings_{n}"] for n in (24, 96)]
    better = {
        m: [found["tables"][m]["better"] for found in overall] for m in ("random", "tpe", "evolution", "smac", "gp")
    }
    assert better == {"random": [3, 4], "tpe": [1, 2], "evolution": [2, 3], "smac": [0, 1], "gp": [0, 0]}
    assert {row["worse"] for found in overall for row in found["tables"].values()} == {0}
    ratios = [found["median_regret_over_best_rival"] for found in overall]
    assert min(ratios) > 0.5  # the target is missed
    claimed(
        "docs/search.md",
        "No method is better than NARS in any of these 12 cases, and the Gaussian process is not distinguishable from it in "
        "any. With 24 trainings NARS is better than random search on three tables, than evolution on two and than TPE on one. "
        "With 96 it is better than random search on four, than evolution on three, than TPE on two and than SMAC3 on one.",
        f"NARS's regret is {ratios[0]:.2f} times that of the best rival with 24 trainings and {ratios[1]:.2f} times with 96: "
        "the target of half is missed.",
    )


def test_the_measurement_at_the_end_with_a_budget():
    result = load_result("compare_final_30")
    assert len(result.values["cases"]) == 18
    overall = [result.values["overall"][f"trainings_{n}_flops_30%"] for n in (24, 48, 96)]
    better = {
        m: [found["tables"][m]["better"] for found in overall] for m in ("random", "tpe", "evolution", "smac", "gp")
    }
    assert better == {"random": [3, 6, 6], "tpe": [0, 3, 5], "evolution": [0, 2, 4], "smac": [1, 0, 4], "gp": [0, 0, 2]}
    assert {row["worse"] for found in overall for row in found["tables"].values()} == {0}
    ratios = [found["median_regret_over_best_rival"] for found in overall]
    assert min(ratios) > 0.5  # the target is missed
    inside = [
        [
            case["methods"]["nars"]["calibration"]["inside"]["95%"]
            for case in result.values["cases"].values()
            if case["trainings"] == n
        ]
        for n in (24, 96)
    ]
    claimed(
        "docs/search.md",
        "No method is better than NARS in any of these 18 cases. With 24 trainings it is better than random search on three "
        "tables, and than SMAC3 on one. With 48 it is better than random search on all six, than TPE on three and than "
        "evolution on two. With 96 it is better than TPE on five, than evolution and SMAC3 on four each, and than the Gaussian "
        "process on two.",
        f"NARS's regret is {ratios[0]:.2f} times that of the best rival with 24 trainings, {ratios[1]:.2f} times with 48 and "
        f"{ratios[2]:.2f} times with 96. The target of half is missed.",
        f"with 24 trainings, 95% intervals hold {min(inside[0]):.0%} to {max(inside[0]):.0%} of the trainings, with 96 they "
        f"hold {min(inside[1]):.0%} to {max(inside[1]):.0%}.",
    )
    claimed(
        "README.md",
        f"With 96 trainings its regret is {ratios[2]:.2f} times that of the best rival on the median table, and it is better "
        "than the Gaussian process on two. No method is better than NARS on any table.",
    )


def test_the_comparison_on_a_table():
    result = load_result("compare_nas_bench_macro")
    cases_ = result.values["cases"]
    seeds = {len(case["seeds"]) for case in cases_.values()}
    found = {
        name: {method: verdict(row) for method, row in case["nars_minus"].items()} for name, case in cases_.items()
    }
    assert list(found) == ["trainings_40", "trainings_84", "trainings_40_flops_55M", "trainings_84_flops_55M"]
    assert seeds == {20}
    claimed("README.md", "There are 20 seeds:", "NAS-Bench-Macro, which has 6,561 networks trained on CIFAR-10")
    assert {row["random"] for row in found.values()} == {"better"}
    claimed("README.md", "NARS is better than random search in all four cases.")
    for name, row in found.items():
        assert row["tpe"] == ("better" if name.startswith("trainings_40") else "no difference")
        assert row["evolution"] == ("better" if name == "trainings_40_flops_55M" else "no difference")
        assert row["gp"] == row["nars_scratch"] == row["nars_no_stage3"] == "no difference"
    claimed(
        "README.md",
        "NARS is better than TPE with 40 trainings, and not distinguishable from it with 84.",
        "NARS is better than evolution in one case: 40 trainings and a budget.",
        "In no case is NARS distinguishable from Optuna's Gaussian process",
        "In no case is NARS distinguishable from its ablations",
        "No method is better than NARS in any case.",
    )


def test_the_comparison_of_real_trainings():
    (case,) = load_result("compare_quickstart").values["cases"].values()
    assert len(case["seeds"]) == 3
    assert {verdict(row) for row in case["nars_minus"].values()} == {"no difference"}
    claimed(
        "README.md", "There are 3 seeds:", "All intervals include zero: three seeds distinguish none of the methods."
    )


def test_the_speed_of_inference():
    result = load_result("inference")
    values = result.values
    assert result.versions["cpu"].startswith("AMD EPYC")
    claimed(
        "README.md",
        f"The network is `{values['model']}` at {values['resolution']} pixels, on one thread of an AMD EPYC",
    )
    one, eight = (values["threads_1"][f"batch_{batch}"]["peak_share"] for batch in (1, 8))
    claimed(
        "README.md",
        f"reaches {one:.2f} of the multiply-adds per second of the fastest matrix product with batch 1, and",
    )
    claimed("README.md", f"and {eight:.2f} with batch 8.")
    start, accuracy = values["start"], values["int8_accuracy"]
    claimed(
        "README.md",
        f"The import of this package takes {start['import_over_torch']['ratio']:.2f} times as long as that of torch.",
        f"The building of `fbnetv3_g` takes {start['build_over_timm']['ratio']:.2f} times as long as timm's.",
        f"{accuracy['mean']['fp32']:.2f}% on their test images in float32 and {accuracy['mean']['int8']:.2f}% in int8, the "
        f"mean of {len(accuracy['seeds'])} seeds.",
    )
    found = inference_targets(values)
    assert [name for name, target in found.items() if not target.met] == ["eager_batch_1"]
    assert 0.95 < found["eager_batch_1"].value < 1
    claimed(
        "README.md",
        f"One of the {WORDS[len(found)]} targets is missed: `eager` with batch 1 is slightly slower than timm.",
    )
    assert set(path_names(values["threads_1"]["batch_1"])) == set(path_names(values["threads_1"]["batch_8"]))


# ---------------------------------------------------------------- docs/search.md


def test_the_quickstart():
    result = load_result("quickstart")
    values, seeds = result.values, len(result.values["test_acc1"]["after"])
    difference = values["difference"]
    assert difference["low"] < 0 < difference["high"]
    claimed(
        "docs/search.md",
        f"the quickstart reaches {values['mean']['after']:.2f}% on the test images over {seeds} seeds.",
        f"With the first ones (commit {result.versions['before']}) it reaches {values['mean']['before']:.2f}% with the same",
        f"includes zero, so {WORDS[seeds]} seeds do not show that the search has become better.",
        f"The new version needs {values['slower']:.2f} times the processor time:",
    )


def test_the_sizes_of_table_2():
    size = load_result("space_sizes").number("table2.without_resolution")
    (paper,) = (n.value for item in load_paper() for n in item.numbers if n.id == "space.architectures")
    claimed("docs/search.md", f"`table2` has {size:.2e} architectures as written; the paper says {paper}.")


def test_the_speed_of_costs():
    result = load_result("cost_speed")
    number = result.number
    assert missed(result) == []
    claimed(
        "docs/search.md",
        f"In one second, {number('labels.architectures_per_second.statistics') / 1e6:.1f} million architectures get all",
        f"That is {number('fvcore_over_statistics.ratio') / 1e6:.1f} million times as fast as building a network and counting",
        f"A pool of {number('pool.rows'):,} candidates takes {number('pool.seconds.median'):.3f} s",
        f"Of {number('stream.draws'):,} candidates, {number('stream.inside'):,} are in the window.",
        f"scoring the best {number('stream.kept'):,} with eight networks, takes {number('stream.seconds.median'):.1f} s. All "
        "targets are met:",
    )


def test_the_evolution():
    result = load_result("evolution")
    values, targets = result.values, result.values["targets"]
    most = max(row["evaluations"] for name in LANDSCAPES for row in values[name].values())
    claimed(
        "docs/search.md",
        f"The benchmark runs on `{values['space']}` with {values['seeds']} seeds, at most {most:,} evaluations, and no trials",
        f"the default predictor ({values['predictor']['members']} members), fitted to {values['trials']} made-up accuracies",
    )
    over = {name: [budget for budget, row in values[name].items() if row["gap"] > 0.05] for name in LANDSCAPES}
    assert over == {"ensemble": [], "oracle": ["450M"]}
    assert next(iter(values["oracle"])) == "450M"  # the first budget is the tightest
    assert missed(result) == ["seconds", "gap_oracle"]
    claimed(
        "docs/search.md",
        "The mean gap on `ensemble` is at most 0.05 points under every budget. On `oracle` it is larger under the tightest "
        "budget, 450M, so this target is missed.",
    )
    gaps = paper_gaps(values)
    claimed("docs/search.md", f"The preset `paper` ends {min(gaps):.2f} to {max(gaps):.2f} points below the best value")
    claimed(
        "docs/search.md",
        f"One budget takes {targets['seconds']['value']:.2f} s of one core with the predictor, so this target is missed.",
    )
    runs = [row["runs"] for name in LANDSCAPES for row in values[name].values()]
    assert len(runs) == 8
    assert all(max(run["pymoo"]) < statistics.fmean(run["ours"]) for run in runs)
    assert all(len(run["pymoo"]) == 1 for run in runs)
    claimed(
        "docs/search.md",
        f"The genetic algorithm of pymoo {result.versions['pymoo']} takes {targets['over_pymoo']['ratio']:.1f} times as long "
        "for as many evaluations. In all eight cases its one run ends below our mean.",
    )
    lead = min(min(run["ours"]) - max(run["random"]) for run in runs)
    assert lead > 0
    claimed(
        "docs/search.md", f"The worst seed is {lead:.2f} points above the best of 25 times as many random candidates"
    )
    small = values["enumerated"]
    assert small["found"] == small["seeds"]
    claimed("docs/search.md", f"Of {small['pairs']:,} enumerated candidates, all {small['seeds']} seeds find the best.")


def test_the_finalists():
    result = load_result("finalists")
    found = cases(result.values)
    finalists = result.values["finalists"]
    claimed(
        "docs/search.md",
        f"those of the networks of NAS-Bench-Macro, with {finalists} finalists.",
        f"Stage 2 alone, the trained finalists and random search made {finalists} trainings more than the other methods.",
    )
    for row in found.values():
        assert all(row[name]["regret"] >= row[SEARCH]["regret"] for name in ("paper", "lone", "ensemble"))
        assert row["stage2"]["regret"] >= row[SEARCH]["regret"] - 0.01
    claimed(
        "docs/search.md",
        "No stage 3 without trained finalists has a lower regret than the trained finalists in any case, and stage 2 alone in "
        "none by more than 0.01 points.",
        "Without trained finalists, the ensemble and a predictor with a single member differ by at most "
        f"{max(abs(row['ensemble']['regret'] - row['lone']['regret']) for row in found.values()):.2f} points",
    )
    beaten = [name for name, row in found.items() if row["random"]["regret"] < row[SEARCH]["regret"]]
    assert beaten == [name for name in found if "50%" in name]
    claimed("docs/search.md", "Random search has a lower regret under the budget that half of the networks keep")
    gains = {name: row["gain_over_stage2"]["low"] > 0 for name, row in found.items()}
    assert gains == {name: "50%" in name for name in found}
    assert all(row["stage2"]["regret"] < 0.1 for name, row in found.items() if "all networks" in name)
    claimed(
        "docs/search.md",
        "The gain over stage 2 alone excludes zero under the budget that half of the networks keep, with 240 and with 36",
        "stage 2 alone finds nearly the best network",
    )
    (drop,) = (n.value for item in load_paper() for n in item.numbers if n.id == "text.drop")
    acc1 = {
        n.id: float(n.value) for item in load_paper() if item.id == "table7" for n in item.numbers if "acc1" in n.id
    }
    added = sorted(acc1[f"fbnetv3_{x}.acc1"] - acc1[f"stage2_{x}.acc1"] for x in "be")
    claimed("docs/search.md", f"The paper reports that stage 3 adds {added[0]:.1f} to {drop} points.")
    assert round(added[1], 1) == float(drop)


def test_the_starts_from_earlier_searches():
    found = load_result("warm_start").values["cases"]
    gains = {
        (name, trainings, start): row["gain"]
        for name, case in found.items()
        for trainings, starts in case["regret"].items()
        for start, row in starts.items()
        if "gain" in row
    }
    assert max(gains, key=lambda case: gains[case]["mean"]) == ("networks", "24", "related")
    assert all(gain["high"] >= 0 for gain in gains.values())
    claimed(
        "docs/search.md",
        f"gains most with networks, {gains['networks', '24', 'related']['mean']:.2f} points. No interval lies below zero",
    )


def test_the_latency():
    assert load_result("latency").values["machine"]["cpu"].startswith("AMD EPYC")
    claimed("docs/search.md", "compares the sums with whole networks, on an AMD EPYC processor.")


def test_the_executors():
    result = load_result("parallel")
    rows = case_values(result.values).values()
    least = {name: min(row[name]["efficiency"] for row in rows) for name in ("pool", "ray")}
    assert missed(result) == []
    assert {target["at_least"] for target in result.values["targets"].values()} == {0.9}
    claimed(
        "docs/search.md",
        f"the process pool is at least {least['pool']:.1%}, and that of Ray at least {least['ray']:.1%}.",
        f"the median of {result.values['rounds']} rounds that are interleaved with one worker",
        "All targets (90%) are met:",
    )


def test_the_zoo():
    teacher = load_result("regenerate").values["teacher"]
    claimed("docs/search.md", f"The teacher, {teacher['network']} without distillation, has {teacher['acc1']:.2f}%:")


def test_the_ablations_on_made_up_accuracies():
    (case,) = load_result("compare_invented").values["cases"].values()
    found = {method: verdict(row) for method, row in case["nars_minus"].items()}
    assert found == {
        "random": "better",
        "tpe": "better",
        "evolution": "better",
        "gp": "no difference",
        "nars_scratch": "no difference",
        "nars_paper_labels": "no difference",
        "nars_no_stage3": "better",
    }
    claimed(
        "docs/search.md",
        f"accuracies of the quickstart's space, with {len(case['seeds'])} seeds.",
        "NARS is better than random search, TPE, evolution and its own stage 2 alone. Its intervals to Optuna's Gaussian "
        "process, to `nars_scratch` and to `nars_paper_labels` include zero.",
    )


# ---------------------------------------------------------------- docs/detection.md


def test_the_costs_of_detectors():
    reduction = load_result("detection_cost").values["reduction"]
    paper = {n.id: n.value for item in load_paper() if item.id == "table5" for n in item.numbers}
    for key in ("params", "flops"):
        assert f"{reduction[key]:.1f}" == paper[f"reduction.{key}"]
    claimed(
        "docs/detection.md",
        f"FBNetV3-A has {reduction['params']:.1f}% fewer parameters and {reduction['flops']:.1f}% fewer FLOPs than "
        "EfficientNetB0, as the paper says:",
    )


def test_fine_tuning():
    values = load_result("fine_tuning").values
    (cells,), (gain,) = values["images"].values(), values["gain"].values()
    mean = {name: cell["mean"] for name, cell in cells.items()}
    assert all(mean[f"fine-tuned, rate {rate}"] > mean[f"scratch, rate {rate}"] for rate in RATES)
    assert (gain["of"], gain["over"]) == tuple(f"{start}, rate {max(RATES)}" for start in ("fine-tuned", "scratch"))
    tried = (mean["fine-tuned, rate 0.03, layer_decay 0.8"], mean["fine-tuned, rate 0.03, frozen_stages 1"])
    assert max(tried) < mean["fine-tuned, rate 0.03"]
    assert missed(load_result("fine_tuning")) == []
    claimed(
        "docs/training.md", f"Fine-tuning is better by {gain['mean']:.1f} points, if both", "than the recipe's 0.03:"
    )
    assert load_recipe("finetune/small").lr == 0.03


def test_the_photos():
    result = load_result("detection_voc100")
    values, method = result.values, result.method
    train, test = values["photos"]["train"], values["photos"]["test"]
    for words in (
        "238 and 35 boxes",
        "600 steps of 4 photos, one thread",
        "12 classes that they show, many of them once",
    ):
        assert words in method
    claimed(
        "docs/detection.md",
        f"{train} photos with 238 boxes are for training, {test} photos with 35 boxes for testing.",
        "trains 600 steps of 4 photos on one thread.",
        f"which classifies {values['backbone_acc1']:.1f}% of held-out CIFAR-10 images correctly.",
        f"{test} photos are few: AP is a mean over the 12 classes that they show, and many of these appear only once.",
    )
    cifar10, random = (values["starts"][start]["seeds"] for start in ("cifar10", "random"))
    seeds = len(cifar10)
    better = {
        kind: sum(cifar10[s][kind]["AP"] > random[s][kind]["AP"] for s in cifar10) for kind in ("training", "ema")
    }
    claimed(
        "docs/detection.md",
        f"means over {seeds} seeds.",
        f"with {better['training']} of {seeds} seeds on the training photos, and with {better['ema']} of {seeds} seeds on the "
        "held-out photos.",
    )


def test_the_speed_of_detectors():
    result = load_result("detection_speed")
    full = result.values["full_run"]
    assert result.versions["cpu"].startswith("AMD EPYC")
    for words in ("432 x 576 pixels", "75 proposals", "60 rounds", "the median of 5 steps", "512 regions"):
        assert words in result.method
    claimed(
        "docs/detection.md",
        "One image of 432 x 576 pixels runs through detectron2's Faster R-CNN C4 with 75 proposals, on one thread of an AMD",
        "median times in 60 interleaved rounds",
        "the median of 5 steps of one such image and 512 regions.",
        f"would take about {full['days']:.0f} days on one thread for its {full['images']:,} images.",
    )


# ---------------------------------------------------------------- docs/experiments.md, docs/cifar10.md


@pytest.mark.parametrize("name", list_experiments())
def test_how_an_experiment_was_run(name):
    result = load_result(f"experiment_{name}")
    data = result.values["data"]
    assert data == {"name": "fashion_mnist", "split": "test", "train": 5000, "test": 2000}
    assert {cell["n"] for cell in result.values["cells"].values()} == {5}
    claimed(
        "docs/experiments.md",
        f"All results below were measured with torch {result.versions['torch']} and 5 seeds.",
        "5,000 training images of Fashion-MNIST at 28 x 28, and reports the top-1 accuracy on their test images. The results "
        "on this page are from the first 2,000 test images, all that the package had then; it has 4,000 now.",
    )


@pytest.fixture(scope="module")
def experiments():
    return {name: load_result(f"experiment_{name}").values for name in list_experiments()}


def test_table_1(experiments):
    cells, rows = experiments["table1"]["cells"], experiments["table1"]["differences"]
    assert all(rows[key]["low"] > 0 for key in ("recipe_1", "recipe_2", "change"))
    claimed(
        "docs/experiments.md",
        "The ranking does not flip. The wider network is better with both recipes. Its lead is smaller with Recipe-2",
    )
    assert (
        "deep_recipe_1" == min(cells, key=lambda c: cells[c]["mean"]) == max(cells, key=lambda c: cells[c]["deviation"])
    )
    claimed("docs/experiments.md", "it is the cell with the lowest mean and the largest standard deviation.")
    signs = [sign(row) for row in rows.values()]
    assert sorted(signs) == ["against the paper's sign", "the paper's sign", "the paper's sign"]
    claimed(
        "docs/experiments.md",
        "Two differences have the paper's sign, one has the opposite sign, and all three intervals exclude zero.",
    )


def test_table_3(experiments):
    cells, rows = experiments["table3"]["cells"], experiments["table3"]["differences"]
    assert all(row["mean"] > 0 for row in rows.values())
    assert [key for key, row in rows.items() if row["excludes_zero"]] == ["mobilenet"]
    claimed(
        "docs/experiments.md",
        "The searched recipe has the higher mean on all three networks. The interval excludes zero on MobileNetV3-small alone.",
        "five seeds do not distinguish it from the baseline.",
    )
    table1 = experiments["table1"]["cells"]
    deep = [table1[f"deep_recipe_{i}"]["seeds"] for i in (1, 2)]
    assert all(deep[0][seed] < deep[1][seed] for seed in deep[0])
    claimed(
        "docs/experiments.md", "The deeper ResNet of Table 1, which has the same two recipes, gains with every seed."
    )
    baselines = {"own": cells["own_baseline"]["mean"], "wide": table1["wide_recipe_1"]["mean"]}
    baselines |= {"mobilenet": cells["mobilenet_baseline"]["mean"], "deep": table1["deep_recipe_1"]["mean"]}
    gains = {key: rows[key]["mean"] for key in ("own", "mobilenet")} | {"wide": rows["wide_resnet"]["mean"]}
    gains["deep"] = table1["deep_recipe_2"]["mean"] - table1["deep_recipe_1"]["mean"]
    worst = sorted(baselines, key=baselines.__getitem__)[:2]
    assert worst == sorted(gains, key=gains.__getitem__, reverse=True)[:2] == ["deep", "mobilenet"]
    claimed("docs/experiments.md", "The gains are largest where the baseline is worst.")


def test_table_6(experiments):
    rows = experiments["table6"]["differences"]
    assert rows["small"]["low"] > 0 > rows["large"]["mean"]
    assert [key for key, row in rows.items() if row["excludes_zero"]] == ["small"]
    claimed(
        "docs/experiments.md",
        "The smaller network loses with the other network's recipe, as in the paper. The larger network does not: its mean is "
        "higher with the swapped recipe, and the interval includes zero. The interval of both together includes zero, too.",
    )


def test_table_8(experiments):
    rows = experiments["table8"]["differences"]
    assert not rows["ema"]["excludes_zero"]
    assert all(rows[key]["high"] < 0 for key in ("dist", "dist_ema", "dist_over_ema"))
    assert {sign(rows[key]) for key in ("dist", "dist_ema", "dist_over_ema")} == {"against the paper's sign"}
    claimed(
        "docs/experiments.md",
        "Neither helps. The interval of EMA includes zero. Distillation lowers the accuracy, with and without EMA; these three "
        "intervals exclude zero, with the opposite of the paper's sign.",
    )
    assert experiments["table6"]["cells"]["large_own"]["seeds"] == experiments["table8"]["cells"]["baseline"]["seeds"]
    wide = experiments["table3"]["cells"]["wide_resnet_searched"]["seeds"]
    assert experiments["table1"]["cells"]["wide_recipe_2"]["seeds"] == wide
    claimed(
        "docs/experiments.md",
        "the wide ResNet of Tables 1 and 3, and `large_own` of Table 6 and `baseline` of Table 8.",
    )


def test_cifar10():
    values = load_result("cifar10").values
    data, training = values["data"], values["training"]
    assert {row["n"] for row in values["networks"].values()} == {2}
    assert data["jpeg"]
    claimed(
        "docs/cifar10.md",
        f"{data['train']:,} training images and {data['test']:,} test images of CIFAR-10 stored as JPEG, "
        f"{training['epochs']} epochs, 2 seeds.",
        f"would take: {values['full_run']['hours']:.0f} hours for all networks together.",
    )


def test_early_stopping_by_a_model_saves_time():
    values = load_result("early_stopping").values
    methods = values["methods"]
    ours, without, rule = (methods[name] for name in ("nars_model", "nars", "nars_rule"))
    rivals = {
        name: row["time"]["0.5"] for name, row in methods.items() if not name.startswith("nars") and row["time"]["0.5"]
    }
    fastest = min(rivals, key=rivals.get)
    others = {name: row for name, row in methods.items() if name != "nars_model"}
    unclear = [early_stopping.METHODS[name].words for name, row in others.items() if not row["difference"]["low"] > 0]
    assert ours["time"]["0.5"] < without["time"]["0.5"]
    assert missed(load_result("early_stopping")) == []
    assert all(row["difference"]["mean"] > 0 for row in others.values())
    assert all(sum(row["by_seed"][8:]) > sum(ours["by_seed"][8:]) for row in others.values())
    assert ours["begun"] > rule["begun"] > without["begun"]
    claimed(
        "docs/search.md",
        f"NARS with the model needs the epochs of {ours['time']['0.5']} complete trainings, NARS without early stopping "
        f"{without['time']['0.5']}, and the fastest search of Optuna, {early_stopping.METHODS[fastest].words}, "
        f"{rivals[fastest]}.",
        f"the regret is {ours['regret']:.2f} with the model and {without['regret']:.2f} without early stopping",
        f"The interval includes zero for {' and '.join(unclear)} alone.",
        f"it ends with a regret of {rule['regret']:.2f}.",
    )


def test_an_asynchronous_search_takes_less_time_and_may_have_the_same_regret():
    values = load_result("asynchronous").values
    ways = values["ways"]
    batches, own = ways["batches"]["time"]["mean"], ways["asynchronous"]["time"]["mean"]
    assert ways["asynchronous"]["time"]["gain"]["low"] > 0
    assert ways["asynchronous"]["regret"]["gain"]["low"] < 0 < ways["asynchronous"]["regret"]["gain"]["high"]
    assert (values["table"], values["workers"], values["spread"]) == ("fcnet_protein_structure", 4, 0.5)
    claimed(
        "docs/search.md",
        f"a search of {values['trainings']} trainings takes {own:.1f} mean lengths of a training instead of {batches:.1f}, "
        f"which is {1 - own / batches:.0%} less. The interval of the difference in regret includes zero.",
    )
