"""What benchmarks of searches on tables share: one search of NARS, and answers in files that a second call finds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from fbnetv3.benchmarks.harness import Values
from fbnetv3.errors import InputError
from fbnetv3.files import write_atomically
from fbnetv3.progress import silent
from fbnetv3.schema import dump_json, load_json
from fbnetv3.search.execution.executor import Executor, InProcess
from fbnetv3.search.nars.algorithm import choose, stage2, stage3
from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.trial import Ledger, Trial


def search(
    context: Context, predictor: AccuracyPredictor, executor: Executor | None = None
) -> tuple[Proposal, list[Trial]]:
    """Run NARS with a predictor that is pretrained already; return its answer and its trials in order.

    Args:
        executor: runs the trainings; by default this process.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(Path(folder) / "ledger.jsonl", context.config.fingerprint) as ledger,
    ):
        runner = BatchRunner(context, ledger, executor or InProcess(context.evaluator()), silent)
        trained = stage2(context, predictor, runner)
        evolved = stage3(context, predictor, trained)
        return choose(context, predictor, runner, trained, evolved), sorted(ledger.trials, key=lambda t: t.place)


def kept_answer(file: Path, config: str, names: Sequence[str], measure: Callable[[], Values]) -> Values:
    """Return an answer by name. What the file has already is only read; otherwise it is measured and written.

    Args:
        config: tells what the answer is of.
        names: of its values.

    Raises:
        InputError: the file is of another configuration.
    """
    if file.is_file():
        data: Values = load_json(file, "answer of this benchmark", ("config", *names))
        if data.pop("config") != config:
            raise InputError(f"{file} is of another configuration; give another --out")
        return data
    answer = measure()
    write_atomically(file, dump_json({"config": config} | answer))
    return answer
