"""Plots of the search process: what is drawn where, by hand, and what is said where nothing can be drawn."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from fbnetv3.pages.plots import plot_axes
from fbnetv3.search.nars.proposal import Finalist
from fbnetv3.search.report.plots import (
    NOT_TRIED,
    below,
    floor_of,
    groups,
    plot_convergence,
    plot_final,
    plot_pareto,
    plot_rounds,
    scatter,
    short_name,
)
from tests.search.made_up import MEASURED, diverged, make_config, make_result, make_trials, repeats


@pytest.fixture
def config():
    return make_config()


@pytest.fixture
def trials(config, space):
    return make_trials(config, space, 3)


@pytest.fixture
def results(config, space, trials):
    """NARS, whose pair was its last trial, and random search."""
    return [make_result(config, space, trials), make_result(config, space, trials, "random")]


def lost(result):
    return dataclasses.replace(result, trials=tuple(map(diverged, result.trials)))


def untried(result):
    """A result whose pair was no trial."""
    candidate = tuple(0 for _ in result.proposal.candidate)
    return dataclasses.replace(result, proposal=dataclasses.replace(result.proposal, candidate=candidate))


def dots(axes):
    """The drawn dots, by label."""
    return {c.get_label(): np.asarray(c.get_offsets()) for c in axes.collections if len(c.get_offsets())}


def stars(axes):
    """The places of the stars."""
    large = [c for c in axes.collections if hasattr(c, "get_sizes") and c.get_sizes().tolist() == [130]]
    return [place for c in large for place in np.asarray(c.get_offsets()).tolist()]


def lines(axes):
    """The drawn lines, by label."""
    return {line.get_label(): np.asarray(line.get_data()) for line in axes.lines}


def legend(figure):
    found = figure.legends[0] if figure.legends else figure.axes[0].get_legend()
    return None if found is None else [text.get_text() for text in found.get_texts()]


def test_the_floor_is_three_interquartile_ranges_below_the_lower_quartile():
    assert floor_of([10, 60, 61, 62, 63]) == 54.0  # quartiles 60 and 62


def test_the_floor_is_the_lowest_value_if_that_is_higher():
    assert floor_of([59, 60, 61, 62, 63]) == 59.0


def test_a_caption_says_how_many_trainings_are_below_the_floor():
    assert below([10, 20, 60], 54) == " Triangles at the bottom: 2 trainings that reached less than 54.0%."
    assert below([60, 61], 60) == ""


def test_dots_below_the_floor_become_triangles_on_it():
    axes = plot_axes("x", "y")
    scatter(axes, [1, 2, 3], [60, 10, 61], 54.0, label="trials")
    above, under = (np.asarray(c.get_offsets()).tolist() for c in axes.collections)
    assert above == [[1, 60], [3, 61]]
    assert under == [[2, 54]]
    assert axes.collections[0].get_label() == "trials"


def test_rounds_and_other_methods_are_groups(config, results, trials):
    assert groups(config, results) == [
        ("nars", "1", trials[:5]),
        ("nars", "2", trials[5:10]),
        ("nars", "3", trials[10:]),
        ("random", "random search", list(results[1].trials)),
    ]


def test_a_round_is_a_number_in_its_column_or_a_name(config):
    extended = config.replace(extensions=[7])
    assert [short_name(extended, n) for n in range(7)] == ["repeats", "1", "2", "3", "finalists", "5", "finalists 2"]


def test_every_training_is_a_dot_of_its_round(config, results, drawn):
    plot = plot_rounds(config, results)
    (axes,) = drawn[0].axes
    shown = [np.asarray(c.get_offsets()) for c in axes.collections if len(c.get_offsets())]
    first = shown[0]
    assert first[:, 1].tolist() == list(MEASURED)
    assert np.abs(first[:, 0]).max() == pytest.approx(0.22)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3", "random\nsearch"]
    assert axes.get_ylabel() == "accuracy (%), 2 epochs"
    assert plot.png == b"a PNG"


def test_the_returned_pair_is_a_star_in_its_round(config, results, drawn):
    plot = plot_rounds(config, results)
    assert stars(drawn[0].axes[0]) == [[2.22, 65.0]]  # the last of the third round
    assert "The star is the returned pair." in plot.caption


def test_a_pair_that_was_no_trial_has_no_star(config, results, drawn):
    plot = plot_rounds(config, [untried(results[0])])
    assert stars(drawn[0].axes[0]) == []
    assert NOT_TRIED in plot.caption


def test_repeats_are_no_samples_of_a_round(config, results, trials, drawn):
    again = dataclasses.replace(results[0], trials=(*trials, *repeats(trials, 90.0)))
    plot_rounds(config, [again])
    assert [tick.get_text() for tick in drawn[0].axes[0].get_xticklabels()] == ["1", "2", "3"]


@pytest.mark.parametrize("plot", [partial(plot_rounds, make_config()), plot_convergence], ids=["rounds", "convergence"])
def test_without_a_measured_training_nothing_is_drawn(results, drawn, plot):
    found = plot([lost(result) for result in results])
    assert (found.png, found.caption) == (None, "No training succeeded.")
    assert drawn == []


def test_the_front_joins_the_trainings_that_no_cheaper_one_beats(config, results, drawn):
    costs = [4e5, 1e5, 2e5, 2e5, 3e5]
    trials = [
        dataclasses.replace(t, flops=int(cost), acc1=[50.0, acc1])
        for t, cost, acc1 in zip(results[0].trials, costs, (60.0, 61.0, 62.0, 63.0, 62.5), strict=False)
    ]
    plot_pareto(config, [dataclasses.replace(results[0], trials=tuple(trials))], [])
    assert lines(drawn[0].axes[0])["front of all trials"].tolist() == [[1e5, 2e5], [61.0, 63.0]]


def test_costs_and_accuracies_of_every_method_are_drawn(config, results, drawn):
    plot = plot_pareto(config, results, [])
    (axes,) = drawn[0].axes
    assert dots(axes)["NARS"][:, 0].tolist() == [t.flops for t in results[0].trials]
    assert axes.get_xlabel() == "FLOPs"
    assert "pair of NARS" in legend(drawn[0])
    assert "pair of random search" in legend(drawn[0])
    assert "Diamonds" not in plot.caption


def test_parameters_are_drawn_where_they_are_constrained(space, drawn):
    config = make_config(constraint={"metric": "params", "max": 30000.0})
    result = make_result(config, space, make_trials(config, space, 2))
    plot = plot_pareto(config, [result], [])
    (axes,) = drawn[0].axes
    assert dots(axes)["NARS"][:, 0].tolist() == [t.params for t in result.trials]
    assert (axes.get_xlabel(), plot.title) == ("parameters", "Accuracy against parameters")


@pytest.fixture
def shortened(results, trials):
    """Later trials stopped after 2 of 3 epochs. Two finalists trained for all 3, and the second one is the answer."""
    ends = ([50.0, 66.0, 95.0], [50.0, 60.0, 97.0])
    late = [dataclasses.replace(trials[i], round=4, index=i, epochs=3, acc1=acc1) for i, acc1 in enumerate(ends)]
    finalists = tuple(Finalist(tuple(t.candidate), (60.0, 1.0), t.acc1[1], t.acc1[2]) for t in late)
    proposal = dataclasses.replace(results[0].proposal, candidate=finalists[1].candidate, finalists=finalists)
    return dataclasses.replace(results[0], proposal=proposal, trials=(*trials, *late))


def test_the_star_is_among_the_trainings_that_the_pair_was_chosen_by(config, shortened, drawn):
    """After 2 epochs the answer has 60%, far below the front, and after all 3 epochs it is on the front."""
    plot = plot_pareto(config, [shortened], [{"flops": 199_000, "predicted": 61.5}])
    left, right = drawn[0].axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("accuracy (%), 2 epochs", "accuracy (%), 3 epochs")
    assert (len(dots(left)["NARS"]), len(dots(right)["NARS"])) == (17, 7)  # the first batch and the finalists went on
    flops = shortened.trials[-1].flops
    assert (stars(left), stars(right)) == ([[flops, 60.0]], [[flops, 97.0]])
    hollow, full = (
        [c for c in axes.collections if [flops, y] in c.get_offsets().tolist()][-1]
        for axes, y in ((left, 60.0), (right, 97.0))
    )
    assert len(hollow.get_facecolors()) == 0
    assert len(full.get_facecolors()) == 1
    assert 97.0 in lines(right)["front of all trials"][1]
    assert "pairs of budgets, predicted" in dots(left)
    assert "On the left its star is hollow, because it was not chosen by these accuracies." in plot.caption


def test_the_star_among_the_rounds_is_hollow_where_it_was_not_chosen_by_them(config, results, shortened, drawn):
    assert "hollow because it was chosen by accuracies after 3 epochs" in plot_rounds(config, [shortened]).caption
    assert plot_rounds(config, results).caption.endswith("The star is the returned pair.")


def test_a_search_without_early_stopping_has_one_front(config, shortened, drawn):
    whole = dataclasses.replace(shortened, proposal=dataclasses.replace(shortened.proposal, epochs=3))
    plot = plot_pareto(config, [whole], [])
    (axes,) = drawn[0].axes
    assert stars(axes) == [[shortened.trials[-1].flops, 97.0]]
    assert "hollow" not in plot.caption


def test_a_pair_that_was_no_trial_is_a_dotted_line_at_its_cost(config, results, drawn):
    plot_pareto(config, [untried(results[0])], [])
    assert lines(drawn[0].axes[0])["pair of NARS"][0].tolist() == [results[0].flops] * 2


def test_a_constraint_far_from_all_trials_is_not_drawn(config, results, drawn):
    plot_pareto(config, results, [])
    assert "constraint" in lines(drawn[0].axes[0])
    far = make_config(constraint={"metric": "flops", "max": 1e9})
    plot_pareto(far, results, [])
    assert "constraint" not in lines(drawn[1].axes[0])


def test_pairs_of_budgets_are_diamonds(config, results, drawn):
    plot = plot_pareto(config, results, [{"flops": 199_000, "predicted": 61.5}])
    assert dots(drawn[0].axes[0])["pairs of budgets, predicted"].tolist() == [[199_000, 61.5]]
    assert "Diamonds are pairs of other budgets" in plot.caption


def test_without_a_measured_training_there_is_no_front(config, results, drawn):
    assert plot_pareto(config, [lost(results[0])], []).caption == "No training succeeded."


def test_convergence_is_drawn_against_trainings_and_epochs(results, drawn):
    plot_convergence(results)
    left, right = drawn[0].axes
    trainings, best = lines(left)["NARS"]
    assert trainings.tolist() == list(range(1, 16))
    assert best.tolist() == [61, 61, 64, 64, 65] + [65] * 10
    epochs, again = lines(right)["NARS"]
    assert epochs.tolist() == [3, 6, 9, 12, 15, *range(17, 37, 2)]
    assert again.tolist() == best.tolist()
    assert legend(drawn[0]) == ["NARS", "random search"]


def test_the_final_training_is_drawn_epoch_by_epoch(results, drawn):
    plot_final(results)
    epochs, accuracies = lines(drawn[0].axes[0])["NARS"]
    assert epochs.tolist() == [1, 2, 3, 4, 5, 6]
    assert accuracies.tolist() == list(results[0].curve)


def test_without_a_final_training_its_plot_says_so(results, drawn):
    plot = plot_final([dataclasses.replace(results[0], curve=())])
    assert (plot.png, plot.caption) == (None, "The pair had no final training here.")
