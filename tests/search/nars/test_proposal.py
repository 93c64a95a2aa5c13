"""What a search method answers with."""

import dataclasses

import pytest

from fbnetv3.search.nars.proposal import Finalist, Proposal


def test_an_answer_without_a_predictor_has_a_candidate_and_its_epochs_alone():
    answer = Proposal((1, 2), None, 3)
    assert (answer.history, answer.finalists, answer.proxy) == ((), (), ())


def test_equal_searches_have_equal_answers():
    finalist = Finalist((1, 2), (70.0, 1.0), 60.0, 80.0)
    answers = [Proposal((1, 2), (70.0, 1.0), 3, (69.0, 70.0), (finalist,)) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0] != dataclasses.replace(answers[1], history=(69.0,))


@pytest.mark.parametrize(
    "answer", [Proposal((1,), None, 3), Finalist((1,), (70.0, 1.0), 60.0, 80.0)], ids=["pair", "finalist"]
)
def test_an_answer_cannot_be_changed(answer):
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.candidate = (2,)
