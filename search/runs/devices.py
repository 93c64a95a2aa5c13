"""The devices of a search: chosen when it begins, recorded in its folder, and told to the user.

A training on a GPU is not equal to the last bit to one on the CPU or on another GPU. So `environment.json` has all devices that
a search has trained on, and a search that continues on another one says so.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbnetv3.device import AUTO, MOST_SHARED, find_count
from fbnetv3.errors import InputError, Note
from fbnetv3.files import write_atomically
from fbnetv3.schema import load_yaml
from fbnetv3.search.execution.cards import device_of, placements, visible_cards
from fbnetv3.search.execution.machine import Machine, find_machine
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.runs.folder import ENVIRONMENT
from fbnetv3.search.trial import Evaluator

logger = logging.getLogger(__name__)

CPU = "cpu"
DEVICES, PRECISION = "devices", "precision"  # keys of environment.json


def choose(config: SearchConfig, executor: ExecutorSettings) -> tuple[SearchConfig, Machine]:
    """Return the settings of a search that begins, without `auto`, and what it trains on.

    Raises:
        InputError: the device cannot be used, or has fewer GPUs than the search needs.
    """
    machine = machine_of(config, config.device, executor)
    readers = config.readers
    if readers is None:
        readers = _readers(machine, config, executor)
    return dataclasses.replace(config, device=machine.device, precision=machine.precision, readers=readers), machine


def _readers(machine: Machine, config: SearchConfig, executor: ExecutorSettings) -> int:
    """Return the number of readers of a training: on a GPU, its part of the processors that the trainings share."""
    if machine.device == CPU:
        return 0
    if executor.kind == "ray":
        # Of the processors that a trial reserves, one computes.
        return max(0, min(MOST_SHARED, int(executor.cpus or 1) - 1))
    sharing = executor.at_once(machine.device, config.processes) * config.processes
    return find_count("--readers", AUTO, machine.device, 0, sharing)


def machine_of(config: SearchConfig, device: str, executor: ExecutorSettings) -> Machine:
    """Return what a search trains on if it uses this device.

    Raises:
        InputError: the device cannot be used, or has fewer GPUs than the search needs.
    """
    ray = executor.kind == "ray"
    if ray and device == AUTO and executor.gpus:
        device = "cuda"  # this process may run on a node without a GPU
    machine = find_machine(device, config.precision, elsewhere=ray)
    if ray and config.final_training and machine.device != CPU and not visible_cards():
        raise InputError(
            f"this process makes the final training, and has no GPU for --device {machine.device}; start it on a node with a "
            "GPU, or set final_training: false in the preset and train the pair with `fbnetv3 train --pair`"
        )
    if not ray:
        placements(machine.device, config.processes)  # refuses more processes than GPUs
    return machine


def announce(config: SearchConfig, machine: Machine, executor: ExecutorSettings, evaluator: Evaluator) -> None:
    """Say what a search trains on and how many trials run at the same time. On the CPU nothing is said of that.

    Also say if this is another number than an asynchronous search keeps running.
    """
    device = device_of(evaluator)
    if config.asynchronous and executor.kind != "ray":
        here = executor.at_once(device, config.processes)
        if here != config.asynchronous:
            loss = "proposed trainings wait for a worker" if here < config.asynchronous else "some workers are idle"
            advice = f"give --workers {config.asynchronous}, or start a search with --asynchronous {here}"
            text = f"asynchronous is {config.asynchronous}, but the number of workers is {here}, so {loss}; {advice}"
            warnings.warn(text, Note, stacklevel=2)
    if device != CPU:
        parts = [machine.words, machine.precision, *([f"{config.readers} readers each"] if config.readers else [])]
        text = f"trainings on {', '.join(parts)}; {executor.words(device, config.processes)}"
        warnings.warn(text, Note, stacklevel=2)


def recorded(folder: Path, config: SearchConfig) -> list[str]:
    """Return the devices that the search in a folder has trained on, in words. Earlier versions recorded none."""
    path = folder / ENVIRONMENT
    before = load_yaml(path, "record of versions") if path.is_file() else {}  # JSON is YAML
    devices = before.get(DEVICES, [config.device])
    return [str(device) for device in devices] if isinstance(devices, list) else [config.device]


def record(folder: Path, versions: Mapping[str, Any], machine: Machine, config: SearchConfig) -> None:
    """Write the versions and the device with which a search begins."""
    content = {**versions, DEVICES: [machine.words], PRECISION: config.precision}
    write_atomically(folder / ENVIRONMENT, json.dumps(content, indent=1) + "\n")


def record_change(folder: Path, machine: Machine, config: SearchConfig) -> None:
    """Note the device on which a search continues, and say so if it is another one."""
    before = recorded(folder, config)
    if machine.words == before[-1] or (before == [config.device] and machine.device == config.device):
        return
    logger.warning(
        "this search trained on %s and continues on %s: its trials count, but trainings on two devices are not equal to the "
        "last bit",
        before[-1],
        machine.words,
    )
    path = folder / ENVIRONMENT
    if path.is_file():
        content = load_yaml(path, "record of versions") | {DEVICES: [*before, machine.words]}
        write_atomically(path, json.dumps(content, indent=1) + "\n")
