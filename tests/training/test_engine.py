"""Settings of the machine, the number of threads, and seeds that leave the global generator alone."""

import contextlib

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.training.engine import DEFAULT_ENGINE, Engine, cpu_threads, seeded


def test_the_default_is_one_cpu_in_float32():
    assert Engine() == DEFAULT_ENGINE
    assert (DEFAULT_ENGINE.device, DEFAULT_ENGINE.precision, DEFAULT_ENGINE.accumulate) == ("cpu", "fp32", 1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'; allowed: fp32, tf32, bf16, fp16"),
        ({"compile": "fast"}, "compile is 'fast'; allowed: off, default, reduce-overhead"),
        ({"compile": None}, "compile is None; allowed: off, default"),
        ({"accumulate": 0}, "accumulate is 0; allowed: whole numbers from 1"),
        ({"accumulate": 2.0}, r"accumulate is 2\.0; allowed"),
        ({"accumulate": True}, "accumulate is True; allowed"),
        ({"checkpoint_steps": -1}, "checkpoint_steps is -1; allowed: whole numbers from 0"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(InputError, match=message):
        Engine(**setting)


def test_compile_was_a_switch_before_it_had_modes():
    assert Engine(compile=True) == Engine(compile="default") != Engine(compile="reduce-overhead")
    assert Engine(compile=False) == Engine()


def test_the_number_of_threads_is_restored_even_after_an_error():
    before = torch.get_num_threads()
    seen = []
    with contextlib.suppress(ZeroDivisionError), cpu_threads(before + 1):
        seen.append(torch.get_num_threads())
        raise ZeroDivisionError
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_seed_decides_the_weights_and_leaves_the_generator_alone():
    def build():
        return torch.nn.Linear(3, 2)

    state = torch.get_rng_state()
    one, two, other = seeded(build, 1), seeded(build, 1), seeded(build, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**64 - 1])
def test_every_seed_of_torch_will_do(seed):
    assert seeded(lambda: torch.nn.Linear(3, 2), seed).weight.isfinite().all()


def test_a_larger_seed_is_refused():
    with pytest.raises(InputError, match="seed is 18446744073709551616; give a whole number from"):
        seeded(lambda: torch.nn.Linear(3, 2), 2**64)
