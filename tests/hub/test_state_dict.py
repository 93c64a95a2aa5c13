"""State dicts of other programs: where they are, what stands before their names, and what may be missing."""

import argparse
import warnings

import pytest
import torch

from fbnetv3 import InputError, build_model
from fbnetv3.errors import Note
from fbnetv3.hub import create_model, load_weights
from fbnetv3.hub.convert import convert
from fbnetv3.hub.state_dict import checked, unwrap
from tests.hub.conftest import TINY

FIRST = "stem.conv.weight"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build_model(TINY, 3, 1).state_dict()


def same(found, expected):
    return list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("checkpoint", "value"),
    [
        ({"state_dict": {FIRST: 1}, "state_dict_ema": {FIRST: 2}, "arch": "x"}, 2),
        ({"model": {FIRST: 1}, "model_ema": {f"module.{FIRST}": 2, "n_averaged": 5}, "optimizer": {}}, 2),
        ({"model": {FIRST: 1}, "ema": None, "metrics": []}, 1),
        ({"model_state_dict": {FIRST: 1}, "epoch": 3}, 1),
        ({"state_dict": {"model": {FIRST: 1}}}, 1),
        ({f"module.{FIRST}": 1}, 1),
    ],
)
def test_averaged_weights_are_preferred(checkpoint, value):
    def tensors(data):
        return {
            k: torch.tensor(v) if isinstance(v, int) else tensors(v) if isinstance(v, dict) else v
            for k, v in data.items()
        }

    assert unwrap(tensors(checkpoint)) == {FIRST: torch.tensor(value)}


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "module.module.",
        "model.",
        "net.backbone.1.",
    ],
)
def test_the_prefix_is_what_stands_before_the_names(state, prefix):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, arch = convert({f"{prefix}{key}": value for key, value in state.items()}, TINY)
    assert same(found, state)
    assert arch == TINY


def test_wrappers_in_the_middle_of_a_network(state):
    for part, wrapped in (("stages.", "stages._orig_mod."), (".bn.", "._checkpoint_wrapped_module.bn.")):
        assert same(unwrap({key.replace(part, wrapped): value for key, value in state.items()}), state)


def test_entries_beside_the_network_are_named(state):
    content = {f"model.{key}": value for key, value in state.items()}
    with pytest.warns(Note, match=r"under 'model\.'; 2 entries beside it are left out: criterion\.weight, best_acc"):
        found = unwrap({**content, "criterion.weight": torch.zeros(3), "best_acc": torch.zeros(())})
    assert same(found, state)
    with pytest.raises(InputError, match="1 entries unexpected: extra"):  # no note: it may belong to the network
        convert({**content, "model.extra": torch.zeros(1)}, TINY)


def test_one_of_several_networks_is_not_guessed(state):
    content = {f"{name}.{key}": value for name in ("model", "teacher") for key, value in state.items()}
    with pytest.raises(InputError, match=r"there are 2, under 'model\.', 'teacher\.'; give a file with one of them"):
        convert(content, TINY)


def test_counters_of_other_programs(state):
    modules = ("", "stem.", "stages.0.0.")
    thop = {f"{module}total_{what}": torch.zeros(1) for module in modules for what in ("ops", "params")}
    lean = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    found, _ = convert({**thop, **lean}, TINY)
    assert list(found) == list(state)
    assert all(torch.equal(found[key], value) for key, value in lean.items())
    build_model(TINY, 3, 1).load_state_dict(found)


def test_what_is_no_state_dict():
    itself = {}
    itself["model"] = itself
    for content, words in (
        ([1, 2], "expected a state dict, got list"),
        ({}, "expected a state dict, got dict"),
        ({"epoch": 3}, "'epoch' is int, not a tensor"),
        ({"x" * 10**6: 3}, r"'x{70,}\.\.\. is int"),
        (itself, "'model' is dict, not a tensor"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            unwrap(content)
        assert len(str(caught.value)) < 300


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {FIRST: torch.zeros(8, 1, 3, 3, dtype=torch.complex64)},
            "1 entries of another type: stem.conv.weight is complex64",
        ),
        ({"classifier.bias": torch.zeros(3, dtype=torch.int8)}, "1 entries of another type: classifier.bias is int8"),
        ({"classifier.bias": torch.zeros(3).to_sparse()}, r"classifier.bias is float32 \(sparse_coo\)"),
        ({"classifier.bias": torch.zeros(3, device="meta")}, "classifier.bias is float32 without values"),
        ({"classifier.bias": torch.tensor([0, NAN, 1])}, "are not finite: classifier.bias"),
        ({FIRST: torch.full((8, 1, 3, 3), INF)}, "are not finite: stem.conv.weight"),
        ({FIRST: torch.zeros(8)}, "no usable stem and classifier weights, but stem.conv.weight, .* and .* more"),
        ({"classifier.weight": torch.zeros(3)}, "no usable stem and classifier weights"),
        ({f"blocks.{'9' * 5000}.1.x": torch.zeros(1)}, r"1 entries unexpected: blocks\.9{100,}\.\.\.$"),
    ],
)
def test_values_that_a_network_cannot_have(state, change, words):
    with pytest.raises(InputError, match=words):
        checked({**state, **change}, TINY)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_kept(state, dtype):
    found = checked({k: value.to(dtype) if value.is_floating_point() else value for k, value in state.items()}, TINY)
    assert found[FIRST].dtype == dtype


@pytest.fixture(scope="module")
def complete():
    torch.manual_seed(1)
    return build_model("fbnetv3_a0", 5)


@pytest.mark.parametrize("kept", ["num_classes=0", "features_only", "two maps"])
def test_weights_that_end_early(tmp_path, complete, kept):
    kwargs = {"num_classes=0": {"num_classes": 0}, "features_only": {"features_only": True}}.get(
        kept, {"features_only": True, "out_indices": (0, 1)}
    )
    part = build_model("fbnetv3_a0", **kwargs)
    part.load_state_dict(complete.state_dict(), strict=False)
    torch.save(part.state_dict(), tmp_path / "part.pth")
    loaded = create_model("fbnetv3_a0", weights=tmp_path / "part.pth", **kwargs)
    assert same(loaded.state_dict(), part.state_dict())
    file = load_weights("fbnetv3_a0", tmp_path / "part.pth")
    assert (file.num_classes, file.classes) == (0, ())
    if kept == "num_classes=0":
        assert create_model("fbnetv3_a0", weights=tmp_path / "part.pth").num_classes == 0
        with pytest.warns(Note, match="the weights have no classifier: the classifier keeps fresh weights"):
            create_model("fbnetv3_a0", weights=tmp_path / "part.pth", num_classes=4)
        assert same(file.build().state_dict(), part.state_dict())
    else:
        with pytest.raises(InputError, match=r"the weights end before (head|stages\.2).*; give features_only=True"):
            create_model("fbnetv3_a0", weights=tmp_path / "part.pth")


def test_a_stage_in_the_middle_may_not_be_missing(complete):
    left_out = ("stages.1.", "head", "classifier")
    state = {key: value for key, value in complete.state_dict().items() if not key.startswith(left_out)}
    with pytest.raises(InputError, match=r"entries missing: stages\.1\.0"):
        checked(state, complete.arch)


def test_checkpoints_of_timms_training(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    raw, averaged = (timm.create_model("fbnetv3_d", num_classes=4) for _ in range(2))
    content = {
        "epoch": 0,
        "arch": "fbnetv3_d",
        "state_dict": raw.state_dict(),
        "optimizer": torch.optim.SGD(raw.parameters(), 0.1).state_dict(),
        "version": 2,
        "args": argparse.Namespace(model="fbnetv3_d", lr=0.1),
        "state_dict_ema": averaged.state_dict(),
        "metric": 1.0,
    }
    expected, _ = convert(averaged.state_dict(), "fbnetv3_d")
    for name in ("model_best.pth.tar", "last.pth.tar", "last.ckpt"):
        torch.save(content, tmp_path / name)
        assert same(load_weights("fbnetv3_d", tmp_path / name).state, expected)
