"""The best trial so far stands in for the answer of a search that has not ended."""

import pytest

from fbnetv3.errors import InputError
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.runs.provisional import provisional_results
from fbnetv3.search.space.reader import load_space
from tests.search.made_up import diverged, make_config, make_result, make_trials, write_search, write_trials

SPACE, CONFIG = load_space("micro"), make_config()
TRIALS = make_trials(CONFIG, SPACE, 3)


def test_the_best_trial_is_the_answer_for_now(tmp_path):
    """After 2 epochs, 1.4 and 2.4 have 65%; the earlier one counts."""
    write_trials(tmp_path, CONFIG, TRIALS[:10])
    (found,) = provisional_results(load_search(tmp_path))
    assert found.proposal.candidate == tuple(TRIALS[4].candidate)
    assert (found.proposal.predicted, found.proposal.epochs) == ((65.0, 0.0), 2)
    assert found.pair.arch.rows == SPACE.arch(TRIALS[4].candidate, "any").rows
    assert (found.pair.measured, found.curve, found.flops) == ({}, (), TRIALS[4].flops)
    assert found.trials == tuple(TRIALS[:10])


def test_a_method_without_a_measured_trial_is_left_out(tmp_path):
    config = make_config(baseline=True)
    both = [make_result(config, SPACE, TRIALS), make_result(config, SPACE, TRIALS, "random")]
    write_search(tmp_path, config, both)
    assert [r.method for r in provisional_results(load_search(tmp_path))] == ["nars", "random"]
    write_trials(tmp_path, config, [], "random")
    assert [r.method for r in provisional_results(load_search(tmp_path))] == ["nars"]


def test_without_any_there_is_nothing_to_report(tmp_path):
    write_trials(tmp_path, CONFIG, [diverged(t) for t in TRIALS[:3]])
    with pytest.raises(InputError, match="has no training yet that succeeded: there is nothing to report"):
        provisional_results(load_search(tmp_path))
