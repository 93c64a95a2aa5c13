"""`fbnetv3 detect` and `fbnetv3 benchmark coco`: detectors of detectron2 on FBNetV3."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from fbnetv3.cli.show import (
    DEVICE,
    Json,
    Overwrite,
    Row,
    finite,
    need_images,
    print_each,
    print_rows,
    progress_bar,
    say_device,
)
from fbnetv3.errors import InputError
from fbnetv3.files import make_folder, refuse_to_overwrite

MODEL, DATA, ENGINE, OUTPUT = "Detector", "Data", "Training", "Output"
CONFIG_HELP = "A packaged config (faster_rcnn_table5_fbnetv3_a_c4_3x, ...), or the path of a detectron2 YAML file."


def detect(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    weights: Annotated[Path, typer.Option(help="Weights of a detector, such as the weights.pth of a training.")],
    config: Annotated[
        str | None, typer.Option(help=f"{CONFIG_HELP} The default is config.yaml beside the weights.")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write NAME.png and NAME.json to.")] = Path(
        "detections"
    ),
    threshold: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            callback=finite,
            help="Smallest probability of an object that is reported. The configs drop objects below 0.05.",
        ),
    ] = 0.5,
    overwrite: Overwrite = False,
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    as_json: Json = False,
) -> None:
    """Find objects in images: write every image with boxes, and the boxes as JSON. Needs detectron2."""
    from fbnetv3.detection import need_detectron2
    from fbnetv3.device import find_device

    device = find_device(device)
    need_detectron2()
    from fbnetv3.detection.detector import Detector, check_results, result_names, write_detections
    from fbnetv3.transforms import open_upright

    need_images(images)
    names = result_names(list(dict.fromkeys(images)))
    check_results(names, out_dir, overwrite)
    make_folder(out_dir)
    say_device("detecting", device)
    detector = Detector.load(weights, config, device)

    def row_of(path: Path) -> list[Row]:
        image = open_upright(path, "RGB")
        try:
            found = detector.detect(image, threshold)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        drawing, _ = write_detections(path, image, found, out_dir, names[path])
        best = ", ".join(f"{d.name} {d.score:.2f}" for d in found[:3]) or f"nothing above {threshold:g}"
        return [{"image": str(path), "objects": len(found), "likeliest": best, "written": str(drawing)}]

    print_each(list(names), row_of, as_json)


def coco(
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes of the config: KEY VALUE ..., as in detectron2.")
    ] = None,
    config: Annotated[
        str, typer.Option(help=CONFIG_HELP, rich_help_panel=MODEL)
    ] = "faster_rcnn_table5_fbnetv3_a_c4_3x",
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from, instead of MODEL.WEIGHTS: fb, or the weight file of a classifier or a detector.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of COCO 2017, with annotations/instances_*2017.json, train2017/ and val2017/.",
            rich_help_panel=DATA,
        ),
    ] = None,
    train_file: Annotated[
        Path | None,
        typer.Option("--train", help="Annotation file to train on, instead of --data.", rich_help_panel=DATA),
    ] = None,
    val_file: Annotated[
        Path | None,
        typer.Option("--val", help="Annotation file to evaluate on, instead of --data.", rich_help_panel=DATA),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images of --train and --val.", rich_help_panel=DATA)
    ] = None,
    eval_only: Annotated[
        bool, typer.Option("--eval-only", help="Evaluate --weights without training.", rich_help_panel=ENGINE)
    ] = False,
    threads: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of torch's threads. Results are equal to the last bit only for the same number.",
            rich_help_panel=ENGINE,
        ),
    ] = 1,
    device: Annotated[
        str, typer.Option(help=f"{DEVICE} SOLVER.AMP.ENABLED True is mixed precision there.", rich_help_panel=ENGINE)
    ] = "auto",
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write checkpoints, weights and metrics to.", rich_help_panel=OUTPUT),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in the folder.", rich_help_panel=OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the detections of an earlier --eval-only.", rich_help_panel=OUTPUT),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train or evaluate a detector on COCO or on other data in its format (section 4.3). Needs detectron2."""
    import torch

    from fbnetv3.detection import need_detectron2
    from fbnetv3.device import find_device
    from fbnetv3.training.distributed import process_group
    from fbnetv3.training.engine import cpu_threads

    device = find_device(device)
    need_detectron2()
    from fbnetv3.detection.checkpoint import refuse_second
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.detector_weights import load_detector
    from fbnetv3.detection.evaluation import FILES, evaluate
    from fbnetv3.detection.training import train

    given = ["MODEL.DEVICE", device, *_data(data, train_file, val_file, images, eval_only)]
    for key, value in (("MODEL.WEIGHTS", weights), ("OUTPUT_DIR", out_dir and out_dir.absolute())):
        if value is not None:
            given += [key, repr(str(value))]  # without quotes yacs would read the name 2024 as a number
    cfg = load_config(config, [*given, *(changes or [])])
    if eval_only and not cfg.MODEL.WEIGHTS:
        raise InputError("--eval-only needs weights; give --weights")
    if eval_only:
        for file in FILES if cfg.OUTPUT_DIR else ():
            refuse_to_overwrite(Path(cfg.OUTPUT_DIR) / file, overwrite)
    elif not resume:
        refuse_second(Path(cfg.OUTPUT_DIR))
    with cpu_threads(threads), process_group(torch.device(device)) as process, _shown(process.rank) as (progress, say):
        if process.rank == 0:
            precision = "fp16" if cfg.SOLVER.AMP.ENABLED and not eval_only else "fp32"
            readers = f"{cfg.DATALOADER.NUM_WORKERS} readers"
            say_device("evaluating" if eval_only else "training", cfg.MODEL.DEVICE, precision, readers)
        model, report = load_detector(cfg, strict=eval_only)
        if report is not None:
            say(report.summary())
        if eval_only:
            found = evaluate(cfg, model, Path(cfg.OUTPUT_DIR) if cfg.OUTPUT_DIR else None, progress)
        else:
            found = train(cfg, model, resume=resume, progress=progress)
        if process.rank == 0:
            values = {key: None if math.isnan(value) else round(value, 3) for key, value in found.items()}
            keep = [key for key in values if as_json or "-" not in key]  # AP-CLASS would fill the screen
            print_rows([{"metric": key, "percent": values[key]} for key in keep], as_json)


def _data(data: Path | None, train: Path | None, val: Path | None, images: Path | None, eval_only: bool) -> list[str]:
    """Return the data sets that the options name as changes of the config, or no changes if they name none."""
    from fbnetv3.detection.annotations import check_places
    from fbnetv3.detection.datasets import coco_2017_names, dataset_name

    if data is not None:
        if train or val or images:
            raise InputError(
                "--data cannot be combined with --train, --val or --images; "
                "give COCO's folder, or annotation files and an image folder"
            )
        splits = {"TEST": "val2017"} if eval_only else {"TRAIN": "train2017", "TEST": "val2017"}
        names = dict(zip(splits, coco_2017_names(data, list(splits.values())), strict=True))
    elif train or val or images:
        if val is None or images is None or (train is None and not eval_only):
            raise InputError("give --train, --val and --images together; --eval-only needs the last two")
        files = {"TEST": val} if train is None else {"TRAIN": train, "TEST": val}
        for file in files.values():
            check_places(file, images)  # before weights are downloaded
        names = {split: dataset_name(file, images) for split, file in files.items()}
    else:
        names = {}
    return [word for split, name in names.items() for word in (f"DATASETS.{split}", repr((name,)))]


@contextlib.contextmanager
def _shown(rank: int) -> Iterator[tuple[Callable[[int, int, str], None] | None, Callable[[str], None]]]:
    """Yield functions that show progress and text. Of several processes only the first shows anything."""
    from fbnetv3.cli.show import err, say

    if rank:
        yield None, lambda _text: None
        return
    with progress_bar() as progress:
        yield progress, lambda text: say(text, err)
