"""`fbnetv3 detect` and `fbnetv3 benchmark coco`: detectors of detectron2 on FBNetV3."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from fbnetv3.cli.show import Json, print_rows, progress_bar
from fbnetv3.errors import InputError

CONFIG_HELP = "A config of the package (faster_rcnn_table5_fbnetv3_a_c4_3x, ...), or the path of a detectron2 YAML file"
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N.")]


def detect(
    images: Annotated[list[Path], typer.Argument(help="Pictures.")],
    weights: Annotated[Path, typer.Option(help="Weights of a detector, such as the weights.pth of a training.")],
    config: Annotated[
        str | None, typer.Option(help=f"{CONFIG_HELP}; by default config.yaml beside the weights.")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for NAME.png and NAME.json.")] = Path("detections"),
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least probability of an object; 0.05 is the configs' own.")
    ] = 0.5,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Find objects in pictures: writes every picture with boxes, and a JSON of them. Needs detectron2."""
    from fbnetv3.detection import need_detectron2
    from fbnetv3.training.distributed import find_device

    device = find_device(device)
    need_detectron2()
    from fbnetv3.detection.detect import Detector, open_picture, write_detections

    stems = [image.stem for image in images]
    if doubled := {stem for stem in stems if stems.count(stem) > 1}:
        raise InputError(
            f"several pictures are called {', '.join(sorted(doubled))}: their files would be one; call twice"
        )
    detector = Detector.of(weights, config, device)
    rows = []
    for image in images:
        found = detector.detect(open_picture(image), threshold)
        picture, _ = write_detections(image, found, out_dir)
        best = ", ".join(f"{d.name} {d.score:.2f}" for d in found[:3]) or f"nothing above {threshold:g}"
        rows.append({"image": str(image), "objects": len(found), "likeliest": best, "written": str(picture)})
    print_rows(rows, as_json)


def coco(
    changes: Annotated[list[str] | None, typer.Argument(help="KEY VALUE ... over the config, as detectron2.")] = None,
    config: Annotated[str, typer.Option(help=CONFIG_HELP)] = "faster_rcnn_table5_fbnetv3_a_c4_3x",
    data: Annotated[
        Path | None, typer.Option(help="COCO 2017: annotations/instances_*2017.json, train2017/, val2017/.")
    ] = None,
    train_file: Annotated[Path | None, typer.Option("--train", help="Instead: annotations to train on.")] = None,
    val_file: Annotated[Path | None, typer.Option("--val", help="Instead: annotations to evaluate on.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures of --train and --val.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="fb, a classifier's weight file, or a detector's; over the config's MODEL.WEIGHTS."),
    ] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for checkpoints, weights and metrics.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    eval_only: Annotated[bool, typer.Option("--eval-only", help="Evaluate --weights, do not train.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch; part of what makes results bit-equal.")] = 1,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train or evaluate a detector on COCO or any data in its format (section 4.3). Needs detectron2."""
    import torch

    from fbnetv3.detection import need_detectron2
    from fbnetv3.training.distributed import find_device, processes
    from fbnetv3.training.loop import cpu_threads

    device = find_device(device)
    need_detectron2()
    from fbnetv3.detection.config import load_config
    from fbnetv3.detection.evaluation import evaluate
    from fbnetv3.detection.training import prepare, train

    given = ["MODEL.DEVICE", device, *_data(data, train_file, val_file, images, eval_only)]
    for key, value in (("MODEL.WEIGHTS", weights), ("OUTPUT_DIR", out_dir and out_dir.absolute())):
        given += [] if value is None else [key, repr(str(value))]  # yacs reads 2024 as a number
    cfg = load_config(config, [*given, *(changes or [])])
    if eval_only and not cfg.MODEL.WEIGHTS:
        raise InputError("--eval-only without weights; give --weights")
    with cpu_threads(threads), processes(torch.device(device)) as share, _shown(share.rank) as (progress, say):
        model, loaded = prepare(cfg, strict=eval_only)
        if loaded is not None:
            say(loaded.summary())
        if eval_only:
            found = evaluate(cfg, model, Path(cfg.OUTPUT_DIR) if cfg.OUTPUT_DIR else None, progress)
        else:
            found = train(cfg, model, resume=resume, progress=progress)
        if share.rank == 0:
            values = {key: None if math.isnan(value) else round(value, 3) for key, value in found.items()}
            keep = [key for key in values if as_json or "-" not in key]  # AP-CLASS fills a screen
            print_rows([{"metric": key, "percent": values[key]} for key in keep], as_json)


def _data(data: Path | None, train: Path | None, val: Path | None, images: Path | None, eval_only: bool) -> list[str]:
    """The data sets that the options mean, as changes of the config; none for the config's own."""
    from fbnetv3.detection.data import coco_names, data_name

    if data is not None:
        if train or val or images:
            raise InputError("--data with --train, --val or --images; give COCO's folder, or files and a folder")
        splits = {"TEST": "val2017"} if eval_only else {"TRAIN": "train2017", "TEST": "val2017"}
        names = dict(zip(splits, coco_names(data, list(splits.values())), strict=True))
    elif train or val or images:
        if val is None or images is None or (train is None and not eval_only):
            raise InputError("give --train, --val and --images together, for --eval-only the last two")
        files = {"TEST": val} if train is None else {"TRAIN": train, "TEST": val}
        names = {split: data_name(file, images) for split, file in files.items()}
    else:
        names = {}
    return [word for split, name in names.items() for word in (f"DATASETS.{split}", repr((name,)))]


@contextlib.contextmanager
def _shown(rank: int) -> Iterator[tuple[Callable[[int, int, str], None] | None, Callable[[str], None]]]:
    """Progress and words of the first of several processes."""
    from fbnetv3.cli.show import err

    if rank:
        yield None, lambda _text: None
        return
    with progress_bar() as progress:
        yield progress, lambda text: err.print(text, highlight=False, soft_wrap=True)
