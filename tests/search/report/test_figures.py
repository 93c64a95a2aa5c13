"""Plots of what the search knows: the predictor, early stopping, importance and the evolution, by hand."""

import dataclasses
import math

import numpy as np
import pytest

from fbnetv3.search.report.figures import (
    plot_early_stopping,
    plot_evolution,
    plot_importance,
    plot_predicted,
    plot_proxy,
)
from fbnetv3.search.report.importance import Importance
from tests.search.made_up import (
    MEASURED,
    PREDICTED,
    diverged,
    make_config,
    make_result,
    make_trials,
    repeats,
)


@pytest.fixture
def config():
    return make_config(early_stopping=0.8)


@pytest.fixture
def trials(config, space):
    return make_trials(config, space, 3)


@pytest.fixture
def result(config, space, trials):
    return make_result(config, space, trials)


def changed(result, **proposal):
    return dataclasses.replace(result, proposal=dataclasses.replace(result.proposal, **proposal))


def with_trials(result, trials):
    return dataclasses.replace(result, trials=tuple(trials))


def lines(axes):
    """The drawn lines, by label."""
    return {line.get_label(): np.asarray(line.get_data()) for line in axes.lines}


def test_statistics_are_drawn_with_the_variance_that_is_explained(result, drawn):
    plot = plot_proxy(result)
    flops, params = drawn[0].axes
    assert (flops.get_title(), params.get_title()) == ("R² 0.9900", "R² 1.0000")
    assert (flops.get_xlabel(), params.get_ylabel()) == ("exact FLOPs", "predicted parameters")
    assert np.asarray(flops.collections[0].get_offsets()).tolist() == [[100, 110], [200, 190], [300, 300]]
    assert plot.caption.startswith("The 3 architectures of the pool that the encoder was not pretrained on")


def test_without_statistics_the_plot_says_so(result, drawn):
    plot = plot_proxy(changed(result, proxy=()))
    assert (plot.png, plot.caption) == (None, "This search kept no predictions of statistics.")


def test_predictions_are_drawn_round_by_round(config, result, drawn):
    plot_predicted(config, result)
    (axes,) = drawn[0].axes
    second, third = axes.containers
    assert [second.get_label(), third.get_label()] == ["round 2", "round 3"]
    assert np.asarray(second.lines[0].get_data()).tolist() == [list(PREDICTED), list(MEASURED)]


def test_predictions_below_the_floor_are_drawn_on_it_and_counted(config, result, trials, drawn):
    trials[7] = dataclasses.replace(trials[7], acc1=[5.0, 10.0])
    plot = plot_predicted(config, with_trials(result, trials))
    assert plot.caption.endswith("%: 1 training with less.")
    (axes,) = drawn[0].axes
    drawn_values = np.asarray(axes.containers[0].lines[0].get_data())[1]
    assert drawn_values.min() > 10.0


def test_without_predictions_the_plot_says_so(config, result, trials, drawn):
    plot = plot_predicted(config, with_trials(result, trials[:5]))
    assert plot.png is None
    assert "there was one round only, or all later trainings failed" in plot.caption


def test_early_stopping_draws_the_rank_correlation_of_every_epoch(config, result, drawn):
    """After 2 epochs the ranks of the first batch are 2 1 4 3 5, after all 1 2 3 4 5: 0.8, and Kendall's (8 - 2) / 10."""
    plot_early_stopping(config, result)
    found = lines(drawn[0].axes[0])
    assert found["Spearman"][0].tolist() == [1, 2, 3]
    assert found["Spearman"][1][1:] == pytest.approx([0.8, 1.0])
    assert found["Kendall"][1][1:] == pytest.approx([0.6, 1.0])
    # Of 5 candidates, Fisher's z of 0.8 is 1.0986 and its standard error 1 / sqrt(2).
    assert found["its lower end"][0].tolist() == [1, 2]
    assert found["its lower end"][1][1] == pytest.approx(math.tanh(1.0986 - 0.7071), abs=1e-4)
    assert found["threshold 0.8 (Spearman)"][1].tolist() == [0.8, 0.8]
    assert found["length of later trainings"][0].tolist() == [2, 2]


def test_early_stopping_in_words(config, result, trials, drawn):
    """From epoch 2 on, five candidates rank like at the end. Half a swap of neighbours less than 1 is 0.95."""
    clear = [dataclasses.replace(t, acc1=[50.0, t.acc1[2] - 1.0, t.acc1[2]]) for t in trials[:5]]
    words = plot_early_stopping(config, with_trials(result, [*clear, *trials[5:]])).caption
    assert words.startswith("From the 5 trainings of the first batch that succeeded.")
    assert "The ranking after epoch 2 of 3 correlates with the last by 1.00 (Spearman; Kendall 1.00)" in words
    assert "the lower end of the interval (one standard error of Fisher's z) is 0.8 or more" in words
    assert "At this epoch it is 0.81: with about 84% confidence, the true correlation is higher." in words
    assert "It is unknown how far two trainings of the same candidates with different seeds agree" in words


def test_an_epoch_that_an_earlier_version_chose_may_be_an_accident(config, result, drawn):
    words = plot_early_stopping(config, result).caption
    assert "The ranking after epoch 2 of 3 correlates with the last by 0.80 (Spearman; Kendall 0.60)" in words
    assert "An earlier version chose this epoch, the first that reaches 0.8" in words
    assert "so the choice may be an accident of 5 candidates" in words


def test_the_noise_of_a_ranking_is_drawn_where_candidates_were_repeated(config, result, trials, drawn):
    """Four repeats rank 90 .. 93 as 2 1 3 4: 1 - 6 * 2 / (4 * 15) = 0.8, one of six pairs turned round: 4 / 6."""
    noisy = with_trials(result, [*trials, *repeats(trials, 88.0, 87.0, 89.0, 90.0)])
    words = plot_early_stopping(config, noisy).caption
    assert "Trainings of the same 4 candidates with different seeds correlate by 0.80 (Kendall 0.67)" in words
    assert "is unknown" not in words
    assert lines(drawn[0].axes[0])["seed to seed, Spearman"][1] == pytest.approx([0.8, 0.8])


def test_a_threshold_that_saves_nothing_says_so(result, drawn):
    plot = plot_early_stopping(make_config(early_stopping=0.8), changed(result, epochs=3))
    assert (
        "The threshold of 0.8 saves nothing here: from no epoch before the last, 3, does the lower end" in plot.caption
    )
    assert plot.png is not None


@pytest.mark.parametrize(
    ("threshold", "words"), [(0.92, "at least 7 are needed"), (1.0, "no number of candidates suffices")]
)
def test_too_few_candidates_save_nothing(result, drawn, threshold, words):
    caption = plot_early_stopping(make_config(early_stopping=threshold), changed(result, epochs=3)).caption
    assert f"cannot tell whether an earlier epoch reaches the threshold of {threshold:g}: {words}" in caption
    assert "Nothing is saved, and all trainings run to the end." in caption


def test_trainings_that_a_model_ended_are_counted_with_the_epochs_that_they_saved(result, trials, drawn):
    """5 trainings of 3 epochs and 10 of 2, three of which end after the first one: 3 of 35 epochs."""
    config = make_config(stopping="model")
    stopped = [dataclasses.replace(t, acc1=t.acc1[:1], stopped=True) for t in trials[-3:]]
    assert [t.epochs for t in trials] == [3] * 5 + [2] * 10
    plot = plot_early_stopping(config, with_trials(result, [*trials[:-3], *stopped]))
    assert "A model of learning curves ended 3 later trainings early" in plot.caption
    assert "That saved 9% of all epochs" in plot.caption
    assert not [label for label in lines(drawn[0].axes[0]) if "threshold" in label or "length" in label]
    assert "ended none of them early" in plot_early_stopping(config, result).caption


@pytest.mark.parametrize("kept", [2, 0], ids=["two trainings", "none"])
def test_without_a_ranking_there_is_no_early_stopping(config, result, trials, drawn, kept):
    plot = plot_early_stopping(config, with_trials(result, [*trials[:kept], *map(diverged, trials[kept:5])]))
    assert plot.png is None
    assert "fewer than three trainings of the first batch succeeded" in plot.caption


def test_the_most_important_coordinates_are_drawn_last_with_their_deviation(drawn):
    loss = np.array([[0.1, 0.5, 0.0], [0.3, 0.7, 0.0]])
    plot = plot_importance(Importance(("lr", "width", "depth"), loss, np.array([0.6, 0.8])), most=2)
    (axes,) = drawn[0].axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["lr", "width"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.2, 0.6])
    assert "Permutation importance of the 2 most important of 3 coordinates" in plot.caption
    assert "Without shuffling the head explains 70% of the variance" in plot.caption


def test_few_trainings_have_no_importance(drawn):
    plot = plot_importance(None)
    assert plot.png is None
    assert plot.caption.startswith("Fewer than 20 trainings succeeded")


def test_what_is_not_explained_has_no_importance(drawn):
    plot = plot_importance(Importance(("lr",), np.zeros((2, 1)), np.array([-0.1, -0.3])))
    assert plot.png is None
    assert "the predictor explains nothing of the accuracy (R² -0.20)" in plot.caption


def test_the_evolution_is_drawn_generation_by_generation(config, result, drawn):
    plot = plot_evolution(config, result)
    (line,) = drawn[0].axes[0].lines
    assert line.get_ydata().tolist() == [65.0, 66.0, 66.6]
    assert "the predicted accuracy minus 1 times its standard deviation" in plot.caption


def test_without_an_evolution_the_plot_says_so(config, result, drawn):
    plot = plot_evolution(config, changed(result, history=()))
    assert (plot.png, plot.caption) == (None, "This search had no evolution.")
