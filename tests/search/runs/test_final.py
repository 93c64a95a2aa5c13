"""The final training of a search's answer, and what its pair file says."""

import dataclasses
import shutil
from types import SimpleNamespace

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.networks.weight_file import read_weight_file
from fbnetv3.progress import silent
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.runs import final
from fbnetv3.search.runs.final import (
    environment,
    final_candidate,
    final_job,
    final_seed,
    make_pair,
    pair_of_proposal,
    train_final,
    train_side_by_side,
)
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.training.accuracy import measure
from fbnetv3.training.data.load import load_data
from fbnetv3.training.loop import Trained
from fbnetv3.version import __version__
from tests.search.images import colour_space, fashion_config, write_noise
from tests.search.made_up import make_trials
from tests.search.scripted import config


@pytest.fixture
def context(tmp_path):
    return Context.of(config(tmp_path, seed=3, final_stretch=2))


@pytest.fixture
def row(context):
    return context.pool()[0].tolist()


def test_the_final_schedule_is_longer_and_decays_slower(context, row):
    candidate, chosen = context.space.candidate(row, context.base, "any"), final_candidate(context, row)
    assert chosen.recipe == candidate.recipe.stretched(2)
    assert chosen.recipe.epochs == 4
    assert chosen.arch == dataclasses.replace(candidate.arch, name="micro_quickstart_3")


def test_the_name_of_a_final_network_may_have_a_suffix(context, row):
    assert final_candidate(context, row, "_flops_450M").arch.name == "micro_quickstart_3_flops_450M"


def test_no_trial_has_the_seed_of_the_final_training(context):
    seeds = [final_seed(context, extra) for extra in range(5)]
    assert len({*seeds}) == 5
    assert not {*seeds} & {
        context.trial_seed(round, i) for round in range(9) for i in range(48) if (round, i) != (0, 0)
    }


def test_a_pair_says_what_it_was_searched_for_and_with(context, row):
    chosen = final_candidate(context, row)
    pair = make_pair(context, chosen, Constraint("flops", 4e5, 1e5), (66.66666, 0.123456), 2, "nars", {})
    assert (pair.arch, pair.recipe) == (chosen.arch, chosen.recipe)
    assert (pair.space, pair.seed, pair.measured) == ("micro", 3, {})
    assert pair.constraint == {"metric": "flops", "convention": "published", "max": 4e5}
    assert pair.predicted == {"mean": 66.6667, "std": 0.1235}
    assert pair.provenance == environment() | {
        "data": "fashion_mnist",
        "num_classes": 10,
        "in_chans": 1,
        "search": "nars",
        "config": context.config.fingerprint,
        "predicted_after_epochs": 2,
        "training_seed": final_seed(context),
    }


def test_a_pair_names_more_constraints(tmp_path, row):
    latency = {"table": "table.json", "max": 1.5}
    context = Context.of(config(tmp_path, also=[{"metric": "params", "max": 22e3}], latency=latency))
    pair = make_pair(context, final_candidate(context, row), Constraint("flops", 4e5), (1.0, 0.0), 2, "nars", {})
    assert pair.constraint == {
        "metric": "flops",
        "convention": "published",
        "max": 4e5,
        "also": [{"metric": "params", "convention": "published", "max": 22e3}],
        "latency_ms": latency,
    }


def test_the_answer_of_nars_has_its_prediction(context, row):
    proposal = Proposal(tuple(row), (70.0, 1.5), 1)
    pair = pair_of_proposal(context, "nars", proposal, make_trials(context.config, context.space, 1), {})
    assert pair.predicted == {"mean": 70.0, "std": 1.5}
    assert pair.arch == final_candidate(context, row).arch


def test_an_answer_without_a_predictor_has_the_best_measurement(context, row):
    trials = make_trials(context.config, context.space, 1)  # with 90 to 94 percent after their 3 epochs
    pair = pair_of_proposal(context, "random", Proposal(tuple(row), None, 3), trials, {})
    assert pair.predicted == {"mean": 94.0, "std": 0.0}


def test_the_environment_has_the_versions_that_numbers_depend_on():
    found = environment()
    assert set(found) == {"fbnetv3", "python", "torch", "numpy", "machine", "threads_per_trial"}
    assert found["fbnetv3"] == __version__
    assert found["threads_per_trial"] == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Context, folder, training and measurement of a final training, and what it said."""
    folder, said = tmp_path_factory.mktemp("final"), []
    context = Context.of(fashion_config(folder))
    chosen = final_candidate(context, context.pool()[0].tolist())
    made = train_final(context, final_job(context, chosen), folder / "run", lambda *words: said.append(words))
    return context, chosen, folder, made, said


def test_the_network_is_measured_on_the_test_images(trained):
    context, chosen, folder, (_, measured), _ = trained
    file = read_weight_file(folder / "run" / "weights.pt")
    assert file.arch == chosen.arch
    accuracy = measure(file.build(), load_data(context.config.data), "test").acc1
    assert measured == {"split": "test", "epochs": 2, "acc1": accuracy}


def test_the_training_says_what_it_does(trained):
    words = [text for _, _, text in trained[4]]
    assert words
    assert all(text.startswith("training the chosen pair: ") for text in words)


def test_a_final_training_that_has_ended_is_not_made_again(trained):
    context, chosen, folder, (training, measured), _ = trained
    before = (folder / "run" / "final" / "metrics.jsonl").stat().st_mtime_ns
    again, measured_again = train_final(context, final_job(context, chosen), folder / "run", silent)
    assert (again.acc1, measured_again) == (training.acc1, measured)
    assert (folder / "run" / "final" / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_damaged_test_image_does_not_lose_the_training(tmp_path):
    cfg = fashion_config(tmp_path, **colour_space(tmp_path), data=write_noise(tmp_path / "noise", 10))
    context, out = Context.of(cfg), tmp_path / "run"
    chosen = final_candidate(context, context.pool()[0].tolist())
    damaged = tmp_path / "noise" / "test" / "class3" / "2.png"
    content = damaged.read_bytes()
    damaged.write_bytes(b"damaged")
    with pytest.raises(
        InputError, match=r"is no image .*its weights are in .*weights\.pt: remove .* resume the search"
    ):
        train_final(context, final_job(context, chosen), out, silent)
    assert read_weight_file(out / "weights.pt").arch == chosen.arch
    before = (out / "final" / "checkpoint.pt").stat().st_mtime_ns
    damaged.write_bytes(content)
    assert train_final(context, final_job(context, chosen), out, silent)[1]["split"] == "test"
    assert (out / "final" / "checkpoint.pt").stat().st_mtime_ns == before


def test_without_test_images_the_validation_images_are_measured(trained, tmp_path):
    context, chosen, folder, _, _ = trained
    shutil.copytree(folder / "data", tmp_path / "data", ignore=shutil.ignore_patterns("test"))
    context = Context.of(context.config.replace(data=f"memory:{tmp_path / 'data'}"))
    training, measured = train_final(context, final_job(context, chosen), tmp_path / "run", silent)
    assert measured == {"split": "val", "epochs": 2, "acc1": training.acc1[-1]}


def test_a_final_training_without_memory_is_one_line_and_can_be_repeated(context, row, tmp_path, monkeypatch):
    class Full:
        def images(self, resolution):
            return None

        def train(self, *_, **__):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB.\nMore words")

    monkeypatch.setattr(final, "image_evaluator", lambda context: Full())
    words = r"^the final training had too little memory \(CUDA out of memory\. Tried to allocate 2 MiB\.\); everything before"
    with pytest.raises(InputError, match=words):
        train_final(context, final_job(context, final_candidate(context, row)), tmp_path / "run", silent)


class Trains:
    """A training on pretended GPUs: it notes where it trains."""

    device = "cuda"

    def __init__(self, fails=""):
        self.calls, self.fails = [], fails

    def train(self, candidate, epochs, seed, out, *, resume):
        if candidate.arch.name == self.fails:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        self.calls.append((candidate.arch.name, epochs, seed, out, resume))
        return Trained(None, (SimpleNamespace(acc1=50.0),) * epochs, epochs)


@pytest.fixture
def two_finals(context, tmp_path):
    rows = context.pool()[:2].tolist()
    names = zip("ab", rows, strict=True)
    return {tmp_path / name: final_job(context, final_candidate(context, row, f"_{name}")) for name, row in names}


def side_by_side(context, finals, evaluator, monkeypatch):
    said = []
    monkeypatch.setattr(final, "image_evaluator", lambda context: evaluator)
    monkeypatch.setattr(final, "device_of", lambda evaluator: evaluator.device)
    train_side_by_side(context, finals, ExecutorSettings(workers=1), lambda *words: said.append(words))
    return said


def test_final_trainings_run_side_by_side_in_their_folders(context, two_finals, tmp_path, monkeypatch):
    evaluator = Trains()
    said = side_by_side(context, two_finals, evaluator, monkeypatch)
    names = [job.candidate.arch.name for job in two_finals.values()]
    assert said == [(1, 2, f"trained {names[0]}"), (2, 2, f"trained {names[1]}")]
    epochs, seed = next(iter(two_finals.values())).epochs, final_seed(context)
    assert evaluator.calls == [
        (name, epochs, seed, tmp_path / folder / "final", True) for name, folder in zip(names, "ab", strict=True)
    ]


def test_a_final_training_that_fails_is_named_with_what_to_do(context, two_finals, tmp_path, monkeypatch):
    name = two_finals[tmp_path / "a"].candidate.arch.name
    words = (
        f"the final training of {name} failed: the memory of the GPU was too small .*; fix the cause, and call again"
    )
    with pytest.raises(InputError, match=words):
        side_by_side(context, two_finals, Trains(fails=name), monkeypatch)


@pytest.mark.parametrize(
    ("settings", "local"),
    [
        (ExecutorSettings(workers=3, trial_timeout=5.0), ExecutorSettings(workers=3)),
        (ExecutorSettings("ray", workers=64, address="auto", trials_per_gpu=2), ExecutorSettings(trials_per_gpu=2)),
    ],
    ids=["time limit", "ray"],
)
def test_final_trainings_run_on_this_machine_without_the_limit_of_a_trial(
    context, two_finals, monkeypatch, settings, local
):
    started = []

    class StartedError(Exception):
        pass

    def start(self, evaluator):
        started.append(self)
        raise StartedError

    monkeypatch.setattr(ExecutorSettings, "start", start)
    monkeypatch.setattr(final, "image_evaluator", lambda context: Trains())
    monkeypatch.setattr(final, "device_of", lambda evaluator: evaluator.device)
    with pytest.raises(StartedError):
        train_side_by_side(context, two_finals, settings, silent)
    assert started == [local]


def test_on_a_cpu_with_one_worker_nothing_runs_side_by_side(context, two_finals, monkeypatch):
    evaluator = Trains()
    evaluator.device = "cpu"
    assert side_by_side(context, two_finals, evaluator, monkeypatch) == []
    assert evaluator.calls == []
