"""Table 5's costs: the counts of the result file, their agreement with the paper, and counts that would be wrong."""

import pytest

from fbnetv3.benchmarks.coco import cost
from fbnetv3.benchmarks.paper import reproduce
from fbnetv3.benchmarks.result import load_result
from tests.detection import coco_data


@pytest.fixture
def detectron2():
    pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")


@pytest.mark.usefixtures("detectron2")
def test_the_costs_of_a_detector_are_those_of_the_result_file():
    found = cost.measure_detector("table5_fbnetv3_a")
    assert found == load_result("detection_cost").values["fbnetv3_a"]
    assert found["flops"] == sum(found["operators"][name] for name in cost.COUNTED)


def test_every_cost_of_table5_agrees_with_the_paper():
    found = {row.id: row.measured.agrees for row in reproduce.report("table5") if row.measured is not None}
    assert all(found.values())
    networks = ("efficientnet_b0", "fbnetv3_a", "efficientnet_b1", "fbnetv3_e", "reduction")
    assert {f"{network}.{cost}" for network in networks for cost in ("params", "flops")} <= set(found)


def test_reductions_by_hand():
    found = cost.reductions({"params": 3.0, "flops": 8.0}, {"params": 4.0, "flops": 10.0})
    assert found == pytest.approx({"params": 25.0, "flops": 20.0})


@pytest.mark.usefixtures("detectron2")
def test_another_number_of_proposals_is_not_counted(tmp_path):
    """Suppression drops some of the boxes, which a head of zeros leaves as the anchors are."""
    pair = coco_data.pair_file(tmp_path / "tiny.yaml")
    with pytest.raises(RuntimeError, match=r"the RPN kept \[\d+\] proposals, not 75"):
        cost.count_operators(coco_data.detector(pair, MODEL__RPN__NMS_THRESH=0.1).eval(), (96, 96), 75)
    counted = cost.count_operators(coco_data.detector(pair, MODEL__RPN__NMS_THRESH=1.0).eval(), (96, 96), 75)
    # The box predictor turns 75 vectors of 24 channels into 81 scores, and 4 coordinates for each of 80 classes.
    assert counted["linear"] == 75 * 24 * (81 + 320)


def test_the_tables_have_the_papers_numbers_beside_the_counted_ones():
    costs, reduction = cost.tables(load_result("detection_cost")).values()
    assert ("`table5_fbnetv3_a`", "5.3M", "5.271M", "2.9G", "2.908G") in costs.rows
    assert reduction.rows == (("params", "34.1% fewer", "34.1% fewer"), ("FLOPs", "18.3% fewer", "18.3% fewer"))


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("detection_cost")
    assert result.method == cost.METHOD.format(height=cost.SIDES[0], width=cost.SIDES[1], proposals=75)
