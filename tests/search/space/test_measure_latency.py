"""The times of parts on this machine: the parts are the network's, and a stopped measurement continues."""

import dataclasses
import itertools
import json
import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fbnetv3 import InputError, build_model
from fbnetv3.progress import silent
from fbnetv3.search.space import measure_latency
from fbnetv3.search.space.constraints import random_rows
from fbnetv3.search.space.latency import LatencyTable, distinct_parts, load_table, save_table
from fbnetv3.search.space.measure_latency import (
    REPEATS,
    Conditions,
    build_part,
    cpu_model,
    machine,
    measure_networks,
    measure_table,
    median_ms,
    runner,
)
from fbnetv3.search.space.reader import load_space
from fbnetv3.training.engine import cpu_threads
from tests.search.parts import walk

MICRO = load_space("micro")
ROWS = random_rows(MICRO, 200, np.random.default_rng(0))
ARCH = MICRO.arch(ROWS[0].tolist(), "x")
WANTED = distinct_parts(MICRO, ROWS[:3])


@pytest.fixture
def instant(monkeypatch):
    """Measurements that take no time: part i of a call takes i + 1 milliseconds. Holds the number of parts of every call."""
    calls = []

    def times(runs, rounds, conditions):
        calls.append(len(runs))
        return [i + 1.0 for i in range(len(runs))]

    monkeypatch.setattr(measure_latency, "BATCH", 5)
    monkeypatch.setattr(measure_latency, "median_ms", times)
    monkeypatch.setattr(measure_latency, "runner", lambda module, example, conditions: None)
    return calls


def test_the_parts_are_the_network_in_pieces():
    shapes = []
    for part in walk(ARCH):
        module, example = build_part(part)
        shapes.append((tuple(example.shape), tuple(module.eval()(example).shape)))
    for (_, out), (into, _) in itertools.pairwise(shapes):
        assert out == into


def test_the_parts_have_the_networks_parameters():
    params = sum(p.numel() for part in walk(ARCH) for p in build_part(part)[0].parameters())
    assert params == sum(p.numel() for p in build_model(ARCH, 10, 1).parameters())


def test_a_prepared_part_computes_what_the_part_does():
    part = next(part for part in walk(ARCH) if part.kind == 1)
    module, _ = build_part(part)
    example = torch.randn(1, part.cin, part.side, part.side)
    with torch.no_grad():
        expected = module.eval()(example)
        assert torch.allclose(runner(module, example)(), expected, atol=1e-5)


def test_calls_take_turns_on_one_thread():
    order, threads = [], set()

    def call(name):
        order.append(name)
        threads.add(torch.get_num_threads())

    with cpu_threads(2):
        found = median_ms({name: lambda name=name: call(name) for name in "ab"}, rounds=3)
    assert len(found) == 2
    assert all(ms >= 0 for ms in found)
    assert threads == {1}
    assert order.count("a") == order.count("b") >= 3
    assert order.index("b") < len(order) - 1 - order[::-1].index("a")  # b starts before a has ended


def test_the_median_of_made_up_times(monkeypatch):
    monkeypatch.setattr(measure_latency, "time_calls", lambda runs, rounds, clock: {"b": [1, 2, 9], "a": [0.5] * 3})
    assert median_ms({"a": None, "b": None}, 3) == [500.0, 2000.0]


def test_every_wanted_part_is_measured(instant, tmp_path):
    table = measure_table(MICRO, WANTED, tmp_path / "table.json", silent)
    assert (table.space, table.machine) == ("micro", machine())
    assert sorted(table.ms) == WANTED
    assert [table.ms[part] for part in WANTED[:6]] == [1, 2, 3, 4, 5, 1]
    assert load_table(tmp_path / "table.json") == table


def test_a_stopped_measurement_continues(instant, tmp_path, monkeypatch):
    path, built = tmp_path / "table.json", []

    def build(part, batch):
        built.append(part)
        if len(built) == 8:
            raise KeyboardInterrupt
        return None, None

    monkeypatch.setattr(measure_latency, "build_part", build)
    with pytest.raises(KeyboardInterrupt):
        measure_table(MICRO, WANTED, path, silent)
    assert sorted(load_table(path).ms) == WANTED[:5]
    assert sorted(measure_table(MICRO, WANTED, path, silent).ms) == WANTED
    assert built[8:] == WANTED[5:]  # what the file holds is not measured again


def test_progress_counts_the_parts_that_the_file_has(instant, tmp_path):
    path, reports = tmp_path / "table.json", []
    measure_table(MICRO, WANTED[:5], path, silent)
    measure_table(MICRO, WANTED[:12], path, lambda done, total, text: reports.append((done, total, text)))
    assert [(done, total) for done, total, _ in reports] == [(5, 12), (10, 12), (12, 12)]
    assert reports[0][2] == "measuring the blocks of space micro"
    assert reports[-1][2] == "measured the blocks of space micro"


def test_nothing_is_measured_where_the_file_is_complete(instant, tmp_path):
    measure_table(MICRO, WANTED, tmp_path / "table.json", silent)
    instant.clear()
    measure_table(MICRO, WANTED[3:], tmp_path / "table.json", silent)
    assert instant == []


@pytest.mark.parametrize(
    "change",
    [{"space": "cifar"}, {"machine": machine() | {"cpu": "another"}}, {"machine": machine(Conditions(batch=2))}],
)
def test_a_table_of_another_space_or_machine_is_not_continued(instant, tmp_path, change):
    path = tmp_path / "table.json"
    save_table(dataclasses.replace(LatencyTable("micro", machine(), {WANTED[0]: 1.0}), **change), path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"table\.json is of space \w+ on \{.*; give another file"):
        measure_table(MICRO, WANTED, path, silent)
    assert path.read_bytes() == before


def test_real_times_are_positive(tmp_path):
    table = measure_table(MICRO, WANTED[:3], tmp_path / "table.json", silent, rounds=1)
    assert all(ms > 0 for ms in table.ms.values())
    assert json.loads((tmp_path / "table.json").read_text())["machine"]["threads"] == "1"
    assert measure_networks([ARCH], MICRO, rounds=1)[0] > 0


def test_networks_are_measured_in_their_order(monkeypatch):
    monkeypatch.setattr(measure_latency, "runner", lambda module, example, _: (module, tuple(example.shape)))
    monkeypatch.setattr(measure_latency, "median_ms", lambda runs, rounds, conditions: list(runs.values()))
    (small, shape), (large, _) = measure_networks([ARCH, dataclasses.replace(ARCH, head=None)], MICRO)
    assert shape == (1, 1, 28, 28)
    assert isinstance(small, nn.Module)
    assert sum(p.numel() for p in small.parameters()) > sum(p.numel() for p in large.parameters())


def test_a_machine_is_processor_and_torch():
    assert machine() == {"cpu": cpu_model(), "torch": torch.__version__, "threads": "1", "batch": "1"}


def test_the_processor_is_named_by_the_system(monkeypatch):
    text = "processor\t: 0\nmodel name\t: Fast CPU\ncpu family\t: 6\n\nprocessor\t: 1\nmodel name\t: Other\n"
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert cpu_model() == "Fast CPU, family 6"


def test_a_processor_without_a_name_is_its_architecture(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "processor\t: 0\n")
    assert cpu_model() == f"{platform.machine()}, family ?"


def test_elsewhere_than_on_linux_python_names_the_processor(monkeypatch):
    def missing(path):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert cpu_model() == "arm"


def test_a_batch_is_in_the_input_and_in_the_machine(instant, tmp_path):
    assert build_part(WANTED[0], 3)[1].shape[0] == 3
    table = measure_table(MICRO, WANTED[:1], tmp_path / "table.json", silent, conditions=Conditions(batch=3))
    assert table.machine == machine() | {"batch": "3"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "batch is 0; allowed: whole numbers from 1"),
        ({"batch": True}, "batch is True; allowed: whole numbers from 1"),
        ({"precision": "bf16"}, "precision is 'bf16'; allowed on cpu: fp32"),
        ({"device": "cuda", "precision": "fp8"}, "precision is 'fp8'; allowed on cuda: fp32, tf32, bf16, fp16"),
    ],
)
def test_conditions_that_are_not_allowed(wrong, message):
    with pytest.raises(InputError, match=message):
        Conditions(**wrong)


GPU = Conditions("cuda:0", 8, "bf16")


def test_the_machine_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card of {device}")
    found = machine(GPU)
    assert (found["gpu"], found["precision"], found["batch"]) == ("Card of cuda:0", "bf16", "8")
    assert set(found) == {"gpu", "torch", "cuda", "cudnn", "precision", "batch"}


def test_on_a_gpu_the_clock_waits_and_a_graph_stands_for_many_calls(monkeypatch):
    now, waits = [0.0], []

    def run():
        now[0] += 0.1  # seconds, of a whole graph

    monkeypatch.setattr("fbnetv3.device.synchronise", waits.append)
    monkeypatch.setattr("fbnetv3.device.time.perf_counter", lambda: now[0])
    assert median_ms({"a": run}, 3, GPU) == [pytest.approx(100 / REPEATS)]
    assert waits == [torch.device("cuda:0")] * 6


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Conditions of a GPU whose tensors are on the CPU. Holds the calls of every graph that was recorded, and its replays."""
    graphs = []

    class Graph:
        def __init__(self, call, repeats):
            self.repeats, self.dtype, self.replays = repeats, call().dtype, 0
            graphs.append(self)

        def replay(self):
            self.replays += 1

    def recorded(call, device, repeats):
        assert device == torch.device("cuda:0")
        graph = Graph(call, repeats)
        return graph, None

    real = torch.device
    monkeypatch.setattr(measure_latency, "record", recorded)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device, dtype: self._apply(lambda x: x.to(dtype)))
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *given: to(x, *(g for g in given if not isinstance(g, real))))
    monkeypatch.setattr(measure_latency, "fuse_network", lambda network, example: network)
    monkeypatch.setattr("fbnetv3.device.synchronise", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    return graphs


def test_parts_on_a_gpu_are_graphs_in_the_precision_of_the_table(pretended_gpu, tmp_path):
    table = measure_table(MICRO, WANTED[:3], tmp_path / "table.json", silent, rounds=2, conditions=GPU)
    assert table.machine["gpu"] == "Card"
    assert [(graph.repeats, graph.dtype, graph.replays) for graph in pretended_gpu] == [
        (REPEATS, torch.bfloat16, 4)
    ] * 3
    with pytest.raises(InputError, match=r"'precision': 'bf16'.*, this measurement of micro on .*'precision': 'fp16'"):
        measure_table(MICRO, WANTED, tmp_path / "table.json", silent, conditions=Conditions("cuda:0", 8, "fp16"))


def test_too_large_a_batch_for_a_gpu_is_one_line(pretended_gpu, monkeypatch, tmp_path):
    def record(call, device, repeats):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")

    monkeypatch.setattr(measure_latency, "record", record)
    with pytest.raises(InputError, match="cuda:0 has too little free memory for a batch of 8; give a smaller batch"):
        measure_table(MICRO, WANTED[:1], tmp_path / "table.json", silent, conditions=GPU)
