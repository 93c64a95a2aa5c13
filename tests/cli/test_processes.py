"""Which commands work in several processes, and what the others say."""

import pytest

from fbnetv3 import InputError
from fbnetv3.cli import processes
from fbnetv3.cli.processes import join_processes
from tests.cli.test_cli import one_line

TASKS = {
    "SLURM_JOB_ID": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "1",
}
TOGETHER = [["train", "--pair", "p"], ["benchmark", "experiment", "table3"], ["benchmark", "coco"]]
ALONE = [
    ["search", "run", "--out", "DIR"],
    ["search", "resume", "DIR"],
    ["search", "collect"],
    ["make-zoo"],
    ["evaluate", "w.pt"],
    ["benchmark", "cifar10"],
    ["weights", "convert"],
    ["benchmark"],
]


@pytest.fixture
def environment(monkeypatch):
    """Give this process an environment of its own: (variables) -> it."""
    monkeypatch.setattr("fbnetv3.training.slurm.has_terminal", lambda: False)

    def put(**variables):
        monkeypatch.setattr(processes.os, "environ", dict(variables))
        return processes.os.environ

    return put


@pytest.mark.parametrize("words", TOGETHER)
def test_these_commands_join_the_other_tasks(environment, words):
    there = environment(**TASKS)
    join_processes(words)
    assert {key: there[key] for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")} == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
    }


@pytest.mark.parametrize("given", [TASKS, {"RANK": "1", "WORLD_SIZE": "2"}], ids=["srun", "torchrun"])
@pytest.mark.parametrize("words", ALONE, ids=" ".join)
def test_other_commands_are_refused(environment, words, given):
    environment(**given)
    with pytest.raises(
        InputError, match=r"this is one of 2 processes, and only train, .* work in several\. Start one process"
    ):
        join_processes(words)


@pytest.mark.parametrize("words", [*TOGETHER, *ALONE, []], ids=" ".join)
@pytest.mark.parametrize("given", [{}, TASKS | {"SLURM_STEP_NUM_TASKS": "1"}, TASKS | {"WORLD_SIZE": "1"}])
def test_one_process_may_do_anything(environment, words, given):
    there = environment(**given)
    join_processes(words)
    assert there == given


@pytest.mark.parametrize("words", [[], ["--version"], ["--help"]])
def test_what_writes_no_folder_is_not_refused(environment, words):
    environment(**TASKS)
    join_processes(words)


def test_a_refused_command_writes_one_line_and_nothing_else(run, tmp_path, monkeypatch):
    for key, value in {"RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(key, value)
    one_line(run("search", "run", "--out", tmp_path / "run"), "this is one of 4 processes")
    assert not (tmp_path / "run").exists()
