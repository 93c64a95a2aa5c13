"""Settings of the machine, the number of threads, and seeds that leave the global generator alone."""

import contextlib
import os

import pytest
import scipy.linalg  # noqa: F401  (it has a library of its own)
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from fbnetv3 import InputError
from fbnetv3.training.engine import DEFAULT_ENGINE, Engine, cpu_threads, fetch_steps, machine_settings, seeded


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


def test_the_linear_algebra_of_numpy_and_scipy_uses_the_same_number_of_threads():
    def counts():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(3, user_api="blas"), cpu_threads(2):
        assert counts() == {2}
        with cpu_threads(1):
            assert counts() == {1}
        assert counts() == {2}


def test_a_seed_decides_the_weights_and_leaves_the_generator_alone():
    def build():
        return torch.nn.Linear(3, 2)

    state = torch.get_rng_state()
    one, two, other = seeded(build, 1), seeded(build, 1), seeded(build, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)


def test_a_seed_leaves_gpus_alone_for_they_draw_no_weights(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU was seeded"))
    seeded(lambda: torch.nn.Linear(3, 2), 1)


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**64 - 1])
def test_every_seed_of_torch_will_do(seed):
    assert seeded(lambda: torch.nn.Linear(3, 2), seed).weight.isfinite().all()


def test_a_larger_seed_is_refused():
    with pytest.raises(InputError, match="seed is 18446744073709551616; give a whole number from"):
        seeded(lambda: torch.nn.Linear(3, 2), 2**64)


class PretendedCard:
    """Notes what is asked of torch.cuda, and pretends that there are cards."""

    def __init__(self, monkeypatch):
        self.present = [0]
        monkeypatch.setattr(torch.cuda, "device", self.device)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: self.present[-1])

    @contextlib.contextmanager
    def device(self, device):
        self.present.append(device.index)
        yield
        self.present.pop()


def settings():
    return (
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize(
    ("engine", "inside"),
    [
        (Engine("cuda:1"), (True, False, False, "highest", False, None)),
        (Engine("cuda:1", "tf32"), (True, False, True, "high", False, None)),
        (Engine("cuda:1", "bf16", deterministic=True), (False, True, False, "highest", True, ":4096:8")),
        (Engine("cpu", "tf32"), None),  # a CPU stays as it is
    ],
)
def test_the_settings_of_a_gpu_hold_inside_and_are_restored_after_an_error(monkeypatch, engine, inside):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    card, before = PretendedCard(monkeypatch), settings()
    with contextlib.suppress(ZeroDivisionError), machine_settings(engine):
        assert settings() == (inside or before)
        assert card.present[-1] == (1 if inside else 0)
        raise ZeroDivisionError
    assert settings() == before


def test_deterministic_keeps_what_the_user_has_set(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with machine_settings(Engine(deterministic=True)):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_operation_without_a_deterministic_algorithm_is_named():
    text = "max_backward does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'."
    message = "deterministic is on, but max_backward does not have a deterministic implementation; switch it off"
    with pytest.raises(InputError, match=message), machine_settings(Engine(deterministic=True)):
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="another"), machine_settings(Engine(deterministic=True)):
        raise RuntimeError("another")


def test_a_gpu_that_was_used_before_without_deterministic_is_explained():
    # The end of torch's message.
    text = (
        "you must set an environment variable before running your PyTorch application: CUBLAS_WORKSPACE_CONFIG=:4096:8"
    )
    message = "used a GPU before without it, or .* set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment before Python"
    with pytest.raises(InputError, match=message), machine_settings(Engine(deterministic=True)):
        raise RuntimeError(text)


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_graphs_cannot_sum_the_gradients_of_parts(mode):
    assert Engine(compile=mode).cuda_graphs
    with pytest.raises(
        InputError, match=f"accumulate is 2 and compile {mode}, .*give compile default, or accumulate 1"
    ):
        Engine(accumulate=2, compile=mode)
    assert not Engine(accumulate=2, compile="default").cuda_graphs


def test_losses_of_the_cpu_are_fetched_at_once():
    assert fetch_steps(torch.device("cpu")) == 1
    assert fetch_steps(torch.device("cuda:1")) == 32
