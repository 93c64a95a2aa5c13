"""Every number has a status and its ground, measured ones come from a result file, and nothing passes for another."""

import io
import json
import shutil

import pytest
from rich.console import Console

import fbnetv3
from fbnetv3 import InputError
from fbnetv3.benchmarks.paper.numbers import ITEMS, load_paper, round_like
from fbnetv3.benchmarks.paper.reproduce import HERE, RELEASED_TITLE, Row, as_data, render, report
from fbnetv3.benchmarks.result import RESULTS

TABLE6 = '{item: table6, numbers: "*", reason: imagenet, small: experiment_table6}'


@pytest.fixture
def folder(tmp_path):
    """A copy of the data files, to break."""
    for name in ("paper.yaml", "answers.yaml"):
        shutil.copy(HERE / name, tmp_path)
    shutil.copytree(RESULTS, tmp_path / "results")
    return tmp_path


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def printed(item=None, width=200):
    console = Console(file=io.StringIO(), width=width)
    render(console, item)
    return console.file.getvalue()


def test_every_number_has_one_row_as_the_paper_prints_it():
    quoted = [(row.item, row.id, row.quoted, row.place) for row in report() if row.source == "paper"]
    assert quoted == [(item.id, n.id, n.value, n.place) for item in load_paper() for n in item.numbers]


def test_every_row_has_a_status_and_its_ground():
    for row in report():
        if row.status == "measured here":
            assert row.why == ""
            path = RESULTS.parent / row.measured.result
            stored = json.loads(path.read_text())
            name = row.id.partition(".")[0]
            values = stored["values"]["table2" if name == "space" else name]
            values = values.get("published", values)
            assert row.measured.value in values.values()
            assert (row.measured.date, row.measured.command) == (stored["date"], stored["command"])
        else:
            assert row.status in ("quoted", "not run")
            assert row.measured is None
            assert row.why


def test_what_is_measured_now():
    measured = {
        (r.item, r.id): (r.measured.value, r.measured.rounded, r.measured.agrees)
        for r in report()
        if r.measured and r.source == "paper"
    }
    assert measured == {
        ("table2", "space.architectures"): (175_878_910_771_200_000, "10^17", True),
        ("table2", "space.recipes"): (18_905_040, "10^7", True),
        ("table4", "fbnetv3_a.flops"): (356598280, "357M", True),
        ("table4", "fbnetv3_c.flops"): (556969904, "557M", True),
        ("table4", "fbnetv3_e.flops"): (762046336, "762M", True),
        ("table4", "fbnetv3_g.flops"): (2129656384, "2.1G", True),
        ("table4", "fbnetv3_a.flops_text"): (356598280, "357M", True),
        ("table5", "efficientnet_b0.params"): (8_002_256, "8.0M", True),
        ("table5", "efficientnet_b0.flops"): (3_558_852_080, "3.6G", True),
        ("table5", "fbnetv3_a.params"): (5_270_832, "5.3M", True),
        ("table5", "fbnetv3_a.flops"): (2_907_754_400, "2.9G", True),
        ("table5", "efficientnet_b1.params"): (13_285_120, "13.3M", True),
        ("table5", "efficientnet_b1.flops"): (5_550_920_880, "5.6G", True),
        ("table5", "fbnetv3_e.params"): (10_612_536, "10.6M", True),
        ("table5", "fbnetv3_e.flops"): (5_305_643_680, "5.3G", True),
        ("table5", "reduction.params"): (100 * (1 - 5_270_832 / 8_002_256), "34.1", True),
        ("table5", "reduction.params_abstract"): (100 * (1 - 5_270_832 / 8_002_256), "34", True),
        ("table5", "reduction.flops"): (100 * (1 - 2_907_754_400 / 3_558_852_080), "18.3", True),
        ("table5", "reduction.flops_abstract"): (100 * (1 - 2_907_754_400 / 3_558_852_080), "18", True),
        ("table7", "fbnetv3_b.flops"): (461550136, "462M", False),  # the paper prints 461M
        ("table7", "fbnetv3_e.flops"): (762046336, "762M", True),
        ("figure1", "fbnetv3_c.flops"): (556969904, "557M", True),
        ("figure1", "fbnetv3_g.flops"): (2129656384, "2.1G", True),
    }
    assert [r.measured.note != "" for r in report("table7") if r.measured] == [True, False]
    # Told with the number that agrees: counted with resolution, it would not.
    with_resolution = json.loads((RESULTS / "space_sizes.json").read_text())["values"]["table2"]["architectures"]
    assert round_like("10^17", with_resolution) == "10^18"
    assert ["without resolution" in r.measured.note for r in report("table2") if r.measured] == [True, False]


def test_released_figures_are_a_block_of_their_own_and_exact():
    extra = [row for row in report() if row.source != "paper"]
    assert [(r.item, r.id) for r in extra] == [
        ("table4", f"{name}.{field}") for field in ("flops_m", "params_m") for name in fbnetv3.list_models()
    ]
    assert all(row.measured.agrees and row.place.startswith("hub/registry.json") for row in extra)
    assert extra[0].quoted == "356.59828M"


@pytest.mark.parametrize(
    ("item", "number", "status", "why"),
    [
        ("table1", "resnet18_2x_depth.recipe_2", "not run", "appendix A.1"),
        ("table2", "row6.n", "quoted", "setting"),
        ("table3", "resnet50.original", "quoted", "quoted only"),
        ("table3", "resnet50.gain", "not run", "appendix A.3"),
        ("table4", "efficientnet_b0.flops", "quoted", "quoted only"),
        ("table4", "fbnetv3_g.acc1", "not run", "needs ImageNet and 400 epochs on 8 nodes of 8 GPUs"),
        ("table4", "fbnetv3_a.over_mobilenetv3", "not run", "needs ImageNet"),
        ("table4", "fbnetv3_c.search_cost", "not run", "search"),
        ("table5", "efficientnet_b0.map", "not run", "needs COCO's 118,287 training images, ImageNet weights"),
        ("table6", "fbnetv3_b.recipe_e", "not run", "needs ImageNet"),
        ("table7", "stage2_b.flops", "not run", "not published"),
        ("table8", "fbnetv3_g.ema", "not run", "needs ImageNet"),
        ("figure1", "fbnetv3_c.acc1", "not run", "needs ImageNet"),
        ("figure2", "wsl.acc1", "quoted", "quoted only"),
        ("figure4", "predictor.fewer_samples", "not run", "whose accuracies are not published; measured here at small"),
        ("figure5", "setting.threshold", "quoted", "setting"),
        ("figure6", "searched.gain", "not run", "ImageNet"),
        ("figure7", "setting.resolution", "quoted", "setting"),
    ],
)
def test_why_a_number_is_not_measured(item, number, status, why):
    (row,) = [row for row in report(item) if (row.id, row.source) == (number, "paper")]
    assert row.status == status
    assert why in row.why


@pytest.mark.parametrize("item", ["table1", "table3", "table6", "table8"])
def test_what_is_small_is_pointed_to_and_never_compared(item):
    rows = [row for row in report(item) if row.status == "not run"]
    stored = json.loads((RESULTS / f"experiment_{item}.json").read_text())
    assert rows
    for row in rows:
        assert row.measured is None
        assert "at small scale, on other images, which is no answer to this number" in row.why
        assert f"results/experiment_{item}.json ({stored['date']}, `{stored['command']} --show`)" in row.why
        found = [cell["mean"] for cell in stored["values"]["cells"].values()]
        assert not any(f"{value:.1f}" in row.why for value in found)


def test_the_predictor_is_pointed_to_with_the_command_that_measured_it():
    (row,) = [row for row in report("figure4") if row.status == "not run"]
    stored = json.loads((RESULTS / "predictor.json").read_text())
    assert row.why.endswith(
        f"no answer to this number: results/predictor.json ({stored['date']}, `{stored['command']}`)"
    )


@pytest.fixture(scope="module")
def everything():
    return report(), as_data()


def test_data_is_plain(everything):
    assert json.loads(json.dumps(everything[1], allow_nan=False)) == everything[1]
    assert [row["id"] for entry in everything[1] for row in entry["rows"]] == [row.id for row in everything[0]]


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_is_its_part_of_the_whole(item, everything):
    rows, data = everything
    assert report(item) == [row for row in rows if row.item == item]
    assert as_data(item) == [entry for entry in data if entry["id"] == item]


def test_an_unknown_item_lists_the_items():
    for call in (report, as_data, printed):
        with pytest.raises(InputError, match=r"unknown item 'table9'; did you mean 'table\d'"):
            call("table9")


def test_what_is_printed():
    text = printed("table7")
    line = {name: next(x for x in text.splitlines() if x.startswith(name)) for name in ("FBNetV3-B:", "FBNetV3-B*:")}
    assert "461M" in line["FBNetV3-B:"]
    assert "measured here [1] [2]" in line["FBNetV3-B:"]
    assert "461,550,136 = 462M: differs" in line["FBNetV3-B:"]
    assert "448M" in line["FBNetV3-B*:"]
    assert "not run" in line["FBNetV3-B*:"]
    assert "[1] results/zoo_cost.json, 20" in text
    assert "9 numbers: 2 measured here (1 agree, 1 differ), 7 not run, 0 quoted" in text
    paper, released = printed("table4").split(RELEASED_TITLE)
    assert "EfficientNetB4 [46]: FLOPs" in paper
    assert "fbnetv3_f: parameters" in released
    assert "neither caption nor text gives a number" in printed("figure3")
    whole = printed()
    assert all(f"{item.name} (section {item.section})" in whole for item in load_paper())


def test_an_empty_or_contradictory_row_cannot_be_made():
    measured = next(row.measured for row in report("table4") if row.measured)
    common = ("table4", "x.y", "label", "1", "unit", "place", "paper")
    for status, value, why in (
        ("quoted", None, ""),
        ("not run", None, ""),
        ("measured here", None, ""),
        ("measured here", measured, "why"),
        ("not run", measured, "why"),
        ("guessed", None, "why"),
    ):
        with pytest.raises(ValueError, match=r"table4 x\.y"):
            Row(*common, status, value, why)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"  - {TABLE6}\n", "", r"no rule answers table6 'fbnetv3_b\.recipe_b'"),
        (TABLE6, '{item: table6, numbers: "*"}', "either a reason, or a result"),
        (TABLE6, '{item: table6, numbers: "*", reason: time}', "reason is 'time'"),
        (
            TABLE6,
            TABLE6.replace("experiment_table6", "experiment_table9"),
            "results/experiment_table9.json: no such file",
        ),
        (TABLE6, TABLE6.replace("reason: imagenet", "result: zoo_cost, value: x"), "has small without a reason"),
        ('{item: table6, numbers: "*"', '{item: table6, number: "*"', "unknown key 'number'"),
        ('{item: table6, numbers: "*", reason', "{item: table6, reason", "missing key 'numbers'"),
        ("item: figure5", "item: figure55", "no rule answers figure5"),
        ('{item: table3, numbers: "wsl.*"', '{item: table3, numbers: "wls.*"', "'wls.*' answers no number"),
        ("id: setting, status: quoted", "id: setting, status: measured here", "status is 'measured here'"),
        ('value: "{row}.published.flops"', 'value: "{row}.flops"', "'fbnetv3_a.flops' is None"),
        ("result: zoo_cost", "result: zoo_speed", "results/zoo_speed.json: no such file"),
        ('"fbnetv3_?.flops*", result', '"*.flops*", result', "'fbnet.published.flops' is None"),
    ],
)
def test_answers_are_read_strictly(folder, old, new, message):
    replace(folder / "answers.yaml", old, new)
    with pytest.raises(InputError, match=message):
        report(folder=folder)


def test_nothing_is_measured_without_its_result_file(folder):
    (folder / "results" / "zoo_cost.json").unlink()
    assert all(row.measured is None for row in report("table8", folder, folder / "results"))
    with pytest.raises(InputError, match=r"results/zoo_cost\.json: no such file"):
        report("table4", folder, folder / "results")


def test_a_changed_result_disagrees(folder):
    replace(folder / "results" / "zoo_cost.json", '"flops": 356598280', '"flops": 356598281')
    rows = {(row.source, row.id): row.measured for row in report("table4", folder, folder / "results")}
    assert rows["paper", "fbnetv3_a.flops"].agrees
    assert not rows["released files", "fbnetv3_a.flops_m"].agrees
