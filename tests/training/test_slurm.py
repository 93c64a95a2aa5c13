"""Which processes belong together: those of torchrun, the tasks of `srun`, or none. Where the tasks of `srun` meet."""

import os
import subprocess
import sys

import pytest

from fbnetv3 import InputError
from fbnetv3.training import slurm
from fbnetv3.training.slurm import first_host, torchrun_variables
from tests.places import ROOT

JOB = {"SLURM_JOB_ID": "4321", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
NODES = {"SLURM_JOB_NODELIST": "gpu[07-09]", "SLURM_NODELIST": "gpu[07-09]"}
BATCH = JOB | NODES  # what a batch script has
STEP = BATCH | {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[08-09]",
}
OF_STEP = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu08", "MASTER_PORT": "28212"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "1"}


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """Tests may run at a terminal, which tasks of `srun` do not have."""
    monkeypatch.setattr(slurm, "has_terminal", lambda: False)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("node[3]", "node3"),
        ("node[3,5]", "node3"),
        ("node[3-5]", "node3"),
        ("node[003-005,007]", "node003"),
        ("node[007,003-005],gpu1", "node007"),
        ("login,node[003-005]", "login"),
        ("rack[2-3]node[01-04,09]", "rack2node01"),
        ("n[1-2]-ib.cluster.org,n4", "n1-ib.cluster.org"),
        ("10.0.0.[4-6]", "10.0.0.4"),
    ],
)
def test_the_first_host_of_a_list(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    "nodes", ["", ",node1", "node[3", "node3]", "node[]", "node[3]]", "[", "node1 node2", "n[a-b]"]
)
def test_what_is_no_list_of_hosts_is_refused(nodes):
    with pytest.raises(InputError, match=r"is no list of SLURM's nodes; set MASTER_ADDR to the host of the first task"):
        first_host(nodes)


def test_tasks_of_srun_get_the_variables_of_torchrun():
    assert torchrun_variables(STEP) == OF_STEP  # 15000 + (43210 + 2) % 15000 = 28212


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {}),
        (TORCHRUN, {}),
        (STEP | TORCHRUN, {}),  # srun torchrun
        (BATCH, {}),  # a command of the batch script itself
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"}, {}),  # srun --pty bash
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "4294967290"}, {}),  # salloc
        (STEP | {"WORLD_SIZE": "1"}, {}),  # tasks that work alone
        (STEP | {"WORLD_SIZE": "8"}, OF_STEP),
        (STEP | {"MASTER_ADDR": "there"}, OF_STEP | {"MASTER_ADDR": "there"}),
        (STEP | {"MASTER_PORT": "29500"}, OF_STEP | {"MASTER_PORT": "29500"}),
        (STEP | {"SLURM_STEP_NUM_NODES": "1"}, OF_STEP | {"MASTER_ADDR": "127.0.0.1"}),
    ],
    ids=lambda value: None,
)
def test_who_decides_which_processes_belong_together(given, found):
    assert torchrun_variables(given) == found


def test_in_an_interactive_shell_a_command_works_alone(monkeypatch):
    monkeypatch.setattr(slurm, "has_terminal", lambda: True)
    assert torchrun_variables(STEP) == {}


def test_the_list_of_the_step_goes_before_that_of_the_job():
    without = {key: value for key, value in STEP.items() if key != "SLURM_STEP_NODELIST"}
    assert torchrun_variables(without)["MASTER_ADDR"] == "gpu07"
    with pytest.raises(InputError, match="'' is no list of SLURM's nodes; set MASTER_ADDR"):
        torchrun_variables({key: value for key, value in without.items() if "NODELIST" not in key})


@pytest.mark.parametrize(
    ("job", "step", "port"),
    [("0", "0", 15000), ("1", "0", 15010), ("1", "3", 15013), ("1499", "9", 29999), ("1500", "0", 15000)],
)
def test_jobs_and_steps_have_ports_of_their_own(job, step, port):
    assert torchrun_variables(STEP | {"SLURM_JOB_ID": job, "SLURM_STEP_ID": step})["MASTER_PORT"] == str(port)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("SLURM_PROCID", None, "SLURM_PROCID is missing; set RANK, WORLD_SIZE, "),
        ("SLURM_LOCALID", "one", "SLURM_LOCALID is 'one'; set RANK, WORLD_SIZE, "),
        ("SLURM_JOB_ID", "", "SLURM_JOB_ID is missing; "),
        ("SLURM_STEP_NUM_TASKS", "²", "SLURM_STEP_NUM_TASKS is '²'; "),
        (
            "WORLD_SIZE",
            "16",
            "WORLD_SIZE is '16', but srun started 8 tasks; leave WORLD_SIZE out, or set it to 1 for tasks",
        ),
    ],
)
def test_variables_without_a_meaning_are_refused(key, value, words):
    given = {name: text for name, text in (STEP | {key: value}).items() if text is not None}
    with pytest.raises(InputError, match=words):
        torchrun_variables(given)


ASK = "from fbnetv3.training.slurm import has_terminal; answer = has_terminal()"
# The terminal of a new one is that of its child, whatever the child's input and output are.
IN_A_TERMINAL = f"""
import os, pty
{ASK.partition(";")[0]}
child, terminal = pty.fork()
if child == 0:
    for number in range(3):
        os.close(number)
    os._exit(has_terminal())
answer = bool(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(("script", "answer"), [(ASK, "False"), (IN_A_TERMINAL, "True")], ids=["without", "with"])
def test_whether_a_process_has_a_terminal(script, answer):
    command = [sys.executable, "-c", f"{script}\nprint(answer)"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # A session of its own, as the tasks of `srun` have.
    done = subprocess.run(command, env=environment, start_new_session=True, capture_output=True, text=True, check=True)
    assert done.stdout == f"{answer}\n"
