"""What the stages of a search share."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution.images import ImageEvaluator
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context, epochs_for, image_evaluator, image_id
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.latency import LatencyTable, covering, distinct_parts, save_table
from fbnetv3.search.space.table import TableEvaluator
from fbnetv3.search.trial import Trial
from tests.search.images import colour_space, write_noise
from tests.search.scripted import config
from tests.search.tables import whole_grid


@pytest.fixture
def context(tmp_path):
    return Context.of(config(tmp_path))


def trial(round, index, acc1, status="ok"):
    return Trial(round, index, [index], 0, 2, 1, 1, None, acc1, status, 0.0)


def test_it_loads_what_the_configuration_names(context):
    assert context.space.name == "micro"
    assert (context.base.epochs, context.base.batch_size) == (2, 500)


def test_channels_classes_size_and_epochs_are_taken_from_the_data(tmp_path):
    data = write_noise(tmp_path / "data", 4)  # 48 training images of 20 x 20 pixels in colour
    cfg = config(tmp_path, space="images", data=data, epochs="data", constraint={"metric": "params", "max": 1e7})
    context = Context.of(cfg)
    assert (context.space.in_chans, context.space.num_classes, context.space.resolutions) == (3, 4, (20,))
    assert context.base.epochs == context.config.epochs == 100
    assert Context.of(cfg.replace(epochs=7)).base.epochs == 7
    with pytest.raises(InputError, match="quickstart names no data: give --data"):
        Context.of(cfg.replace(data=None))


@pytest.mark.parametrize(("images", "epochs"), [(10_000, 3), (1_600, 20), (30, 100), (10**6, 2)])
def test_a_training_has_about_500_steps(images, epochs):
    assert epochs_for(images, 64) == epochs


def test_an_unknown_space_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown search space 'nano'"):
        Context.of(config(tmp_path, space="nano"))


def test_a_stretch_that_the_recipe_does_not_allow_is_refused_before_any_training(tmp_path):
    cfg = config(tmp_path, final_stretch=900)
    recipe = Path(cfg.recipe)
    recipe.write_text(recipe.read_text().replace("epochs: 2", "epochs: 2000"))
    with pytest.raises(InputError, match=r"epochs is 1800000; .* less than or equal to 1000000"):
        Context.of(cfg)


def test_the_constraints_are_all_of_the_configuration(tmp_path):
    context = Context.of(config(tmp_path, also=[{"metric": "params", "max": 22e3}]))
    assert context.constraints.constraints == (context.config.constraint, Constraint("params", 22e3))
    assert context.constraints.measured == ()


def test_a_latency_is_a_constraint_too(tmp_path, context):
    space = context.space
    times = dict.fromkeys(distinct_parts(space, covering(space)), 1.0)
    save_table(LatencyTable("micro", {"cpu": "none"}, times), tmp_path / "table.json")
    context = Context.of(config(tmp_path, latency={"table": str(tmp_path / "table.json"), "max": 12.5}))
    assert [limit.max for limit in context.constraints.measured] == [12.5]


def test_a_latency_table_that_is_not_there_is_refused(tmp_path):
    context = Context.of(config(tmp_path, latency={"table": "absent.json", "max": 1.0}))
    with pytest.raises(InputError, match=r"absent\.json"):
        context.constraints  # noqa: B018


def test_the_pool_is_different_feasible_and_drawn_once(context):
    pool = context.pool()
    assert len(np.unique(pool, axis=0)) == context.config.pool
    assert context.constraints.satisfied(pool).all()
    assert context.pool() is pool


def test_a_seed_is_a_function_of_the_search_and_the_place(context):
    seeds = [context.trial_seed(round, index) for round in range(5) for index in range(20)]
    assert len(set(seeds)) == 100
    again = Context.of(context.config)
    assert [again.trial_seed(round, index) for round in range(5) for index in range(20)] == seeds
    assert Context.of(context.config.replace(seed=1)).trial_seed(0, 0) != seeds[0]


def test_the_label_is_the_accuracy_after_an_epoch(context):
    assert context.label(trial(1, 0, [40.0, 50.0]), 1) == 40.0
    assert context.label(trial(1, 0, [40.0, 50.0]), 2) == 50.0


def test_the_label_of_a_diverged_training_is_chance(context):
    assert context.label(trial(1, 0, [], "diverged"), 1) == 10.0


def test_chance_depends_on_the_classes_of_the_data(context):
    assert Context.of(context.config.replace(classes=4)).chance == 25.0


def test_of_equally_accurate_trials_the_earliest_is_the_best(context):
    trials = [trial(2, 0, [1.0, 50.0]), trial(1, 1, [2.0, 50.0]), trial(1, 0, [3.0, 49.0])]
    assert context.best_trial(trials) is trials[1]


def test_a_failed_trial_is_the_best_only_if_all_failed(context):
    bad, good = trial(1, 0, [], "failed"), trial(1, 1, [1.0, 2.0])
    assert context.best_trial([bad, good]) is good
    assert context.best_trial([bad]) is bad


def test_a_stopped_trial_is_never_the_best(context):
    stopped = dataclasses.replace(trial(1, 0, [99.0]), epochs=2, stopped=True)
    good = trial(1, 1, [1.0, 2.0])
    assert context.best_trial([stopped, good]) is good


def test_candidates_of_networks_are_trained_on_the_data(context):
    evaluator = context.evaluator()
    assert isinstance(evaluator, ImageEvaluator)
    assert (evaluator.data, evaluator.precision, evaluator.readers) == ("fashion_mnist", "fp32", 0)


def test_candidates_of_a_table_are_looked_up(tmp_path):
    cfg = config(tmp_path, space=whole_grid(tmp_path / "t.csv"), constraint=Constraint("flops", 1e9))
    assert isinstance(Context.of(cfg).evaluator(), TableEvaluator)


def test_a_preset_without_data_says_what_to_give():
    with pytest.raises(InputError, match="imagenet200 names no data: give --data"):
        Context.of(load_preset("imagenet200")).evaluator()


def test_space_and_data_must_have_the_same_channels(context):
    rgb = dataclasses.replace(context.space, in_chans=3)
    with pytest.raises(InputError, match="is for 3 channels and 10 classes, data fashion_mnist has 1 and 10; choose"):
        image_evaluator(dataclasses.replace(context, space=rgb))


def test_the_classes_of_the_configuration_are_those_of_the_data(tmp_path):
    cfg = config(tmp_path, **colour_space(tmp_path), data=write_noise(tmp_path / "data", 4), classes=4)
    assert isinstance(Context.of(cfg).evaluator(), ImageEvaluator)
    with pytest.raises(InputError, match=r"is for 3 channels and 10 classes, data .* has 3 and 4; choose a space"):
        Context.of(cfg.replace(classes=None)).evaluator()


def test_the_images_of_a_search_are_those_of_train_and_val(tmp_path):
    """A test image that is damaged may be taken out of the set while a search runs: no trial sees it."""
    write_noise(tmp_path / "data", 4)
    settings = colour_space(tmp_path) | {"classes": 4}
    ids = {}
    for left in ("nothing", "test", "val", "train"):
        shutil.copytree(tmp_path / "data", tmp_path / left)
        if left != "nothing":
            (tmp_path / left / left / "class1" / "2.png").unlink()
        ids[left] = image_id(Context.of(config(tmp_path, **settings, data=str(tmp_path / left))))
    assert ids["nothing"] == ids["test"]
    assert len(set(ids.values())) == 3


def test_trials_become_a_source_for_other_searches(context):
    first, second = context.pool()[:2].tolist()

    def made(row, acc1, status="ok"):
        return dataclasses.replace(trial(1, 0, acc1, status), candidate=row, epochs=max(len(acc1), 1))

    trials = [made(first, [50.0, 60.0]), made(second, [55.0]), made(second, [], "diverged"), made(first, [], "failed")]
    source = context.source(trials, epochs=2)
    assert source.accuracies == [60.0, 55.0, 10.0]  # the second was stopped after one epoch; 10% is chance
    assert source.candidates[1] == source.candidates[2] == list(context.space.values(second).values())
    assert context.source(trials, epochs=1).accuracies == [50.0, 55.0, 10.0]
    with pytest.raises(InputError, match="all trainings of quickstart failed: no search can start from it"):
        context.source(trials[3:], 2)


def test_a_stopped_trial_is_handed_on_with_what_was_expected_of_it(context):
    whole = [trial(1, k, [k, 10.0 + k]) for k in range(12)]
    stopped = dataclasses.replace(trial(2, 0, [5.5]), epochs=2, stopped=True)
    rows = context.pool()[:13].tolist()
    trials = [dataclasses.replace(t, candidate=row) for t, row in zip([*whole, stopped], rows, strict=True)]
    assert context.source(trials, epochs=2).accuracies[12] == pytest.approx(15.5, abs=0.1)
