"""The scripts for SLURM in docs/slurm.md and docs/slurm.sh, run as they are, with pretended commands of SLURM."""

import os
import re
import subprocess
import sys
import time

import pytest

from fbnetv3.files import load_torch
from fbnetv3.pair_file import load_pair
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.sessions import run_search
from fbnetv3.search.trial import comparable, read_ledger
from tests.cli.training_files import NOISY, OWN, arguments
from tests.places import ROOT
from tests.search.images import fashion_config
from tests.training.data.examples import make_folder

PAGE = (ROOT / "docs" / "slurm.md").read_text()
SCRIPT = ROOT / "docs" / "slurm.sh"

SBATCH = """#!/bin/bash
# Runs a script as a job, once more each time that it put itself into the queue.
given=()
while [[ "$1" == -* ]]; do given+=("$1"); shift; done
script=$1; shift
for option in $(sed -n 's/^#SBATCH //p' "$script") "${given[@]}"; do
    case $option in
        --nodes=*) export SLURM_NNODES=${option#*=} ;;
        --ntasks-per-node=*) export SLURM_NTASKS_PER_NODE=${option#*=} ;;
        --cpus-per-task=*) export SLURM_CPUS_PER_TASK=${option#*=} ;;
        --signal=*) export WARNING=${option#*=} ;;
    esac
done
export SLURM_NTASKS=$((SLURM_NNODES * SLURM_NTASKS_PER_NODE)) SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_JOB_ID=77
export SLURM_RESTART_COUNT=0
while bash "$script" "$@"; code=$?; [[ -f "$NOTES/queued" ]]; do
    rm "$NOTES/queued"
    SLURM_RESTART_COUNT=$((SLURM_RESTART_COUNT + 1))
done
exit $code
"""
SRUN = """#!/bin/bash
# Starts a command as many times as it is told, and says to each process which one it is.
echo "$*" >> "$NOTES/srun"
count=$SLURM_NTASKS
while [[ "$1" == -* ]]; do
    [[ "$1" == --ntasks=* ]] && count=${1#*=}
    shift
done
export SLURM_NTASKS=$count SLURM_STEP_NUM_TASKS=$count SLURM_STEP_NUM_NODES=$SLURM_NNODES SLURM_STEP_ID=0
export SLURM_STEP_NODELIST="localhost,node[002-003]"
# As SLURM does, without a terminal.
for ((i = 0; i < count; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$((i % SLURM_NTASKS_PER_NODE)) setsid "$@" &
    tasks+=($!)
done
# In the first run of the job, the time limit comes when a file has so many lines. The tasks do not get the signal at once.
if [[ "$WARNING" == USR1@* && "$SLURM_RESTART_COUNT" == 0 && -n "$FILE" ]]; then
    while [[ $(cat "$FILE" 2> /dev/null | wc -l) -lt $LINES ]]; do sleep 0.05; done
    for ((i = count - 1; i >= 0; i--)); do kill -USR1 ${tasks[i]}; sleep 0.3; done
fi
highest=0
for task in ${tasks[@]}; do
    wait $task
    code=$?
    ((code > highest)) && highest=$code
done
exit $highest
"""
SCONTROL = """#!/bin/bash
echo "$*" >> "$NOTES/scontrol"
[[ "$1" == requeue ]] && touch "$NOTES/queued"
[[ "$1 $2" == "show hostnames" ]] && printf '%s\\n' $HOSTS
exit 0
"""
NOTES_ITS_CALL = """#!/bin/bash
echo "$*" | tee "$NOTES/$(basename "$0").${SLURM_PROCID:-alone}.$$" > /dev/null
"""
ENDS = """#!/bin/bash
# Ends with the next of the codes, the second task with 0.
echo "$SLURM_PROCID: $*, $SRUN_CPUS_PER_TASK processors" >> "$NOTES/calls"
codes=($CODES)
[[ "$SLURM_PROCID" == 0 ]] && exit ${codes[$SLURM_RESTART_COUNT]}
exit 0
"""
RUNS = """#!/bin/bash
exec $PYTHON -m fbnetv3 "$@"
"""


def printed(name):
    """A script of the page, by the name in the comment before it."""
    return re.search(rf"<!-- slurm: {name} -->\n```bash\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture
def slurm(tmp_path):
    """Run a command with SLURM's on its path: (command, fbnetv3, variables). Notes are in the folder `notes`."""
    commands, notes = tmp_path / "bin", tmp_path / "notes"
    commands.mkdir()
    notes.mkdir()

    def run(command, fbnetv3, **variables):
        texts = {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL, "ray": NOTES_ITS_CALL, "fbnetv3": fbnetv3}
        for file, text in texts.items():
            (commands / file).write_text(text)
            (commands / file).chmod(0o755)
        places = {"PATH": f"{commands}:{os.environ['PATH']}", "NOTES": str(notes), "PYTHONPATH": str(ROOT)}
        places |= {"PYTHON": sys.executable, "DIR": str(tmp_path / "run"), "OMP_NUM_THREADS": "1"}
        environment = os.environ | places | variables
        return subprocess.run(
            list(map(str, command)), env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280
        )

    return run


def noted(tmp_path, pattern):
    return sorted(path.read_text().strip() for path in (tmp_path / "notes").glob(pattern))


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within a minute")


def test_the_page_shows_the_script():
    assert printed("script") == SCRIPT.read_text()


@pytest.mark.parametrize(
    ("codes", "runs", "code"),
    [("0", 1, 0), ("138 0", 2, 0), ("138 138 2", 3, 2), ("2", 1, 2), ("143", 1, 143), ("130", 1, 130)],
)
def test_a_job_is_queued_again_if_it_was_warned_of_the_time_limit(slurm, tmp_path, codes, runs, code):
    done = slurm(["sbatch", "--nodes=1", "--ntasks-per-node=2", SCRIPT, "train", "--out", "a b"], ENDS, CODES=codes)
    assert (done.returncode, done.stderr) == (code, "")
    calls = (tmp_path / "notes" / "calls").read_text().splitlines()
    expected = ["0: train --out a b, 8 processors", "1: train --out a b, 8 processors"] * runs
    assert sorted(calls) == sorted(expected)
    assert noted(tmp_path, "srun") == ["\n".join(["--kill-on-bad-exit fbnetv3 train --out a b"] * runs)]
    assert noted(tmp_path, "scontrol") == (["\n".join(["requeue 77"] * (runs - 1))] if runs > 1 else [])


def test_what_works_in_one_process_is_refused_in_several_tasks(slurm, tmp_path):
    done = slurm(["sbatch", "--nodes=2", "--ntasks-per-node=1", SCRIPT, "search", "run", "--out", "run"], RUNS)
    assert done.returncode == 2
    (line,) = set(done.stderr.splitlines())
    assert done.stderr.count("\n") == 2  # one from each task
    assert line.startswith("fbnetv3: this is one of 2 processes, and only train, ")
    assert not (tmp_path / "run").exists()


def test_every_seed_has_its_folder(slurm, tmp_path):
    given = {"PRESET": "cifar10", "DATA": "D", "SLURM_ARRAY_TASK_ID": "4"}
    assert slurm(["bash", "-c", printed("seeds")], NOTES_ITS_CALL, **given).returncode == 0
    assert noted(tmp_path, "fbnetv3.*") == [f"search run --preset cifar10 --data D --seed 4 --out {tmp_path}/run/4"]


def test_a_cluster_has_one_head_and_the_search_knows_it(slurm, tmp_path):
    given = {
        "SLURM_NNODES": "4",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_JOB_NODELIST": "node[0-3]",
        "HOSTS": "node0 node1 node2 node3",
        "PRESET": "cifar10",
        "DATA": "D",
        "RAY_WAIT": "0.3",
    }
    assert slurm(["bash", "-c", printed("ray")], NOTES_ITS_CALL, **given).returncode == 0
    wait_for(lambda: len(noted(tmp_path, "ray.*")) == 4)
    assert noted(tmp_path, "ray.*") == [
        *["start --address=node0:6379 --block"] * 3,
        "start --head --port=6379 --block",
    ]
    (one, others) = (tmp_path / "notes" / "srun").read_text().splitlines()
    assert one.startswith("--nodes=1 --ntasks=1 --nodelist=node0 ray start --head")
    assert others.startswith("--nodes=3 --ntasks=3 --exclude=node0 ray start --address=node0:6379")
    assert noted(tmp_path, "fbnetv3.*") == [
        "search run --preset cifar10 --data D --device cuda --executor ray --ray-address node0:6379 "
        f"--out {tmp_path / 'run'}"
    ]


@pytest.mark.parametrize("name", ["script", "ray"])
def test_processes_of_srun_get_the_cpus_of_their_job(name):
    # Newer versions of srun do not read what sbatch was asked for: Ray would find one CPU on a node of 64.
    before, _, after = printed(name).partition("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK\n")
    assert "--cpus-per-task=" in before
    assert re.search("^srun", after, re.MULTILINE)
    assert not re.search("^srun", before, re.MULTILINE)


@pytest.mark.slow
def test_a_training_that_was_queued_again_ends_as_an_uninterrupted_one_of_torchrun(slurm, tmp_path):
    (tmp_path / "nets_here.py").write_text(OWN)
    (tmp_path / "noisy.yaml").write_text(NOISY)
    animals = make_folder(tmp_path / "animals")
    words = [*map(str, arguments(animals, recipe="noisy.yaml")), "--set", "batch_size=6", "--resume"]
    # The first epoch is written, and the second has not ended.
    given = {"PAUSE": "0.3", "FILE": str(tmp_path / "run" / "metrics.csv"), "LINES": "2"}
    done = slurm(["sbatch", "--nodes=2", "--ntasks-per-node=1", SCRIPT, *words], RUNS, **given)
    assert done.returncode == 0, done.stderr
    assert noted(tmp_path, "scontrol") == ["requeue 77"]
    assert done.stderr.count("epoch 1/3") > 0
    starts = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "fbnetv3"]
    words[words.index("run")] = "whole"
    whole = slurm([*starts, *words], RUNS)
    assert whole.returncode == 0, whole.stderr
    metrics = [(tmp_path / folder / "metrics.csv").read_text() for folder in ("run", "whole")]
    assert len(metrics[0].splitlines()) == 4
    assert metrics[0] == metrics[1]
    files = (load_torch(tmp_path / folder / "weights.pt", "weights") for folder in ("run", "whole"))
    weights, expected = (file["state_dict"] for file in files)
    assert weights.keys() == expected.keys()
    assert all(value.equal(expected[key]) for key, value in weights.items())


@pytest.mark.slow
def test_a_search_that_was_queued_again_ends_as_an_uninterrupted_one(slurm, tmp_path):
    cfg = fashion_config(tmp_path)
    run_search(cfg, tmp_path / "expected", executor=ExecutorSettings(workers=1))
    save_config(cfg, tmp_path / "preset.yaml")
    ledger = tmp_path / "run" / "ledger.jsonl"
    words = ["search", "run", "--preset", "preset.yaml", "--workers", "1", "--out", "run", "--resume"]
    done = slurm(["sbatch", "--nodes=1", "--ntasks-per-node=1", SCRIPT, *words], RUNS, FILE=str(ledger), LINES="3")
    assert done.returncode == 0, done.stderr
    assert noted(tmp_path, "scontrol") == ["requeue 77"]
    assert comparable(read_ledger(ledger)) == comparable(read_ledger(tmp_path / "expected" / "ledger.jsonl"))
    assert load_pair(tmp_path / "run" / "pair.yaml") == load_pair(tmp_path / "expected" / "pair.yaml")
