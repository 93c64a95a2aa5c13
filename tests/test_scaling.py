"""Scaled networks: what of the released ones they are, what they cost, and the search for coefficients."""

import dataclasses

import pytest

from fbnetv3 import InputError, scaling
from fbnetv3.arch import ARCH_A0, ARCHS, Arch, Block, same_padding
from fbnetv3.complexity import cost, runs
from fbnetv3.scaling import coefficients, distance_to_rule, scale

B, E = ARCHS["fbnetv3_b"], ARCHS["fbnetv3_e"]


def plain(arch):
    """What a scaling decides: rows without the padding quirk, and the resolution."""
    return same_padding(arch).rows, arch.stem, arch.head, arch.resolution


def test_by_hand():
    stages = ((Block("ir", 16, k=3, n=2),), (Block("ir", 24, k=5, e=4, s=2), Block("ir", 24, k=3, e=2, n=3)))
    arch = Arch("small", 32, Block("conv", 16, k=3, s=2), stages, Block("pool", 64, e=2))
    big = scale(arch, depth=1.5, width=1.5, resolution=1.2)
    assert big.resolution == 40  # 38.4 to a multiple of 8
    assert [row.n for row in big.rows] == [3, 1, 5]  # 2 to 3, and 1 + 3 to 6
    assert [row.c for row in big.rows] == [24, 40, 40]  # 36 becomes 40: 32 would lose more than 5%
    assert [(row.k, row.e, row.s) for row in big.rows] == [(row.k, row.e, row.s) for row in arch.rows]
    assert (big.stem, big.head) == (arch.stem, arch.head)
    assert [row.n for row in scale(arch, depth=0.1).rows] == [1, 1, 1]  # no block that differs is lost


@pytest.mark.parametrize("arch", [*ARCHS.values(), ARCH_A0], ids=lambda a: a.name)
def test_one_changes_nothing(arch):
    assert scale(arch) is arch
    assert scale(arch, depth=1.001) is arch


def test_a_is_b_with_fewer_pixels_and_f_a_scaled_e():
    assert plain(scale(B, resolution=0.9)) == plain(ARCHS["fbnetv3_a"])
    assert plain(scale(E, 1.09, 1.14, 1.03)) == plain(ARCHS["fbnetv3_f"])


def test_g_is_no_multiple_of_e():
    """Where a width is right for one of its rows it is wrong for another, and no depth doubles the last row alone."""
    g = ARCHS["fbnetv3_g"]
    widths = [tuple(row.c for row in scale(E, width=1 + i / 200).rows) for i in range(200)]
    wanted = tuple(row.c for row in g.rows)
    assert wanted not in widths
    assert max(sum(a == b for a, b in zip(w, wanted, strict=True)) for w in widths) < len(wanted)
    depths = [tuple(row.n for row in scale(E, depth=1 + i / 200).rows) for i in range(200)]
    assert tuple(row.n for row in g.rows) not in depths
    assert (*(row.n for row in g.rows[:-1]), 1) in depths


@pytest.mark.parametrize("knob", ["depth", "width", "resolution"])
def test_cost_grows_with_every_coefficient(knob):
    flops = [cost(scale(E, **{knob: 0.5 + i / 20})).flops() for i in range(30)]
    assert flops == sorted(flops)
    assert flops[-1] > 1.5 * flops[10]


@pytest.mark.parametrize(("arch", "target"), [(B, 356.6e6), (E, 1.2e9)])
def test_candidates_meet_the_target(arch, target):
    found = coefficients(arch, target, tolerance=0.01)
    assert len({(s.arch.stages, s.arch.resolution) for s in found}) == len(found) > 5
    up = target > cost(arch).flops()
    for s in found:
        assert s.flops == cost(s.arch).flops() == pytest.approx(target, rel=0.01)
        assert scale(arch, s.depth, s.width, s.resolution) == s.arch
        assert all(v >= 1 if up else v <= 1 for v in (s.depth, s.width, s.resolution))
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


def test_f_is_among_the_candidates_of_its_cost():
    wanted = plain(ARCHS["fbnetv3_f"])[:1]
    found = coefficients(same_padding(E), cost(same_padding(ARCHS["fbnetv3_f"])).flops(), tolerance=0.01)
    assert wanted in [plain(s.arch)[:1] for s in found]


def test_a_custom_score_ranks():
    found = coefficients(E, 1.2e9, score=lambda arch: arch.resolution)
    assert found[0].arch.resolution == max(s.arch.resolution for s in found)
    assert found[0].arch.resolution > coefficients(E, 1.2e9)[0].arch.resolution


def test_the_rule_is_a_line():
    assert distance_to_rule(1.2**0.7, 1.1**0.7, 1.15**0.7) == pytest.approx(0, abs=1e-12)
    assert distance_to_rule(1.2, 1.0, 1.0) > 0.05


@pytest.mark.parametrize("change", [{"depth": 0}, {"width": -1.0}, {"resolution": float("nan")}])
def test_a_coefficient_must_be_positive(change):
    with pytest.raises(InputError, match=f"{next(iter(change))} is .*; give a coefficient above 0"):
        scale(E, **change)


def test_a_target_out_of_reach_is_answered_at_once():
    with pytest.raises(
        InputError, match=r"1\.3e\+21 times the FLOPs of fbnetv3_e, which is out of reach; give at most 200"
    ):
        coefficients(E, 1e30)
    with pytest.raises(InputError, match="the nearest has"):
        coefficients(E, 1.0)


def test_many_tries_take_larger_steps(monkeypatch):
    fine = coefficients(E, 900e6)
    monkeypatch.setattr(scaling, "MOST_TRIES", 50)
    coarse = coefficients(E, 900e6)
    assert 0 < len(coarse) < len(fine)
    assert all(abs(s.flops / 900e6 - 1) <= 0.01 for s in coarse)


def test_far_targets_are_met():
    arch = Arch("small", 32, Block("conv", 16, k=3, s=2), ((Block("ir", 16, k=3, n=2),),), None)
    target = 95 * cost(arch).flops()
    found = coefficients(arch, target, tolerance=0.05)
    assert found
    assert all(abs(cost(s.arch).flops() / target - 1) <= 0.05 for s in found)


def test_networks_that_cannot_run_are_no_scalings():
    # Without padding every 5x5 row takes 4 pixels, so the smaller images leave nothing.
    arch = Arch("thin", 40, Block("conv", 8, k=3, s=2), ((Block("ir", 8, k=5, n=4, pad=0),),), None)
    found = coefficients(arch, cost(arch).flops() / 4, tolerance=0.2)
    assert found
    assert all(runs(s.arch) for s in found)


def test_targets_that_cannot_be_met():
    with pytest.raises(InputError, match="the nearest has"):
        coefficients(E, 800e6, tolerance=1e-7)
    with pytest.raises(InputError, match="give FLOPs above 0"):
        coefficients(E, -1)
    assert dataclasses.is_dataclass(coefficients(E, 900e6)[0])
