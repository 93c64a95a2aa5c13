"""`fbnetv3 models | info | predict | export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbnetv3.cli.show import Json, out, print_rows
from fbnetv3.errors import InputError

if TYPE_CHECKING:
    from fbnetv3.arch import Arch
    from fbnetv3.weight_file import WeightFile

Zoo = Annotated[Path | None, typer.Option(help="Folder of an own zoo, instead of the package's.")]
Model = Annotated[str | None, typer.Option(help="A model name; with `--weights FILE` only for files that do not say.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="fb, timm_ra2, a path or a URL; by default the model's released ones (fb, CC BY-NC 4.0)."),
]
Pair = Annotated[Path | None, typer.Option(help="Pair file that the weights must belong to.")]


def models(zoo: Zoo = None, as_json: Json = False) -> None:
    """List the networks and their weights: costs at the size they are evaluated at, and quoted accuracies."""
    from fbnetv3.hub.registry import read_registry

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


def info(
    name: Annotated[str, typer.Argument(help="A model name, or a pair file.")],
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="By default 1000, or those of the pair's data.")
    ] = None,
    in_chans: Annotated[int | None, typer.Option(min=1, help="By default 3, or those of the pair's data.")] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the image; by default the network's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the stages of a network: shapes, FLOPs (one multiply-add = 1) and parameters, and both conventions' totals."""
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
        print(json.dumps({"totals": totals, "parts": rows}, indent=1))
        return
    out.print(f"{arch.name}, {resolution or arch.resolution} x {resolution or arch.resolution}, published convention:")
    print_rows(rows, as_json)
    print_rows(totals, as_json)


def predict(
    images: Annotated[list[Path], typer.Argument(help="Pictures.")],
    model: Model = None,
    weights: WeightsOption = None,
    pair: Pair = None,
    zoo: Zoo = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    as_json: Json = False,
) -> None:
    """Classify pictures: with the released FBNetV3-A, another model, or weights that `search run` or `train` wrote."""
    from fbnetv3.classifier import Classifier

    classifier = Classifier.from_weight_file(weight_file(model, weights, pair, zoo))
    rows = [
        {"image": str(image), "class": name, "probability": round(p, 4)}
        for image in images
        for name, p in classifier.predict(image)[:top]
    ]
    print_rows(rows, as_json)


def export(
    path: Annotated[Path, typer.Argument(help="File to write.")],
    format: Annotated[str, typer.Option(help="onnx, torch-export, openvino or executorch.")],
    model: Model = None,
    weights: WeightsOption = None,
    pair: Pair = None,
    zoo: Zoo = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the image; by default that of the weights.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a network in another format and check it against the logits that it has here."""
    import torch

    from fbnetv3.inference.export import export_model

    file = weight_file(model, weights, pair, zoo)
    side = resolution or file.transforms.crop
    example = torch.randn(2, file.transforms.in_chans, side, side, generator=torch.Generator().manual_seed(0))
    exported = export_model(file.build(), example, path, format)
    row = {
        "file": str(exported.paths[0]),
        "format": exported.format,
        "bytes": exported.bytes,
        "difference": exported.difference,
    }
    print_rows([row], as_json)


def weight_file(model: str | None, weights: str | None, pair: Path | None, zoo: Path | None) -> WeightFile:
    """The weights that the options mean; without any, those of the released FBNetV3-A."""
    from fbnetv3.hub.load import load_weights
    from fbnetv3.hub.registry import read_registry

    registry = read_registry(zoo)
    if pair is not None:
        if model is not None:
            raise InputError(f"both --model {model} and --pair {pair}; a pair names its network: give one")
        if weights is None:
            raise InputError(f"--pair {pair} without --weights; give the weight file beside it too")
        return load_weights(_network(str(pair))[0], weights, registry)
    if model is None and (weights is None or weights in {row.source for row in registry.rows}):
        model = registry.models()[0]
    return load_weights(model, weights, registry)


def _network(name: str) -> tuple[Arch, int, int]:
    """The architecture that a model name or a pair file means, its number of classes and of channels."""
    from fbnetv3.arch import find_arch

    if not name.endswith((".yaml", ".yml")):
        return find_arch(name), 1000, 3
    from fbnetv3.pair_file import load_pair, pair_shape

    pair = load_pair(name)
    return pair.arch, *pair_shape(pair)
