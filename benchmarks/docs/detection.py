"""The generated blocks of docs/detection.md, from the result files; needs no detectron2."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fbnetv3.arch import TABLE5
from fbnetv3.benchmarks.experiments.report import markdown_table
from fbnetv3.benchmarks.paper.numbers import load_paper
from fbnetv3.benchmarks.result import Result, load_result


def costs() -> str:
    """Table 5's cost columns, the paper's and ours."""
    result = load_result("detection_cost")
    quoted = {number.id: number for item in load_paper() if item.id == "table5" for number in item.numbers}
    rows = []
    for name in TABLE5:
        row = name.removeprefix("table5_")
        figures = [result.number(f"{row}.{key}") for key in ("params", "flops")]
        rows.append(
            [
                f"`{name}`",
                f"{quoted[f'{row}.params'].value}M",
                f"{figures[0] / 1e6:.3f}M",
                f"{quoted[f'{row}.flops'].value}G",
                f"{figures[1] / 1e9:.3f}G",
            ]
        )
    table = "\n".join(
        markdown_table(["network", "params, paper", "params, counted", "FLOPs, paper", "FLOPs, counted"], rows)
    )
    return (
        f"Counted here ({result.date}, `{result.command}`):\n\n{table}\n\nFBNetV3-A against EfficientNetB0: "
        f"{result.number('reduction.params'):.1f}% fewer parameters and {result.number('reduction.flops'):.1f}% fewer FLOPs "
        f"(the paper: {quoted['reduction.params'].value}% and {quoted['reduction.flops'].value}%)."
    )


def photos() -> str:
    """The real run on VOC photos."""
    result = load_result("detection_voc100")
    rows = []
    for start, found in result.values["starts"].items():
        mean = found["mean"]
        cells = [f"{mean[kind][key]:.1f}" for kind in ("untrained", "ema", "raw", "training") for key in ("AP", "AP50")]
        rows.append([start, str(found["n"]), *cells, f"{found['least']:.1f}"])
    kinds = ("untrained", "averaged weights", "raw weights", "averaged, training photos")
    heads = [f"{kind}: {key}" for kind in kinds for key in ("AP", "AP50")]
    table = "\n".join(markdown_table(["start", "seeds", *heads, "least averaged AP"], rows))
    return (
        f"{result.method}\n\nMeasured here ({result.date}, `{result.command}`; `cifar10` has "
        f"{result.number('backbone_acc1'):.1f}% of held-out CIFAR-10 images right):\n\n{table}\n\nThe start from "
        f"`cifar10` was better than the random one with {_better(result, 'training')} seeds on the training photos, and with "
        f"{_better(result, 'ema')} on the held-out ones (AP of the averaged weights)."
    )


def _better(result: Result, kind: str) -> str:
    """With how many seeds, of all, the start from CIFAR-10 has the higher AP."""
    ours, theirs = (result.values["starts"][start]["seeds"] for start in ("cifar10", "random"))
    return f"{sum(ours[seed][kind]['AP'] > theirs[seed][kind]['AP'] for seed in ours)} of {len(ours)}"


def speed() -> str:
    """Images a second against timm's trunk, and what a full training takes."""
    result = load_result("detection_speed")
    rows = [
        [f"`{name}`", f"{row['images_per_s']:.2f}", f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"]
        for name, row in result.values["paths"].items()
    ]
    full = result.values["full_run"]
    table = "\n".join(markdown_table(["path", "images/s", "times as fast as on timm's trunk"], rows))
    return (
        f"{result.method}\n\nMeasured here ({result.date}, {result.versions['cpu']}, `{result.command}`):\n\n{table}\n\nThe "
        f"whole schedule of one network, {full['images']:,} images, at {full['images_per_s']:.2f} a second: about "
        f"{full['days']:.0f} days of that thread."
    )


BLOCKS: Mapping[str, Callable[[], str]] = {"costs": costs, "photos": photos, "speed": speed}
