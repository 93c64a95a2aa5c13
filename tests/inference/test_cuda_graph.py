"""Networks replayed from a CUDA graph. The recording is pretended here."""

import contextlib

import pytest
import torch

from fbnetv3.inference import cuda_graph
from fbnetv3.inference.cuda_graph import GraphRun, record


class Replayed:
    """A graph that runs the call again, and writes into the result of the recording, as a real one does."""

    def __init__(self, call):
        self.call, self.result, self.replays = call, call(), 0

    def replay(self):
        self.replays += 1
        kept, found = ([x] if isinstance(x, torch.Tensor) else x for x in (self.result, self.call()))
        for old, new in zip(kept, found, strict=True):
            old.copy_(new)


@pytest.fixture
def graphs(monkeypatch):
    """Pretended recordings, all that were made."""
    made = []

    def recorded(call, device):
        made.append(Replayed(call))
        return made[-1], made[-1].result

    monkeypatch.setattr(cuda_graph, "record", recorded)
    return made


def test_images_of_the_examples_shape_replay_the_graph(graphs):
    run = GraphRun(lambda x: 2 * x, torch.zeros(2, 3, 4, 4))
    first = run(torch.ones(2, 3, 4, 4, requires_grad=True))
    second = run(torch.full((2, 3, 4, 4), 5.0))
    assert graphs[0].replays == 2
    assert torch.equal(first, torch.full((2, 3, 4, 4), 2.0)), "a later call wrote into what an earlier one returned"
    assert torch.equal(second, torch.full((2, 3, 4, 4), 10.0))


def test_other_shapes_run_without_the_graph(graphs):
    run = GraphRun(lambda x: 2 * x, torch.zeros(2, 3, 4, 4))
    assert torch.equal(run(torch.ones(1, 3, 4, 4)), torch.full((1, 3, 4, 4), 2.0))
    assert graphs[0].replays == 0


def test_feature_maps_are_copied_too(graphs):
    run = GraphRun(lambda x: [x + 1, x + 2], torch.zeros(1, 3, 4, 4))
    first = run(torch.zeros(1, 3, 4, 4))
    run(torch.ones(1, 3, 4, 4))
    assert [float(part.mean()) for part in first] == [1.0, 2.0]


def test_the_graphs_input_is_its_own_and_has_channels_last(graphs):
    example = torch.zeros(2, 3, 4, 4)
    run = GraphRun(lambda x: 2 * x, example)
    run(torch.ones(2, 3, 4, 4))
    assert not example.any()
    assert run.images.is_contiguous(memory_format=torch.channels_last)


def test_a_recording_is_preceded_by_calls_on_the_stream_that_records(monkeypatch):
    class Stream:
        waits: tuple = ()

        def __init__(self, device=None):
            self.device = device

        def wait_stream(self, other):
            self.waits = (*self.waits, other)

    present, done, inside = Stream(), [], []

    @contextlib.contextmanager
    def within(name):
        inside.append(name)
        yield
        inside.pop()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "graph")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: present)
    monkeypatch.setattr(torch.cuda, "device", lambda device: within("device"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: within("stream"))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: within("graph"))

    def call():
        done.append(inside[-1])
        assert not torch.is_grad_enabled()
        return len(done)

    assert record(call, torch.device("cuda:0"), calls=2) == ("graph", cuda_graph.WARM_UP + 2)
    assert done == ["stream"] * cuda_graph.WARM_UP + ["graph"] * 2
    assert len(present.waits) == 1
