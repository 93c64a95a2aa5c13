"""`fbnetv3 models | info | predict | export | scale`: commands about one network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnetv3.cli.show import (
    DEVICE,
    Json,
    Overwrite,
    Row,
    complete,
    finite,
    need_images,
    print_each,
    print_rows,
    say,
    say_device,
)
from fbnetv3.counts import parse_count
from fbnetv3.errors import InputError
from fbnetv3.files import refuse_to_overwrite
from fbnetv3.schema import dump_json

if TYPE_CHECKING:
    from fbnetv3.arch import Arch
    from fbnetv3.hub.load import Undescribed
    from fbnetv3.networks.weight_file import WeightFile

Zoo = Annotated[Path | None, typer.Option(help="Folder of a custom zoo, instead of the package's.")]
MODEL_NAMES = complete("fbnetv3.model", "list_models")
Model = Annotated[
    str | None,
    typer.Option(
        help="Name of a model. `--weights FILE` needs it only if the file does not name its network.",
        autocompletion=MODEL_NAMES,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="fb, timm_ra2, a path, or a URL. The default is the model's released weights (fb, licence CC BY-NC 4.0)."
    ),
]
Pair = Annotated[Path | None, typer.Option(help="Pair file of the network that the weights are for.")]


def models(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Weight files, or folders of trainings: list these instead.")
    ] = None,
    zoo: Zoo = None,
    as_json: Json = False,
) -> None:
    """List the networks and their weights, with their costs at the resolution of evaluation, and quoted accuracies.

    Of one's own weights, which `train` and `search run` wrote, the accuracies were measured when they were trained.
    """
    from fbnetv3.hub.registry import read_registry

    if paths:
        if zoo is not None:
            raise InputError("both files and --zoo; give one of them")
        print_each(_weight_files(paths), _own_rows, as_json)
        return
    rows = [
        {
            "model": row.model,
            "weights": row.source,
            "licence": row.licence,
            "image": row.transforms.crop,
            "flops_m": row.flops_m if as_json else f"{row.flops_m:.1f}",
            "params_m": row.params_m if as_json else f"{row.params_m:.2f}",
            **(
                {"metrics": [{"name": m.name, "value": m.value, "origin": m.origin} for m in row.metrics]}
                if as_json
                else {"acc1 (origin)": ", ".join(f"{m.value} ({m.origin})" for m in row.metrics if m.name == "acc1")}
            ),
        }
        for row in read_registry(zoo).rows
    ]
    print_rows(rows, as_json)


def _weight_files(paths: list[Path]) -> list[Path]:
    """Return the weight files in folders and those that are given.

    Raises:
        InputError: a folder has none.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted((*path.rglob("weights.pt"), *path.rglob("*.safetensors")))
        if not inside:
            raise InputError(
                f"{path} has no weights of a training (weights.pt, *.safetensors); give a folder that has some"
            )
        found += inside
    return found


def _own_rows(path: Path) -> list[Row]:
    """Return the row of a weight file that says what it is."""
    from fbnetv3.networks.weight_file import read_weight_file

    file = read_weight_file(path)
    training = file.training
    accuracies = {key: round(value, 2) for key, value in training.get("metrics", {}).items() if value is not None}
    return [
        {
            "weights": str(path),
            "network": file.arch.name,
            "classes": file.num_classes,
            "image": file.transforms.crop,
            "data": training.get("data"),
            "epochs": training.get("epochs"),
            "trained_from": ", ".join(file.derived_from) or None,
            **{name: accuracies.get(name) for name in ("val_acc1", "test_acc1")},
        }
    ]


def info(
    name: Annotated[str, typer.Argument(help="Name of a model, or a pair file.", autocompletion=MODEL_NAMES)],
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Number of classes. The default is 1000, or that of the pair's data.")
    ] = None,
    in_chans: Annotated[
        int | None, typer.Option(min=1, help="Number of input channels. The default is 3, or that of the pair's data.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the image in pixels. The default is the network's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the stages of a network: shapes, FLOPs (a multiply-add counts as one) and parameters, and the totals."""
    from fbnetv3.complexity import CONVENTIONS, parts

    arch, classes, channels = _network(name)
    stages = list(parts(arch, num_classes or classes, in_chans or channels, resolution))
    rows = [
        {
            "part": part.name,
            "output": f"{part.channels} x {part.side} x {part.side}",
            "flops": part.cost.flops(),
            "params": part.cost.params(),
        }
        for part in stages
    ]
    totals = [
        {
            "model": arch.name,
            "convention": convention,
            "flops": sum(part.cost.flops(convention) for part in stages),
            "params": sum(part.cost.params(convention) for part in stages),
        }
        for convention in CONVENTIONS
    ]
    if as_json:
        print(dump_json({"totals": totals, "parts": rows}))
        return
    say(f"{arch.name}, {resolution or arch.resolution} x {resolution or arch.resolution}, published convention:")
    print_rows(rows, as_json)
    print_rows(totals, as_json)


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Model = None,
    weights: WeightsOption = None,
    pair: Pair = None,
    zoo: Zoo = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 5,
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    as_json: Json = False,
) -> None:
    """Classify images with the released FBNetV3-A, another model, or weights that `search run` or `train` wrote."""
    from fbnetv3.device import find_device, tf32_units
    from fbnetv3.networks.classifier import Classifier

    need_images(images)
    device = find_device(device)
    say_device("classifying", device)
    classifier = Classifier.from_weight_file(weight_file(model, weights, pair, zoo))
    classifier.model.to(device)

    def rows_of(image: Path) -> list[Row]:
        ranked = classifier.predict(image)[:top]
        return [{"image": str(image), "class": name, "probability": round(p, 4)} for name, p in ranked]

    with tf32_units(used=False):
        print_each(images, rows_of, as_json)


def export(
    path: Annotated[Path, typer.Argument(help="File to write.")],
    format: Annotated[str, typer.Option(help="File format: onnx, torch-export, openvino or executorch.")],
    model: Model = None,
    weights: WeightsOption = None,
    pair: Pair = None,
    zoo: Zoo = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the image in pixels. The default is that of the weights.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a network in another format, and compare the logits of the written file with those of the network.

    An ONNX file also has the classes, the preprocessing and the licence of the weights, as its metadata.
    """
    import torch

    from fbnetv3.inference.export import check_target, export_model

    for target in check_target(path, format):  # before weights are downloaded
        refuse_to_overwrite(target, overwrite)
    file = weight_file(model, weights, pair, zoo)
    side = resolution or file.transforms.crop
    example = torch.randn(2, file.transforms.in_chans, side, side, generator=torch.Generator().manual_seed(0))
    exported = export_model(file.build(), example, path, format, _metadata(file, side, zoo))
    row = {
        "file": str(exported.paths[0]),
        "format": exported.format,
        "bytes": exported.bytes,
        "difference": exported.difference,
    }
    print_rows([row], as_json)


def _metadata(file: WeightFile, side: int, zoo: Path | None) -> dict[str, str]:
    """Return what a program needs besides a network for images of `side` pixels. Values other than texts are JSON."""
    from fbnetv3.hub.registry import read_registry
    from fbnetv3.networks.classifier import class_names

    transforms, registry = file.transforms.at(side), read_registry(zoo)
    facts = {"network": file.arch.name, "classes": class_names(file.classes), **transforms.to_dict()}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    origins = [registry.by_id(origin) for origin in file.derived_from]
    if licences := list(dict.fromkeys(row.licence for row in origins if row is not None)):
        texts |= {"derived_from": json.dumps(file.derived_from), "licence": ", ".join(licences)}
    return texts


def scale(
    target_flops: Annotated[str, typer.Option(help="Number of FLOPs to reach, such as 1.2G.")],
    model: Annotated[str | None, typer.Option(help="Name of the network to scale.", autocompletion=MODEL_NAMES)] = None,
    pair: Annotated[Path | None, typer.Option(help="Pair file of the network to scale.")] = None,
    tolerance: Annotated[
        float, typer.Option(callback=finite, help="Largest relative difference from the target, such as 0.01 for 1%.")
    ] = 0.01,
    flops_convention: Annotated[str, typer.Option(help="How FLOPs are counted: published or fvcore.")] = "published",
    top: Annotated[int, typer.Option(min=1, help="Number of scaled networks to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Find coefficients of depth, width and resolution that scale a network to a target of FLOPs (compound scaling)."""
    from fbnetv3.arch import find_arch
    from fbnetv3.pair_file import load_pair, pair_shape
    from fbnetv3.scaling import coefficients

    if (model is None) == (pair is None):
        raise InputError("give one network, with --model or with --pair")
    kinds = (1000, 3)
    if pair is not None:
        read = load_pair(pair)
        arch, kinds = read.arch, pair_shape(read)
    else:
        arch = find_arch(model or "")
    target = parse_count(target_flops, "--target-flops")
    found = coefficients(
        arch, target, convention=flops_convention, tolerance=tolerance, num_classes=kinds[0], in_chans=kinds[1]
    )
    rows: list[dict[str, Any]] = [
        {
            "depth": s.depth,
            "width": s.width,
            "resolution": s.resolution,
            "image": s.arch.resolution,
            "blocks": sum(row.n for row in s.arch.rows),
            "flops": s.flops,
            "off": round(s.flops / target - 1.0, 5),
            "from_rule": round(-s.score, 4),
        }
        for s in found[:top]
    ]
    if as_json:
        rows = [row | {"arch": s.arch.to_dict()} for row, s in zip(rows, found, strict=False)]
    print_rows(rows, as_json)


def weight_file(
    model: str | None,
    weights: str | None,
    pair: Path | None,
    zoo: Path | None,
    undescribed: Undescribed | None = None,
) -> WeightFile:
    """Return the weights that the options name. Without any option these are the released weights of FBNetV3-A.

    Args:
        undescribed: see `load_weights`.
    """
    from fbnetv3.hub.load import load_weights
    from fbnetv3.hub.registry import read_registry

    registry = read_registry(zoo)
    if pair is not None:
        if model is not None:
            raise InputError(f"both --model {model} and --pair {pair} name the network; give one of them")
        if weights is None:
            raise InputError(f"--pair {pair} without --weights; also give the weight file, which is in the same folder")
        return load_weights(_network(str(pair))[0], weights, registry)
    if model is None and (weights is None or weights in {row.source for row in registry.rows}):
        model = registry.models()[0]
    return load_weights(model, weights, registry, undescribed=undescribed)


def _network(name: str) -> tuple[Arch, int, int]:
    """Return the architecture of a model name or pair file, and its numbers of classes and input channels."""
    from fbnetv3.arch import find_arch

    if not name.endswith((".yaml", ".yml")):
        return find_arch(name), 1000, 3
    from fbnetv3.pair_file import load_pair, pair_shape

    pair = load_pair(name)
    return pair.arch, *pair_shape(pair)
