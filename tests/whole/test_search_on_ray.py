"""A search on a Ray cluster of two nodes: one node is lost, the search itself is killed, and the result is the same."""

import os
import re
import subprocess
import sys
import time

import pytest
import yaml

from fbnetv3.progress import silent
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.runs.run import start
from fbnetv3.search.trial import comparable, read_ledger
from tests.places import ROOT
from tests.search.scripted import config

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is not installed")
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


@pytest.fixture
def cluster():
    """A head with one processor. At the end only its own processes are stopped."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    yield cluster
    cluster.shutdown()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture
def finished(tmp_path):
    """The path of a preset, and the trials of its search in one process."""
    preset = tmp_path / "preset.yaml"
    settings = config(tmp_path, batch=4)
    preset.write_text(yaml.safe_dump(settings.to_dict()))
    start(settings, tmp_path / "expected", silent, ExecutorSettings(workers=1))
    return preset, comparable(read_ledger(tmp_path / "expected" / "ledger.jsonl"))


def command(verb, folder, cluster, *more):
    """Start a command of the search on the cluster."""
    arguments = [sys.executable, "-m", "fbnetv3", "search", verb, *more, str(folder)]
    arguments += ["--executor", "ray", "--ray-address", cluster.address]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def lines(folder):
    path = folder / "ledger.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_until(driver, condition):
    while not condition():
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.02)


def trains(pid):
    """Whether a trial runs on the node of a raylet: Ray calls a process by its task, `RayExecutor`'s function `within`."""
    found = subprocess.run(["ps", "-o", "args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return re.search(r"ray::\S*within", found.stdout) is not None


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def test_a_lost_node_and_a_killed_search_change_nothing(cluster, finished, tmp_path):
    preset, expected = finished
    node = cluster.add_node(**NODE)
    run = tmp_path / "run"
    driver = command("run", run, cluster, "--preset", str(preset), "--out")
    raylet = node.all_processes["raylet"][0].process.pid
    wait_until(driver, lambda: lines(run) >= 2 and trains(raylet))  # the header and a trial
    for pid in [raylet, *children(raylet)]:
        os.kill(pid, 9)
    wait_until(driver, lambda: lines(run) >= 6)  # the first round ended without the node
    driver.kill()
    assert driver.wait() == -9
    assert "node was lost" in driver.stderr.read()
    again = command("resume", run, cluster)
    assert again.wait(300) == 0, again.stderr.read()
    assert comparable(read_ledger(run / "ledger.jsonl")) == expected
