"""The first screen of a report: what was found, how sure it is, and what it is better than."""

import dataclasses

import pytest

from fbnetv3.search.report.outcome import image_counts, outcome, percent, plot_answers, split_of
from fbnetv3.search.runs.confirm import Confirmation
from tests.search.made_up import Page, make_config, make_result, make_trials


@pytest.fixture
def screen(space):
    """A function that returns the words of the first screen of a search with random search."""
    config = make_config()
    trials = make_trials(config, space, 3)
    results = [make_result(config, space, trials), make_result(config, space, trials, "random", 80.0)]

    def words(confirmation=None, results=results):
        return Page(outcome(config, results, image_counts(config), confirmation)).words

    words.results = results
    return words


def confirmed(**accuracies):
    return Confirmation("test", 6, accuracies)


def test_one_training_each_says_what_it_cannot_show(screen):
    words = screen()
    # By hand: (0.8125 + 0.00048 -+ 1.96 * 0.00619) / 1.00096
    interval = "(95% interval 80.0% to 82.4%, by the choice of images alone; other seeds add to it)"
    assert (
        f"it classifies 81.25% of the 4,000 test images correctly {interval}. No earlier step had used them." in words
    )
    assert "which is 1.25 points below NARS" in words
    assert "Each accuracy is of one training. fbnetv3 search confirm DIR repeats" in words


def test_a_confirmed_answer_says_how_sure_it_is(screen):
    words = screen(confirmed(nars=[80.0, 82.0], random=[70.0, 72.0]))
    # By hand in tests/search/runs/test_confirm.py: 81 +- 4.30, and 10 +- 6.08.
    assert "81.00% of the 4,000 test images correctly, the mean of 2 trainings with different seeds" in words
    assert "(95% interval 76.70% to 85.30%). No earlier step had used them." in words
    assert "10.00 points above the answer of random search, which trained 15 candidates too" in words
    assert "(95% interval +3.92 to +16.08)." in words
    assert "search confirm" not in words
    assert "do not show a difference" not in words


def test_a_difference_that_may_be_chance_is_none(screen):
    words = screen(confirmed(nars=[80.0, 82.0], base_recipe=[80.5, 82.5]))
    assert (
        "0.50 points below the same network with the recipe that the search began with, fashion_mnist/micro (95% interval "
        "-6.58 to +5.58). These trainings do not show a difference."
    ) in words


def test_an_answer_that_always_diverged_is_not_compared(screen):
    words = screen(confirmed(nars=[80.0, 82.0], base_recipe=[None, None]))
    assert "points" not in words


def test_without_a_final_training_there_is_no_accuracy(screen):
    nars = screen.results[0]
    untrained = dataclasses.replace(nars, pair=dataclasses.replace(nars.pair, measured={}))
    assert (percent(untrained.pair), split_of(untrained)) == ("-", "")
    words = screen(results=[untrained])
    assert "It had no final training here." in words
    assert "%" not in words


def test_the_plot_has_every_training_and_every_mean(monkeypatch):
    drawn = []
    monkeypatch.setattr("fbnetv3.search.report.outcome.png_of", lambda figure: drawn.append(figure) or b"")
    plot = plot_answers(confirmed(nars=[80.0, 82.0], random=[78.0, 79.0], base_recipe=[None, None]))
    [axes] = drawn[0].axes
    dots = [collection.get_offsets().tolist() for collection in axes.collections]
    assert dots == [[[80.0, 2.0], [82.0, 2.0]], [[78.0, 1.0], [79.0, 1.0]], []]
    assert [text.get_text() for text in axes.texts] == ["81.00", "78.50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "same network,\nbase recipe",
        "random search",
        "NARS",
    ]
    assert plot.caption.startswith("Dots are trainings of 6 epochs")
