"""The scripts for SLURM in docs/search.md, run as they are printed there, with pretended commands of SLURM."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from fbnetv3.pair_file import load_pair
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import save_config
from fbnetv3.search.sessions import run_search
from fbnetv3.search.trial import comparable, read_ledger
from tests.places import ROOT
from tests.search.images import fashion_config

SRUN = """#!/bin/bash
# Starts a command as many times as it is told, and says to each process which one it is.
echo "$*" >> "$NOTES/srun"
count=$SLURM_NTASKS
while [[ "$1" == -* ]]; do
    [[ "$1" == --ntasks=* ]] && count=${1#*=}
    shift
done
for ((i = 0; i < count; i++)); do SLURM_PROCID=$i SLURM_LOCALID=$((i % 2)) "$@" & done
code=0
for process in $(jobs -p); do wait "$process" || code=$?; done
exit $code
"""
SCONTROL = """#!/bin/bash
echo "$*" >> "$NOTES/scontrol"
[[ "$1 $2" == "show hostnames" ]] && printf '%s\\n' $HOSTS
exit 0
"""
NOTES_ITS_CALL = """#!/bin/bash
echo "$*" | tee "$NOTES/$(basename "$0").${SLURM_PROCID:-alone}.$$" > /dev/null
env > "$NOTES/env.${SLURM_PROCID:-alone}"
"""
RUNS = """#!/bin/bash
exec $PYTHON -m fbnetv3 "$@"
"""
RUNS_UNTIL_ASKED = """#!/bin/bash
trap 'echo stopped >> "$NOTES/asked"; exit 143' TERM
echo "$*" >> "$NOTES/fbnetv3"
[[ -f "$NOTES/once" ]] && exit 0
mkdir -p "$DIR" && touch "$DIR/config.yaml" "$NOTES/once"
for ((i = 0; i < 600; i++)); do sleep 0.1; done
"""


def script(name):
    """A script of the page, by the name in the comment before it."""
    text = (ROOT / "docs" / "search.md").read_text()
    return re.search(rf"<!-- slurm: {name} -->\n```bash\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture
def slurm(tmp_path):
    """Start a script of the page as a job: (name, fbnetv3, variables) -> its process. Notes are in the folder `notes`."""
    commands, notes = tmp_path / "bin", tmp_path / "notes"
    commands.mkdir()
    notes.mkdir()

    def submit(name, fbnetv3, **variables):
        texts = {"srun": SRUN, "scontrol": SCONTROL, "fbnetv3": fbnetv3, "ray": NOTES_ITS_CALL, "job": script(name)}
        for file, text in texts.items():
            (commands / file).write_text(text)
            (commands / file).chmod(0o755)
        places = {"PATH": f"{commands}:{os.environ['PATH']}", "NOTES": str(notes), "PYTHONPATH": str(ROOT)}
        places |= {"PYTHON": sys.executable, "DIR": str(tmp_path / "run"), "HOSTS": "127.0.0.1", "SLURM_JOB_ID": "77"}
        return subprocess.Popen(
            [commands / "job"], env=os.environ | places | variables, cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )

    return submit


def noted(tmp_path, pattern):
    return sorted(path.read_text().strip() for path in (tmp_path / "notes").glob(pattern))


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within a minute")


def test_every_process_of_a_training_knows_its_rank(slurm, tmp_path):
    given = {"SLURM_NTASKS": "3", "SLURM_JOB_NODELIST": "node[0-1]", "PAIR": "p.yaml", "DATA": "D"}
    assert slurm("processes", NOTES_ITS_CALL, HOSTS="node0 node1", **given).wait() == 0
    arguments = f"train --pair p.yaml --data D --out {tmp_path / 'run'} --resume"
    assert noted(tmp_path, "fbnetv3.*") == [arguments] * 3
    assert noted(tmp_path, "scontrol") == ["show hostnames node[0-1]"]
    for rank in range(3):
        found = (tmp_path / "notes" / f"env.{rank}").read_text().splitlines()
        expected = {"RANK": rank, "WORLD_SIZE": 3, "LOCAL_RANK": rank % 2, "MASTER_ADDR": "node0", "MASTER_PORT": 29500}
        assert {f"{key}={value}" for key, value in expected.items()} <= set(found)


@pytest.mark.parametrize("name", ["ray", "processes"])
def test_processes_of_srun_get_the_cpus_of_their_job(name):
    # Newer versions of srun do not read what sbatch was asked for: Ray would find one CPU on a node of 64.
    before, _, after = script(name).partition("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK\n")
    assert "--cpus-per-task=" in before
    assert "srun" in after
    assert "srun" not in before


def test_every_seed_has_its_folder(slurm, tmp_path):
    assert slurm("seeds", NOTES_ITS_CALL, PRESET="cifar10", DATA="D", SLURM_ARRAY_TASK_ID="4").wait() == 0
    assert noted(tmp_path, "fbnetv3.*") == [f"search run --preset cifar10 --data D --seed 4 --out {tmp_path}/run/4"]


def test_a_cluster_has_one_head_and_the_search_knows_it(slurm, tmp_path):
    given = {
        "SLURM_NNODES": "4",
        "SLURM_JOB_NODELIST": "node[0-3]",
        "PRESET": "cifar10",
        "DATA": "D",
        "RAY_WAIT": "0.3",
    }
    assert slurm("ray", NOTES_ITS_CALL, HOSTS="node0 node1 node2 node3", **given).wait() == 0
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


def test_before_the_time_limit_a_search_stops_and_its_job_is_queued_again(slurm, tmp_path):
    given = {"PRESET": "cifar10", "DATA": "D"}
    job = slurm("one node", RUNS_UNTIL_ASKED, **given)
    wait_for((tmp_path / "notes" / "once").exists)
    job.send_signal(signal.SIGTERM)
    job.wait(60)
    assert noted(tmp_path, "asked") == ["stopped"]
    assert noted(tmp_path, "scontrol") == ["requeue 77"]
    assert slurm("one node", RUNS_UNTIL_ASKED, **given).wait(60) == 0
    folder = tmp_path / "run"
    assert (tmp_path / "notes" / "fbnetv3").read_text().splitlines() == [
        f"search run --preset cifar10 --data D --trials-per-gpu 4 --out {folder}",
        f"search resume {folder} --trials-per-gpu 4",
    ]


@pytest.mark.slow
def test_a_search_that_was_stopped_and_queued_again_ends_as_if_it_had_not(slurm, tmp_path):
    cfg = fashion_config(tmp_path)
    run_search(cfg, tmp_path / "expected", executor=ExecutorSettings(workers=1))
    save_config(cfg, tmp_path / "preset.yaml")
    ledger, given = tmp_path / "run" / "ledger.jsonl", {"PRESET": str(tmp_path / "preset.yaml"), "DATA": cfg.data}
    job = slurm("one node", RUNS, **given)
    wait_for(lambda: ledger.exists() and len(ledger.read_bytes().splitlines()) > 2)
    job.send_signal(signal.SIGTERM)
    job.wait(60)
    assert noted(tmp_path, "scontrol") == ["requeue 77"]
    assert not (tmp_path / "run" / "result.json").exists()
    assert slurm("one node", RUNS, **given).wait() == 0
    assert comparable(read_ledger(ledger)) == comparable(read_ledger(tmp_path / "expected" / "ledger.jsonl"))
    assert load_pair(tmp_path / "run" / "pair.yaml") == load_pair(tmp_path / "expected" / "pair.yaml")


@pytest.mark.slow
def test_processes_of_slurm_train_as_those_of_torchrun(slurm, tmp_path):
    cfg = fashion_config(tmp_path, final_training=False, batch=1, rounds=1, finalists=0)
    run_search(cfg, tmp_path / "search", executor=ExecutorSettings(workers=1))
    pair = yaml.safe_load((tmp_path / "search" / "pair.yaml").read_text())
    pair["recipe"]["batch_size"] = 24  # an even number
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump(pair))
    given = {"PAIR": str(tmp_path / "pair.yaml"), "DATA": cfg.data, "SLURM_NTASKS": "2", "MASTER_PORT": "29631"}
    assert slurm("processes", RUNS, SLURM_JOB_NODELIST="here", **given).wait() == 0
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "fbnetv3",
        "train",
    ]
    command += ["--pair", given["PAIR"], "--data", cfg.data, "--out", str(tmp_path / "expected"), "--json"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout[done.stdout.index("[") :])[0]["epochs"] > 0
    metrics = [(tmp_path / folder / "metrics.csv").read_text() for folder in ("run", "expected")]
    assert metrics[0] == metrics[1]
