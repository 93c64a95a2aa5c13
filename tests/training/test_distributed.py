"""One process: everything is the identity. A group of one: synchronised norms are torch's.

tests/whole/test_training_processes.py trains with two processes.
"""

import contextlib
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

from fbnetv3 import InputError
from fbnetv3.training import distributed
from fbnetv3.training.distributed import (
    SyncBatchNorm2d,
    average_buffers,
    current_process,
    gathered,
    process_group,
    synchronise_norms,
    total,
    wrap,
)
from fbnetv3.training.network.stochastic_depth import DropBranch
from fbnetv3.training.process_rank import ProcessRank
from tests.training.examples import new_model

CPU, ALONE, ONE_OF_TWO = torch.device("cpu"), ProcessRank(), ProcessRank(0, 2)


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model = new_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with process_group(CPU) as process:
        assert process == current_process() == ALONE
        assert not dist.is_initialized()
        assert total([1, 2.5], process, CPU) == [1, 2.5]
        assert gathered("x", process) == ["x"]
        assert wrap(model, process, CPU) is model
        assert synchronise_norms(model, process, CPU) is model
        average_buffers(model, process)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_processes_that_do_not_find_each_other_say_where_they_looked(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        there = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for key, value in there.items():
            monkeypatch.setenv(key, value)
        words = rf"the 3 processes do not find each other at 127.0.0.1:{port} \(.*\); set MASTER_ADDR to the host of the first"
        with pytest.raises(InputError, match=words), process_group(CPU):
            pass


def test_a_group_knows_its_rank(group):
    assert current_process() == ProcessRank(0, 1)


def test_norms_are_synchronised_without_new_names():
    model = new_model()
    keys = list(model.state_dict())
    synchronise_norms(model, ONE_OF_TWO, CPU)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(type(m) is SyncBatchNorm2d for m in norms)
    assert list(model.state_dict()) == keys
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(new_model())  # what CUDA gets
    assert list(converted.state_dict()) == keys


def test_other_norms_cannot_be_synchronised_on_the_cpu():
    with pytest.raises(InputError, match="0 is a BatchNorm1d, which cannot be synchronised on the CPU; set sync_bn"):
        synchronise_norms(nn.Sequential(nn.BatchNorm1d(3)), ONE_OF_TWO, CPU)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_synchronised_norm_of_one_process_is_torchs(group, momentum):
    torch.manual_seed(0)
    ours, theirs = (nn.BatchNorm2d(3, momentum=momentum) for _ in range(2))
    for norm in (ours, theirs):
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
    ours.__class__ = SyncBatchNorm2d
    for _ in range(3):
        x = torch.randn(6, 3, 4, 5) * 2 + 1
        inputs, outputs = [], []
        for norm in (ours, theirs):
            given = x.clone().requires_grad_()
            out = norm(given)
            out.square().sum().backward()
            inputs.append(given.grad)
            outputs.append(out.detach())
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(*inputs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-3, atol=1e-3)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)
    assert torch.equal(ours.eval()(x), theirs.eval()(x)) or torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_processes_on_gpus_use_nccl_each_on_its_own_gpu(monkeypatch):
    calls = []

    @contextlib.contextmanager
    def present(device):
        calls.append(f"present {device}")
        yield
        calls.append("present as before")

    def initialise(backend, device_id=None):
        calls.append(f"{backend} {device_id}")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device", present)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(dist, "init_process_group", initialise)
    monkeypatch.setattr(dist, "barrier", lambda device_ids: calls.append(f"barrier {device_ids}"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("left"))
    with process_group(torch.device("cuda")):
        calls.append("training")
    assert calls == ["present cuda:1", "nccl cuda:1", "training", "barrier [1]", "left", "present as before"]
    calls.clear()
    with pytest.raises(ZeroDivisionError), process_group(torch.device("cpu")):
        raise ZeroDivisionError
    assert calls == ["gloo None", "left"]  # no barrier: the other processes may never come to it


def test_gradients_are_averaged_on_the_gpu_of_the_process(monkeypatch):
    seen = []
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda *_, **options: seen.append(options))
    for device in ("cuda:1", "cpu"):
        wrap(nn.Linear(1, 1), ProcessRank(1, 2), torch.device(device))
    assert [options["device_ids"] for options in seen] == [[torch.device("cuda:1")], None]


def test_on_gpus_norms_are_torch_s_and_keep_their_hooks():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    keys = list(model.state_dict())
    model[1].register_forward_hook(DropBranch(0.5))
    converted = synchronise_norms(model, ProcessRank(0, 2), torch.device("cuda:0"))
    assert isinstance(converted[1], nn.SyncBatchNorm)
    assert list(converted.state_dict()) == keys
    assert [hook.rate for hook in converted[1]._forward_hooks.values()] == [0.5]
