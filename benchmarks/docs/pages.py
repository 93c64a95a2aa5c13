"""Which generated block of README.md and docs/ has which tables of which result.

A block is a caption with date, command and link to the result file, and tables. Where nothing was measured, it says so. The
sentences around the blocks are written by hand; tests check them against the result files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath

from fbnetv3.benchmarks.catalogue import CATALOGUE, COMPARE, Entry
from fbnetv3.benchmarks.result import RESULTS as FILES
from fbnetv3.benchmarks.result import load_result

RESULTS = PurePosixPath("benchmarks/results")  # in the checkout


@dataclass(frozen=True)
class Block:
    """One generated block.

    Attributes:
        entry: the benchmark.
        result: name of the result file.
        tables: titles of the tables of the benchmark; by default all of them.
        may_lack: whether the result file may be missing, because the benchmark needs a machine that is not always there.
    """

    entry: Entry
    result: str
    tables: tuple[str, ...] = ()
    may_lack: bool = False

    def markdown(self, page: str) -> str:
        """Return the block as Markdown.

        Args:
            page: path of the page in the checkout, for the link to the result file.
        """
        if self.may_lack and not (FILES / f"{self.result}.json").is_file():
            return f"Not run: there is no result file `{self.result}.json`."
        result = load_result(self.result)
        tables = self.entry.load().all_tables(result)
        # Pages are read on the web, where only relative links lead into the same checkout.
        link = os.path.relpath(RESULTS / f"{self.result}.json", PurePosixPath(page).parent)
        caption = f"Result of `{result.command}`, {result.date} ([{self.result}.json]({link})):"
        return "\n\n".join([caption, *(tables[title].markdown() for title in self.tables or tables)])


def _gpu(part: str) -> Block:
    """Return the block of a benchmark that needs a GPU."""
    return Block(CATALOGUE[f"gpu-{part}"], f"gpu_{part}", may_lack=True)


def _block(command: str, *tables: str) -> Block:
    """Return the block of a benchmark whose result file has the name of its command."""
    return Block(CATALOGUE[command], command.replace("-", "_"), tables)


def _experiment(name: str) -> Block:
    """Return the block of one experiment at the scale of one machine."""
    return Block(CATALOGUE["experiment"], f"experiment_{name}")


VERDICTS = "all tables: better, no difference, worse"
REGRET = "regret (by how many points NARS is more accurate [95% intervals that hold together])"
# A block without titles has all tables of its benchmark.
PAGES = {
    "README.md": {
        "zoo": _block("zoo-cost"),
        "comparison_final": Block(COMPARE, "compare_final", (VERDICTS,)),
        "comparison_final_30": Block(COMPARE, "compare_final_30", (VERDICTS,)),
        "comparison": Block(COMPARE, "compare_nas_bench_macro", (REGRET,)),
        "comparison_quickstart": Block(COMPARE, "compare_quickstart"),
        "speed": _block("inference", "threads 1: times as fast as timm eager"),
    },
    "docs/experiments.md": {name: _experiment(name) for name in ("table1", "table3", "table6", "table8")},
    "docs/training.md": {"fine_tuning": _block("fine-tuning")},
    "docs/search.md": {
        "quickstart": _block("quickstart"),
        "space": _block("space-sizes"),
        "costs": _block("cost-speed"),
        "predictor": _block("predictor"),
        "asynchronous": _block("asynchronous"),
        "evolution": _block("evolution"),
        "early_stopping": _block("early-stopping"),
        "warm_start": _block("warm-start"),
        "finalists": _block("finalists"),
        "latency": _block("latency"),
        "parallel": _block("parallel", "parallel efficiency with two workers"),
        "zoo": _block("regenerate"),
        "final": Block(COMPARE, "compare_final"),
        "final_all": Block(COMPARE, "compare_final_all", (VERDICTS, *(f"trainings {n}: {REGRET}" for n in (24, 96)))),
        "final_30": Block(
            COMPARE,
            "compare_final_30",
            (VERDICTS, *(f"trainings {n} flops 30%: {REGRET}" for n in (24, 48, 96))),
        ),
        "collection": _block("collection"),
        "invented": Block(COMPARE, "compare_invented"),
    },
    "docs/detection.md": {
        "costs": _block("detection-cost"),
        "photos": _block("detection-voc100"),
        "speed": _block("detection-speed"),
    },
    "docs/gpu.md": {part: _gpu(part) for part in ("tests", "inference", "training", "cifar10", "search")},
}
