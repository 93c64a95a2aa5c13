"""The generated blocks of README.md: the zoo's table and what the benchmarks measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fbnetv3.benchmarks.result import load_result
from fbnetv3.hub.registry import read_registry
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
    """What NARS gained over its rivals here, on trainings that are known and on real ones."""
    return "\n\n".join(
        [
            compared("compare_nas_bench_macro", "Looked up in NAS-Bench-Macro (6,561 networks trained on CIFAR-10)"),
            compared("compare_quickstart", "Trained here, the quickstart, on untouched test images"),
        ]
    )


def compared(name: str, what: str) -> str:
    """A table of a comparison: accuracy by method, and whether NARS's is different."""
    result = load_result(name)
    cases = result.values["cases"]
    seeds = {len(case["seeds"]) for case in cases.values()}
    methods = list(next(iter(cases.values()))["methods"])
    lines = [
        f"{what} ({result.date}, {min(seeds)} seeds, `{result.command}`): true accuracy of the answer, and NARS minus that "
        "method, paired by seed, with its 95% interval.",
        "",
        f"| method | {' | '.join(case.replace('_', ' ') for case in cases)} |",
        f"|---|{'---|' * len(cases)}",
    ]
    for method in methods:
        cells = []
        for case in cases.values():
            row, against = case["methods"][method], case["nars_minus"].get(method)
            gain = against and f" ({against['mean']:+.2f} [{against['low']:+.2f}, {against['high']:+.2f}])"
            cells.append(f"{row['acc1']:.2f}{gain or ''}")
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    lines += ["", *(_verdicts(name, case["nars_minus"]) for name, case in cases.items())]
    return "\n".join(lines)


def _verdicts(name: str, against: Mapping[str, Mapping[str, float]]) -> str:
    """A sentence for a case."""
    found: dict[str, list[str]] = {"better": [], "no difference": [], "worse": []}
    for method, difference in against.items():
        found[verdict(difference)].append(f"`{method}`")
    said = "; ".join(f"{word}: {', '.join(methods) or 'none'}" for word, methods in found.items())
    return f"- {name.replace('_', ' ')}, NARS against each: {said}."


def verdict(difference: Mapping[str, float]) -> str:
    """What an interval says of the first of two."""
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "no difference"


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
