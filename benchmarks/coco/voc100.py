"""A real training: a detector fine-tuned on 80 photos of VOC 2007 and tested on 20 others, on a CPU.

The benchmark compares a detector whose backbone was trained on CIFAR-10 with a detector that starts from random weights. The
data are a folder with `instances.json` (in COCO's format) and `images/`. The benchmark also draws held-out photos with what the
detector finds in them. It has no target: 20 photos are too few.

This command trains the backbone: `fbnetv3 train --model table5_fbnetv3_a --recipe cifar10/small --data memory:CIFAR10
--resolution 64 --limit 2000 --set epochs=8 --out BACKBONE`. Its weights are in BACKBONE/weights.pt.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer

from fbnetv3.benchmarks.command import Seeds
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.detection import need_detectron2
from fbnetv3.files import make_folder, write_atomically
from fbnetv3.progress import Report, labelled, show_progress
from fbnetv3.schema import load_json, load_yaml, parse_json
from fbnetv3.training.engine import cpu_threads

NAME = "detection_voc100"
CONFIG = "faster_rcnn_voc100"
HELD_OUT = 5  # every fifth photo, in the order of ids
THREADS = 1
PHOTOS = 8  # that are drawn
METHOD = (
    "Photos in the order of their ids, every fifth held out: {train} to train on, {test} to test on, with {train_boxes} and "
    "{test_boxes} boxes. Config faster_rcnn_voc100 ({steps} steps of {batch} photos, one thread), from a `random` start and "
    "from `cifar10`, a classification training of the same rows (its top-1 there: `backbone_acc1`). By seed: COCO's box AP and "
    "AP50 in percent, by pycocotools, of the averaged (`ema`) and the raw weights on the held-out photos, of the averaged ones "
    "on the training photos, and of the `untrained` detector on the held-out ones. {test} photos are few: AP is a mean over "
    "the {classes} classes that they show, many of them once. Not comparable with VOC's or COCO's figures."
)
KINDS = {
    "untrained": "untrained",
    "ema": "averaged weights",
    "raw": "raw weights",
    "training": "averaged, training photos",
}
COLUMNS: dict[str, Format] = {
    "start": "{start}",
    "seeds": "{n}",
    **{f"{words}: {key}": f"{{mean[{kind}][{key}]:.1f}}" for kind, words in KINDS.items() for key in ("AP", "AP50")},
    "least averaged AP": "{least:.1f}",
}


def measure(
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder with instances.json and images/.")],
    backbone: Annotated[Path, typer.Option(metavar="FILE", help="Weights of a classification training.")],
    seeds: Seeds = (0, 1, 2),
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Folder of the trainings. The same command continues what was stopped."),
    ] = Path("runs") / NAME,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JPEG file to draw detections on held-out photos into; by default detections.jpg in the folder.",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Smallest probability of a detection that is drawn.")
    ] = 0.5,
) -> Measured:
    """Train with all seeds from both starts, and draw detections of the first seed."""
    need_detectron2()
    names = split(data, out)
    values: Values = {"starts": {}}
    # On one thread every training ends with the same weights, however often it was stopped.
    with cpu_threads(THREADS), show_progress() as report:
        for start, weights in (("cifar10", backbone), ("random", None)):
            rows = {
                str(seed): run(names, weights, seed, out / f"{start}{seed}", labelled(report, f"{start}, seed {seed}"))
                for seed in seeds
            }
            values["starts"][start] = summary(rows)
    # Drawn from the start with CIFAR-10, the better one, and from its first seed.
    write_atomically(
        picture or out / "detections.jpg", draw(names[1], out / f"cifar10{seeds[0]}" / "weights.pth", PHOTOS, threshold)
    )
    words = describe(out)
    values["photos"] = {part: words[part] for part in ("train", "test")}
    values["backbone_acc1"] = _accuracy(backbone)
    return Measured(values, words)


def split(folder: Path, out: Path) -> tuple[str, str]:
    """Write the annotations of the training and the test photos into `out`, and return the names of the two data sets.

    Raises:
        InputError: there is no annotation file, or `out` cannot be written.
    """
    from fbnetv3.detection.annotations import read_annotations
    from fbnetv3.detection.datasets import dataset_name

    images = folder / "images"
    # A mistake in the file is found before anything is written.
    data = read_annotations(folder / "instances.json", images)
    # By id and not by place in the file: a file in another order gives the same split.
    rows = sorted(data["images"], key=lambda row: row["id"])
    names = []
    for part in ("train", "test"):
        chosen = [row for i, row in enumerate(rows, 1) if (i % HELD_OUT == 0) == (part == "test")]
        ids = {row["id"] for row in chosen}
        boxes = [row for row in data["annotations"] if row["image_id"] in ids]
        path = make_folder(out) / f"{part}.json"
        write_atomically(path, json.dumps({"images": chosen, "annotations": boxes, "categories": data["categories"]}))
        names.append(dataset_name(path, images))
    return names[0], names[1]


def run(names: tuple[str, str], backbone: Path | None, seed: int, out: Path, report: Report) -> Values:
    """Train once, from where the folder stands, and return the AP of all kinds of weights, as `METHOD` says.

    Args:
        names: the data sets to train and to test on.
        backbone: weights to start from; None for random ones.
        seed: seed of the training.
        out: folder of the training.
        report: gets the progress.
    """
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.detector_weights import WEIGHTS, load_detector
    from fbnetv3.detection.evaluation import evaluate
    from fbnetv3.detection.training import train

    changes = ["MODEL.DEVICE", "cpu", "SEED", str(seed), "OUTPUT_DIR", str(out)]
    changes += ["MODEL.WEIGHTS", "" if backbone is None else str(backbone)]
    cfg = load_config(CONFIG, [*changes, *_sets(*names)])
    model, _ = load_detector(cfg)
    # Evaluated before the training: that the AP grows shows that the training works at all.
    untrained = evaluate(cfg, model)
    trained = train(cfg, model, resume=True, progress=report)
    # The AP on the training photos shows how much of the rest is missing data: there it should be high.
    again = load_config(CONFIG, [*changes, *_sets(names[0], names[0]), "MODEL.WEIGHTS", str(out / WEIGHTS)])
    seen = evaluate(again, load_detector(again)[0])
    rows = {"untrained": untrained, "training": seen} | {
        kind: {key.partition("/")[2]: value for key, value in trained.items() if key.startswith(f"{kind}/")}
        for kind in ("raw", "ema")
    }
    return {name: {key: round(row[key], 3) for key in ("AP", "AP50")} for name, row in rows.items()}


def _sets(train: str, test: str) -> list[str]:
    """Return the config changes that set the data of training and test."""
    return ["DATASETS.TRAIN", repr((train,)), "DATASETS.TEST", repr((test,))]


def summary(seeds: Mapping[str, Any]) -> Values:
    """Return the APs by seed, their means, and the smallest AP of the averaged weights."""
    rows = list(seeds.values())
    mean = {
        kind: {key: round(statistics.fmean(row[kind][key] for row in rows), 3) for key in ("AP", "AP50")}
        for kind in rows[0]
    }
    return {"seeds": dict(seeds), "n": len(rows), "mean": mean, "least": min(row["ema"]["AP"] for row in rows)}


def describe(out: Path) -> dict[str, Any]:
    """Return the numbers that `METHOD` names: photos, boxes, classes and steps, from the annotations in `out`."""
    from fbnetv3.detection.config import CONFIGS

    files = {part: load_json(out / f"{part}.json", "annotation file") for part in ("train", "test")}
    solver = load_yaml(CONFIGS / f"{CONFIG}.yaml", "config")["SOLVER"]
    return {
        **{part: len(file["images"]) for part, file in files.items()},
        **{f"{part}_boxes": len(file["annotations"]) for part, file in files.items()},
        "classes": len({box["category_id"] for box in files["test"]["annotations"]}),
        "steps": solver["MAX_ITER"],
        "batch": solver["IMS_PER_BATCH"],
    }


def draw(test: str, weights: Path, count: int, threshold: float) -> bytes:
    """Return a JPEG of held-out photos with what a detector finds in them.

    Args:
        test: the data set of the photos.
        weights: weights of the detector.
        count: number of photos.
        threshold: smallest probability of a detection that is drawn.
    """
    from matplotlib.figure import Figure

    from fbnetv3.detection.datasets import load_records
    from fbnetv3.detection.detector import Detector
    from fbnetv3.detection.detector import draw as draw_boxes
    from fbnetv3.transforms import open_upright

    detector, records = Detector.load(weights), load_records(test)[:count]
    # Four photos in a row.
    figure = Figure(figsize=(12, 2.9 * ((count + 3) // 4)), dpi=80, layout="constrained")
    for i, record in enumerate(records, 1):
        image = open_upright(record["file_name"], "RGB")
        axes = figure.add_subplot((count + 3) // 4, 4, i)
        axes.imshow(draw_boxes(image, detector.detect(image, threshold)))
        axes.set_axis_off()
    buffer = BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": 80})
    return buffer.getvalue()


def _accuracy(backbone: Path) -> float | None:
    """Return the top-1 of the last epoch, from the metrics beside the weights; None where there are none."""
    # `fbnetv3 train` writes the metrics beside the weights. Weights from elsewhere have none.
    path = backbone.with_name("metrics.jsonl")
    if not path.is_file():
        return None
    return float(parse_json(path.read_text().splitlines()[-1], str(path))["raw_acc1"])


def tables(result: Result) -> dict[str, Table]:
    """Return the mean AP of all kinds of weights, a row per start."""
    rows = ({"start": start, **row} for start, row in result.values["starts"].items())
    return {"mean AP over seeds": Table.of(COLUMNS, rows)}


BENCHMARK = Benchmark(
    NAME,
    METHOD,
    ("torch", "torchvision", "sal-detectron2", "detectron2", "pycocotools"),
    measure,
    tables=tables,
    writes=("picture",),
)
