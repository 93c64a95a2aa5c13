"""The generated blocks of README.md: the zoo's table and what the benchmarks measured."""

from __future__ import annotations

from collections.abc import Callable

from fbnetv3.benchmarks.nars_vs_random import NAME as COMPARISON
from fbnetv3.benchmarks.result import load_result
from fbnetv3.hub.weights import read_registry
from fbnetv3.model import list_models

INFERENCE = "inference"


def zoo() -> str:
    """A..G: costs counted here, accuracies quoted."""
    costs = load_result("zoo_cost")
    lines = [
        "| model | image | FLOPs | params | top-1, released file | top-1, paper |",
        "|---|---|---|---|---|---|",
    ]
    registry = read_registry()
    for name in list_models():
        row = registry.find(name, "fb")
        flops, params = (costs.number(f"{name}.published.{key}") / 1e6 for key in ("flops", "params"))
        paper, file = row.metric("acc1", "paper"), row.metric("acc1", "released file")
        quoted = "not given" if paper is None else f"{paper:.1f}"
        lines.append(f"| `{name}` | {row.transforms.crop} | {flops:.1f}M | {params:.2f}M | {file:.2f} | {quoted} |")
    return "\n".join(lines)


def comparison() -> str:
    """What NARS gained over random search here."""
    result = load_result(COMPARISON)
    n, value = len(result.values["seeds"]), result.number
    low, high = value("difference.low"), value("difference.high")
    verdict = "excludes" if low > 0 or high < 0 else "does not exclude"
    return (
        f"Measured here ({result.date}, {n} seeds, `{result.command}`): on the untouched test images NARS reached "
        f"{value('mean.nars'):.2f}% and random search with as many trainings ({value('trainings')}) under the same budget "
        f"{value('mean.random'):.2f}%, a paired difference of {value('difference.mean'):+.2f} points with a 95% interval of "
        f"{low:+.2f} to {high:+.2f}, which {verdict} zero. The median validation accuracy of NARS's last batch was "
        f"{value('trials.median_last_batch'):.1f}%, of random candidates {value('trials.median_random'):.1f}%; within the "
        f"guided batches predicted and measured accuracy had a rank correlation of {value('trials.rank_correlation'):.2f}."
    )


def speed() -> str:
    """How fast every path of inference is here, against timm's network in eager mode."""
    result = load_result(INFERENCE)
    one = result.values["threads_1"]
    lines = [
        f"Measured here ({result.date}, {result.versions['cpu']}, one thread, `{result.command}`): how many times as fast as "
        f"timm's eager float32 network of the same function `{result.values['model']}` is at {result.values['resolution']} "
        "pixels, ratio of medians with its 95% interval.",
        "",
        f"| path | {' | '.join(batch.replace('_', ' ') for batch in one)} |",
        f"|---|{'---|' * len(one)}",
    ]
    names = [
        name
        for name, row in next(iter(one.values())).items()
        if isinstance(row, dict) and "ratio" in row and not name.startswith("matmul_")
    ]
    for name in names:
        cells = [f"{row[name]['ratio']:.2f} [{row[name]['low']:.2f}, {row[name]['high']:.2f}]" for row in one.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    missed = [name for name, target in result.values["targets"].items() if not target["met"]]
    start, int8 = result.values["start"], result.values["int8_accuracy"]["mean"]
    shares = " and ".join(f"{row['peak_share']:.2f}" for row in one.values())
    lines += [
        "",
        f"The best float32 path reaches {shares} of the multiply-adds a second of the fastest matrix product. Importing this "
        f"package takes {start['import_over_torch']['ratio']:.2f} times torch's time, building `fbnetv3_g` "
        f"{start['build_over_timm']['ratio']:.2f} times timm's. A network trained on the package's images has "
        f"{int8['fp32']:.2f}% on their test images in float32 and {int8['int8']:.2f}% in int8 (mean of "
        f"{len(result.values['int8_accuracy']['seeds'])} seeds). Targets missed: {', '.join(missed) or 'none'}.",
    ]
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[], str]] = {"zoo": zoo, "comparison": comparison, "speed": speed}
