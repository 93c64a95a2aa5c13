"""The real run of this project: a detector fine-tuned on 80 photos of VOC 2007 and tested on 20 others, on a CPU.

    fbnetv3 train --model table5_fbnetv3_a --recipe cifar10/small --data memory:CIFAR10 --resolution 64 --limit 2000 \\
        --set epochs=8 --out BACKBONE
    fbnetv3 benchmark detection-voc100 --data FOLDER --backbone BACKBONE/weights.pt --out RUNS

FOLDER has `instances.json` (COCO's format) and `images/`. Every training has a folder below RUNS, from which the same call goes
on after a stop. It writes `results/detection_voc100.json` and draws held-out photos into `docs/figures/detections_voc100.jpg`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from fbnetv3.benchmarks.result import RESULTS, Result, host, versions, write_result
from fbnetv3.benchmarks.training_bar import training_bar
from fbnetv3.detection import need_detectron2
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, write_atomically
from fbnetv3.schema import load_yaml
from fbnetv3.training.loop import cpu_threads

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


def split(folder: Path, out: Path) -> tuple[str, str]:
    """Write the annotations of both splits into `out`; returns their data sets' names.

    Raises:
        InputError: no annotation file, or a folder that cannot be written.
    """
    from fbnetv3.detection.data import data_name, load_records

    file, images = folder / "instances.json", folder / "images"
    load_records(data_name(file, images))  # checks it
    data = json.loads(file.read_text())
    rows = sorted(data["images"], key=lambda row: row["id"])
    names = []
    for part in ("train", "test"):
        chosen = [row for i, row in enumerate(rows, 1) if (i % HELD_OUT == 0) == (part == "test")]
        ids = {row["id"] for row in chosen}
        boxes = [row for row in data["annotations"] if row["image_id"] in ids]
        path = make_folder(out) / f"{part}.json"
        write_atomically(path, json.dumps({"images": chosen, "annotations": boxes, "categories": data["categories"]}))
        names.append(data_name(path, images))
    return names[0], names[1]


def run(names: tuple[str, str], backbone: Path | None, seed: int, out: Path, progress: Any) -> dict[str, Any]:
    """Train once, going on where the folder stands, and evaluate; the figures of `METHOD`."""
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.evaluation import evaluate
    from fbnetv3.detection.training import WEIGHTS, prepare, train

    changes = ["MODEL.DEVICE", "cpu", "SEED", str(seed), "OUTPUT_DIR", str(out)]
    changes += ["MODEL.WEIGHTS", "" if backbone is None else str(backbone)]
    cfg = load_config(CONFIG, [*changes, *_sets(*names)])
    model, _ = prepare(cfg)
    untrained = evaluate(cfg, model)
    trained = train(cfg, model, resume=True, progress=progress)
    again = load_config(CONFIG, [*changes, *_sets(names[0], names[0]), "MODEL.WEIGHTS", str(out / WEIGHTS)])
    seen = evaluate(again, prepare(again)[0])
    rows = {"untrained": untrained, "training": seen} | {
        kind: {key.partition("/")[2]: value for key, value in trained.items() if key.startswith(f"{kind}/")}
        for kind in ("raw", "ema")
    }
    return {name: {key: round(row[key], 3) for key in ("AP", "AP50")} for name, row in rows.items()}


def _sets(train: str, test: str) -> list[str]:
    return ["DATASETS.TRAIN", repr((train,)), "DATASETS.TEST", repr((test,))]


def summary(seeds: Mapping[str, Any]) -> dict[str, Any]:
    """Means over seeds, and the smallest of the averaged weights."""
    rows = list(seeds.values())
    mean = {
        kind: {key: round(statistics.fmean(row[kind][key] for row in rows), 3) for key in ("AP", "AP50")}
        for kind in rows[0]
    }
    return {"seeds": dict(seeds), "n": len(rows), "mean": mean, "least": min(row["ema"]["AP"] for row in rows)}


def picture(test: str, weights: Path, count: int, threshold: float) -> bytes:
    """Held-out photos with what a detector finds in them, as a JPEG."""
    from matplotlib.figure import Figure

    from fbnetv3.detection.data import load_records
    from fbnetv3.detection.detect import Detector, draw, open_picture

    detector, records = Detector.of(weights), load_records(test)[:count]
    figure = Figure(figsize=(12, 2.9 * ((count + 3) // 4)), dpi=80, layout="constrained")
    for i, record in enumerate(records, 1):
        image = open_picture(record["file_name"])
        axes = figure.add_subplot((count + 3) // 4, 4, i)
        axes.imshow(draw(image, detector.detect(image, threshold)))
        axes.set_axis_off()
    buffer = BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": 80})
    return buffer.getvalue()


def measure(names: tuple[str, str], backbone: Path, seeds: Sequence[int], runs: Path) -> Result:
    """All trainings, resumed where they stand."""
    from rich.console import Console

    from fbnetv3.detection.config import CONFIGS

    values: dict[str, Any] = {"starts": {}}
    with cpu_threads(THREADS), training_bar(Console(stderr=True), "reading photos") as bar:
        for start, weights in (("cifar10", backbone), ("random", None)):
            rows = {
                str(seed): run(names, weights, seed, runs / f"{start}{seed}", bar.training(f"{start}, seed {seed}"))
                for seed in seeds
            }
            values["starts"][start] = summary(rows)
    files = [json.loads((runs / f"{part}.json").read_text()) for part in ("train", "test")]
    solver = load_yaml(CONFIGS / f"{CONFIG}.yaml", "config")["SOLVER"]
    values["photos"] = {part: len(file["images"]) for part, file in zip(("train", "test"), files, strict=True)}
    values["backbone_acc1"] = _accuracy(backbone)
    method = METHOD.format(
        **values["photos"],
        train_boxes=len(files[0]["annotations"]),
        test_boxes=len(files[1]["annotations"]),
        classes=len({box["category_id"] for box in files[1]["annotations"]}),
        steps=solver["MAX_ITER"],
        batch=solver["IMS_PER_BATCH"],
    )
    return Result.now(
        command=f"fbnetv3 benchmark detection-voc100 --data FOLDER --backbone FILE --seeds {' '.join(map(str, seeds))}",
        method=method,
        versions=versions(["torch", "torchvision", "sal-detectron2", "detectron2", "pycocotools"]) | host(),
        values=values,
    )


def _accuracy(backbone: Path) -> float | None:
    """Top-1 of the last epoch, from the metrics beside the weights."""
    path = backbone.with_name("metrics.jsonl")
    if not path.is_file():
        return None
    return float(json.loads(path.read_text().splitlines()[-1])["raw_acc1"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True, help="weights of a classification training")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME, help="folder of the trainings")
    parser.add_argument("--picture", type=Path, default=Path("docs/figures/detections_voc100.jpg"))
    parser.add_argument("--threshold", type=float, default=0.5, help="least probability of what is drawn")
    given = parser.parse_args(arguments)
    try:
        need_detectron2()
        names = split(given.data, given.out)
        write_result(NAME, measure(names, given.backbone, given.seeds, given.out), RESULTS)
        weights = given.out / f"cifar10{given.seeds[0]}" / "weights.pth"
        write_atomically(given.picture, picture(names[1], weights, PHOTOS, given.threshold))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
