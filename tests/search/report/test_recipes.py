"""What small and large networks want: of accuracies that are known, and of draws by hand."""

import numpy as np
import pytest

from fbnetv3.search.report.recipes import Preference, recipes_by_size
from tests.search.report.known import NAMES, SPACE, Known, column


def preference(*best, values=(1, 2, 3), ordered=True):
    """A preference whose draws have these best values, a pair of positions (small, large) each."""
    effect = np.zeros((len(best), 2, len(values)))
    for draw, pair in zip(effect, best, strict=True):
        draw[[0, 1], pair] = 1.0
    return Preference("x", values, ordered, effect)


def test_the_best_value_is_counted_draw_by_draw():
    found = preference((0, 2), (0, 2), (0, 1), (1, 2))
    assert found.shares(0).tolist() == [0.75, 0.25, 0]
    assert found.shares(1).tolist() == [0, 0.25, 0.75]


@pytest.mark.parametrize(
    ("best", "ordered", "wanted"),
    [
        ([0, 0, 0, 0, 1], True, (0,)),  # 80% suffice
        ([0, 0, 0, 1, 1], True, (0, 1)),
        ([0, 0, 2, 2, 2], True, (0, 1, 2)),  # of a range, what is between belongs to it
        ([0, 0, 2, 2, 2], False, (0, 2)),
    ],
)
def test_the_fewest_values_that_hold_the_best_one(best, ordered, wanted):
    assert preference(*((b, b) for b in best), ordered=ordered).wanted(0) == wanted


def test_large_networks_want_more_or_less():
    pairs = [(0, 2), (0, 1), (1, 1), (2, 1)]
    assert preference(*pairs).shift == (0.25, 0.5)
    assert preference(*pairs, ordered=False).shift == (0.75, 0.75)


def wants(rows, offset):
    """Small networks are best with the lowest dropout, large ones with the highest; lr is best at its highest for all."""
    cost = SPACE.cost(rows).flops()
    share = (cost - cost.min()) / max(np.ptp(cost), 1)
    return 60 + 5 * column(rows, "lr") + 8 * (2 * share - 1) * column(rows, "dropout")


@pytest.fixture(scope="module")
def found():
    return recipes_by_size(Known(wants))


def by_name(found, name):
    return next(p for p in found.preferences if p.name == name)


def test_small_networks_want_less_regularisation(found):
    dropout, lr = by_name(found, "dropout"), by_name(found, "lr")
    assert dropout.values == (0.0, 0.15, 0.3, 0.45, 0.6)
    assert (dropout.wanted(0), dropout.wanted(1)) == ((0,), (4,))
    assert dropout.shift == (0, 1)
    assert (lr.wanted(0), lr.wanted(1), lr.shift) == ((4,), (4,), (0, 0))


def test_the_most_important_coordinate_comes_first(found):
    assert {p.name for p in found.preferences[:2]} == {"lr", "dropout"}
    assert len(found.preferences) == sum(not c.arch for c in SPACE.coordinates)
    assert by_name(found, "mixup").gain.tolist() == [0, 0]


def test_swapped_recipes_cost_accuracy(found):
    assert (found.swapped > 1).all()
    small, large = found.best[:, NAMES.index("dropout")]
    assert small < large


def test_a_third_of_the_networks_is_small_and_a_third_is_large(found):
    costs = Known(wants).costs
    small, large = found.limits
    assert np.mean(costs <= small) == pytest.approx(1 / 3, abs=0.02)
    assert np.mean(costs >= large) == pytest.approx(1 / 3, abs=0.02)


def test_networks_of_one_size_have_no_small_and_large_ones():
    known = Known(wants)
    object.__setattr__(known, "costs", np.full(len(known.rows), 7))
    assert recipes_by_size(known) is None
