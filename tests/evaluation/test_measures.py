"""The measures of three classes, by hand, and those of scikit-learn where it is installed."""

import math

import numpy as np
import pytest

from tests.evaluation.known import found


def test_three_classes_by_hand():
    """ant: 3 images, 4 predictions, 2 hits. bee: 3, 2, 1. cow has neither images nor predictions."""
    result = found()
    assert dict(result.confusion) == {(0, 0): 2, (0, 1): 1, (1, 0): 2, (1, 1): 1}
    assert (result.images, result.hits, result.acc1) == (6, 3, 50.0)
    ant, bee, cow = result.per_class
    assert (ant.precision, ant.recall, ant.f1) == (50.0, pytest.approx(200 / 3), pytest.approx(100 * 4 / 7))
    assert (bee.precision, bee.recall, bee.f1) == (50.0, pytest.approx(100 / 3), pytest.approx(40.0))
    assert (cow.images, cow.precision, cow.recall, cow.f1) == (0, None, None, None)
    assert result.balanced_acc1 == pytest.approx(50.0)
    assert result.macro_f1 == pytest.approx((400 / 7 + 40) / 2)
    assert result.confused() == [("bee", "ant", 2), ("ant", "bee", 1)]
    assert result.loss == pytest.approx(-sum(map(math.log, (0.82, 0.5, 0.2, 0.05, 0.62, 0.4))) / 6, rel=1e-6)


def test_calibration_by_hand():
    """The confidences 0.5, 0.55, 0.62, 0.7, 0.82 and 0.9 are in different bins of 1/15 each."""
    result = found()
    filled = [(row.images, row.hits, row.mean) for row in result.bins if row.images]
    assert [(n, hits) for n, hits, _ in filled] == [(1, 1), (1, 0), (1, 1), (1, 0), (1, 1), (1, 0)]
    assert [mean for _, _, mean in filled] == pytest.approx([50, 55, 62, 70, 82, 90])
    # Right ones lack what is missing to 1, wrong ones have all of it in excess.
    assert result.ece == pytest.approx(100 * (0.5 + 0.55 + 0.38 + 0.7 + 0.18 + 0.9) / 6)
    assert [row.low <= row.mean / 100 <= row.high for row in result.bins if row.images] == [True] * 6


def test_as_many_right_as_the_confidence_says_is_calibrated():
    rows = [(0, (0.75, 0.25))] * 3 + [(1, (0.75, 0.25))]
    assert found(rows, ("a", "b")).ece == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("classes", "acc5"), [(5, None), (6, 50.0)])
def test_top_5_is_said_of_more_than_five_classes(classes, acc5):
    weights = np.arange(classes, 0, -1) / sum(range(classes + 1))
    rows = [(classes - 1, tuple(weights)), (0, tuple(weights))]
    assert found(rows, tuple(map(str, range(classes)))).acc5 == acc5


def test_one_image_of_one_class():
    result = found([(0, (1.0,))], ("only",))
    assert (result.acc1, result.acc5, result.loss, result.ece, result.macro_f1) == (100.0, None, 0.0, 0.0, 100.0)
    assert result.confused() == []


def test_the_data_of_the_files_has_every_measure():
    data = found().to_dict()
    assert (data["acc1"], data["acc5"], data["images"]) == (50.0, None, 6)
    cow = {"class": "cow", "images": 0, "predicted": 0, "hits": 0, "precision": None, "recall": None, "f1": None}
    assert data["classes"][2] == cow
    assert {"class": "bee", "predicted": "ant", "images": 2} in data["confusion"]
    assert sum(row["images"] for row in data["calibration"]) == 6
    assert data["mistakes"][0]["image"] == "image 3"


def test_the_measures_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    rows = [(int(rng.integers(7)), tuple(rng.dirichlet(np.ones(8)))) for _ in range(200)]
    result = found(rows, tuple("abcdefgh"))
    labels, p = np.array([label for label, _ in rows]), np.array([p for _, p in rows])
    guess, seven = p.argmax(1), range(7)  # class 7 has no images
    assert result.acc1 == pytest.approx(100 * metrics.accuracy_score(labels, guess))
    assert result.acc5 == pytest.approx(100 * metrics.top_k_accuracy_score(labels, p, k=5, labels=range(8)))
    assert result.loss == pytest.approx(metrics.log_loss(labels, p, labels=range(8)), rel=1e-5)
    recall = metrics.recall_score(labels, guess, labels=seven, average="macro")
    assert result.balanced_acc1 == pytest.approx(100 * recall)
    assert result.macro_f1 == pytest.approx(100 * metrics.f1_score(labels, guess, average="macro"))
    table = metrics.confusion_matrix(labels, guess, labels=range(8))
    assert dict(result.confusion) == {(i, j): table[i, j] for i, j in np.argwhere(table).tolist()}
    columns = metrics.precision_recall_fscore_support(labels, guess, labels=seven)[:3]
    for row, *values in zip(result.per_class, *columns, strict=False):
        assert (row.precision, row.recall, row.f1) == tuple(pytest.approx(100 * value) for value in values)
