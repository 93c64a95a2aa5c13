"""A checkpoint is of one training. What was damaged or changed in it is refused before anything is loaded."""

import dataclasses
import json
import logging

import pytest
import torch

from fbnetv3 import InputError
from fbnetv3.files import load_torch
from fbnetv3.training.checkpoint import Position, save
from fbnetv3.training.optim import make_optimizer
from fbnetv3.training.recipe import Recipe
from fbnetv3.training.resume import resume_from
from fbnetv3.training.scaler import Scaler
from tests.training.test_checkpoint import IDENTITY, METRICS, state


def resumed(out, into, identity=IDENTITY, allowed=True, world_size=1):
    return resume_from(into, out, identity, allowed, world_size)


def test_everything_that_steps_change_comes_back(tmp_path):
    before, after = state(seed=1, steps=3), state(seed=2)
    save(before, tmp_path, IDENTITY, METRICS)
    assert resumed(tmp_path, after) == (METRICS, None)
    for part in ("model", "ema"):
        old, new = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert all(torch.equal(new[key], value) for key, value in old.items())
    momenta = [s.optimizer.state_dict()["state"][0]["momentum_buffer"] for s in (before, after)]
    assert momenta[0].abs().sum() > 0
    assert torch.equal(*momenta)


def test_a_position_comes_back(tmp_path):
    generators = [torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([3, 4], dtype=torch.uint8)]
    save(state(), tmp_path, IDENTITY, METRICS[:1], Position(5, (1.25, 2.5), generators))
    metrics, position = resumed(tmp_path, state(), world_size=2)
    assert metrics == METRICS[:1]
    assert (position.step, list(position.losses)) == (5, [1.25, 2.5])
    assert all(torch.equal(a, b) for a, b in zip(position.generators, generators, strict=True))


def test_the_generators_of_gpus_come_back_too(tmp_path):
    states = [torch.tensor([number], dtype=torch.uint8) for number in range(4)]
    save(state(), tmp_path, IDENTITY, METRICS, Position(5, [1.0, 2.0], states[:2], states[2:]))
    _, position = resumed(tmp_path, state(), world_size=2)
    assert [[int(part) for part in position.states(rank)] for rank in (0, 1)] == [[0, 2], [1, 3]]
    # A training on the CPU writes what earlier versions read.
    save(state(), tmp_path, IDENTITY, METRICS, Position(5, [1.0], states[:1]))
    assert load_torch(tmp_path / "checkpoint.pt", "checkpoint")["position"].keys() == {"step", "losses", "generators"}
    _, position = resumed(tmp_path, state())
    assert [int(part) for part in position.states(0)] == [0]


def in_fp16():
    scaler = Scaler("fp16")
    scaler.scale(torch.zeros(()))  # makes the scale
    return dataclasses.replace(state(), scaler=scaler)


def test_the_scale_of_fp16_comes_back(tmp_path):
    before, after = in_fp16(), in_fp16()
    before.scaler.load_state_dict(before.scaler.state_dict() | {"scale": 512.0, "_growth_tracker": 7})
    save(before, tmp_path, IDENTITY, METRICS)
    resumed(tmp_path, after)
    assert after.scaler.state_dict() == before.scaler.state_dict()
    assert after.scaler.get_scale() == 512.0


@pytest.mark.parametrize(
    "change",
    [{"scale": float("nan")}, {"scale": 0.0}, {"scale": "1"}, {"_growth_tracker": -1}, {"_growth_tracker": 0.5}, None],
)
def test_a_changed_scale_is_refused(tmp_path, change):
    save(in_fp16(), tmp_path, IDENTITY, METRICS)
    content = load_torch(tmp_path / "checkpoint.pt", "checkpoint")
    content["scaler"] = None if change is None else content["scaler"] | change
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"was damaged or changed: scaler is .*, not the state of a gradient scaler"):
        resumed(tmp_path, in_fp16())


@pytest.mark.parametrize(
    ("saved", "now", "message"),
    [
        (("cuda", 8), ("cuda", 4), None),  # the sums of a GPU do not depend on threads
        (("cuda", 8), ("cpu", 1), "was written on 'cuda', and the training continues on cpu"),
        (("cpu", 1), ("cuda", 8), "was written on 'cpu', and the training continues on cuda"),
        ((None, 1), ("cpu", 1), None),  # earlier versions did not say
    ],
)
def test_a_training_may_continue_on_another_machine(tmp_path, caplog, saved, now, message):
    def identity(device, threads):
        return IDENTITY | ({} if device is None else {"device": device}) | {"threads": threads}

    save(state(), tmp_path, identity(*saved), METRICS)
    with caplog.at_level(logging.WARNING):
        resumed(tmp_path, state(), identity(*now))
    assert (message in caplog.text) if message else not caplog.records
    if now == ("cpu", 1) and message is None:
        with pytest.raises(InputError, match="belongs to another training: threads was 1, now 2"):
            resumed(tmp_path, state(), identity("cpu", 2))


def test_a_new_folder_starts_at_the_beginning(tmp_path):
    assert resumed(tmp_path / "new", state(), allowed=False) == ([], None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allowed": False}, "already holds a training; resume it, or give another folder"),
        ({"identity": IDENTITY | {"seed": 8}}, "belongs to another training: seed was 7, now 8; give another folder"),
        (
            {"identity": IDENTITY | {"recipe": {"lr": 0.2}}},
            "another training: recipe: lr was 0.1, now 0.2; give another",
        ),
        ({"identity": IDENTITY | {"threads": 2}}, "another training: threads was None, now 2"),
        ({"into": state(features=3)}, "belongs to another network"),
        ({"world_size": 1}, "stands within an epoch of 2 processes, not 1: resume with the same number"),
    ],
    ids=["not allowed", "seed", "recipe", "new key", "network", "processes"],
)
def test_a_checkpoint_that_does_not_fit(tmp_path, change, message):
    generator = torch.get_rng_state()
    save(state(), tmp_path, IDENTITY, METRICS, Position(5, [1.0, 1.0], [generator, generator]))
    with pytest.raises(InputError, match=message):
        resumed(tmp_path, **{"into": state(), "world_size": 2} | change)


def test_a_damaged_checkpoint(tmp_path):
    save(state(), tmp_path, IDENTITY, METRICS)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="is no checkpoint or is damaged"):
        resumed(tmp_path, state())
    torch.save({"model": {}}, path)
    with pytest.raises(InputError, match="is no checkpoint: it needs the entries identity, metrics, model, ema"):
        resumed(tmp_path, state())


def test_only_the_fields_that_differ_are_shown(tmp_path):
    recipe = Recipe("sgd", 0.1, 3, 32).to_dict()
    save(state(), tmp_path, {"recipe": recipe}, METRICS)
    with pytest.raises(
        InputError, match=r"another training: recipe: lr was 0\.1, now 0\.2, mixup was 0\.0, now 0\.5; give"
    ):
        resumed(tmp_path, state(), {"recipe": recipe | {"lr": 0.2, "mixup": 0.5}})
    with pytest.raises(InputError, match=r"recipe: layer_decay was not set, now 0\.8; give"):
        resumed(tmp_path, state(), {"recipe": recipe | {"layer_decay": 0.8}})
    four = dict.fromkeys(("lr", "epochs", "ema", "sync_bn"), 9)
    with pytest.raises(
        InputError, match=r"recipe: lr was 0\.1, now 9, epochs was 3, now 9, ema was False, now 9 and 1 more;"
    ):
        resumed(tmp_path, state(), {"recipe": recipe | four})


def test_other_images_of_val_do_not_block_a_resume_and_are_told(tmp_path, caplog):
    before, after = (
        {"data": "set (id 1)", "train_data": "train (id 1)"},
        {"data": "set (id 2)", "train_data": "train (id 1)"},
    )
    save(state(), tmp_path, before, METRICS)
    with caplog.at_level(logging.WARNING):
        assert resumed(tmp_path, state(), before)[0] == METRICS
        assert caplog.text == ""
        assert resumed(tmp_path, state(), after)[0] == METRICS
    assert "accuracies of its epochs are of the images before" in caplog.text
    with pytest.raises(InputError, match=r"another training: train_data was 'train \(id 1\)', now 'train \(id 2\)'"):
        resumed(tmp_path, state(), {"data": "set (id 2)", "train_data": "train (id 2)"})


def test_images_that_were_moved_into_another_folder_are_the_same(tmp_path, caplog):
    save(state(), tmp_path, {"data": "set (8 px, id 1)", "train_data": "set (8 px, id 2)"}, METRICS)
    with caplog.at_level(logging.WARNING):
        moved = {"data": "moved (8 px, id 1)", "train_data": "moved (8 px, id 2)"}
        assert resumed(tmp_path, state(), moved)[0] == METRICS
    assert caplog.text == ""
    with pytest.raises(InputError, match="another training: train_data was"):
        resumed(tmp_path, state(), {"data": "set (8 px, id 1)", "train_data": "set (9 px, id 2)"})


def test_a_checkpoint_of_an_older_version_resumes_on_the_same_images(tmp_path):
    save(state(), tmp_path, {"data": "set (id 1)"}, METRICS)
    assert resumed(tmp_path, state(), {"data": "set (id 1)", "train_data": "train (id 1)"})[0] == METRICS
    with pytest.raises(InputError, match="another training: data was"):
        resumed(tmp_path, state(), {"data": "set (id 2)", "train_data": "train (id 1)"})


NAN, ROW = (
    float("nan"),
    {"epoch": 1, "lr": 0.1, "train_loss": 2.5, "raw_acc1": 3.0, "ema_acc1": 2.0}
    | dict.fromkeys(("raw_acc5", "ema_acc5"), 7.0),
)
PLACE = {"step": 5, "losses": [1.0], "generators": [torch.get_rng_state()]}
SLOT = {"momentum_buffer": torch.zeros(3, 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": "[1]"}, "its identity is"),
        ({"identity": "{"}, "is no checkpoint, or is damaged"),
        ({"identity": 5}, "is no checkpoint, or is damaged"),
        ({"metrics": 5}, "changed: metrics is 5, not a list"),
        ({"metrics": [5]}, "changed: metrics of epoch 1: expected a mapping"),
        ({"metrics": [ROW | {"raw_acc1": "all"}]}, "changed: metrics of epoch 1: raw_acc1 is 'all'"),
        ({"metrics": [ROW | {"raw_acc1": 101.0}]}, r"changed: metrics of epoch 1: raw_acc1 is 101\.0"),
        ({"metrics": [ROW | {"train_loss": NAN}]}, "changed: metrics of epoch 1: train_loss is nan"),
        ({"metrics": [ROW, ROW]}, "changed: metrics of epoch 2 say that they are of epoch 1"),
        ({"metrics": [{"epoch": 1}]}, "changed: metrics of epoch 1: missing key 'lr'"),
        ({"position": 5}, "changed: position is 5; needed: step, losses and generators"),
        ({"position": PLACE | {"step": -1}}, "changed: position: step is -1"),
        ({"position": PLACE | {"step": 1.0}}, r"changed: position: step is 1\.0"),
        ({"position": PLACE | {"losses": [NAN]}}, r"changed: position: losses are \[nan\]"),
        ({"position": PLACE | {"losses": []}}, "changed: position: 0 losses, but 1 generators"),
        ({"position": PLACE | {"generators": [torch.zeros(3)]}}, "the generators are no states of generators"),
        ({"model": 5}, "another network .model is 5, not a state dict"),
        (
            {"model": {"weight": torch.zeros(3, 2)}},
            "another network .not a state dict of Linear: 1 entries missing: bias",
        ),
        ({"model": {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}}, r"weight is \[2, 3\], not \[3, 2\]"),
        ({"model": {"weight": torch.zeros(3, 2), "bias": "none"}}, "another network .*missing: bias"),
        ({"model": {"weight": torch.zeros(3, 2), "bias": torch.full((3,), NAN)}}, "changed: model: bias holds NaN"),
        (
            {"model": {"weight": torch.zeros(3, 2).long(), "bias": torch.zeros(3)}},
            r"another network .*of another type: weight is int64",
        ),
        (
            {"model": {"weight": torch.zeros(3, 2) * 1j, "bias": torch.zeros(3)}},
            r"another network .*of another type: weight is complex64",
        ),
        ({"ema": None}, "changed: there is an average of the weights only if the recipe has one"),
        ({"ema": {}}, "changed: not a state dict of the average of the weights: 3 entries missing"),
        ({"optimizer": 5}, "changed: optimizer is 5"),
        ({"optimizer": {"state": {7: SLOT}}}, "changed: optimizer: there is no parameter 7"),
        ({"optimizer": {"state": {0: {}}}}, r"changed: optimizer: parameter 0 has \[\], not \['momentum_buffer'\]"),
        ({"optimizer": {"state": {0: SLOT | {"more": 1}}}}, r"parameter 0 has \['momentum_buffer', 'more'\]"),
        ({"optimizer": {"state": {1: SLOT}}}, "momentum_buffer of parameter 1 is no tensor of numbers with its shape"),
        ({"optimizer": {"state": {0: {"momentum_buffer": torch.full((3, 2), NAN)}}}}, "is no tensor of numbers"),
        ({"optimizer": {"state": {0: {"momentum_buffer": "much"}}}}, "is no tensor of numbers"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_changed_checkpoint_is_refused_before_anything_is_loaded(tmp_path, change, message):
    save(state(steps=3), tmp_path, IDENTITY, METRICS)
    path = tmp_path / "checkpoint.pt"
    torch.save(load_torch(path, "checkpoint") | change, path)
    into = state(seed=2, steps=1)
    before = {key: value.clone() for key, value in into.model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        resumed(tmp_path, into)
    assert all(torch.equal(value, before[key]) for key, value in into.model.state_dict().items())


def test_settings_of_the_optimizer_are_those_of_the_recipe(tmp_path):
    save(state(steps=1), tmp_path, IDENTITY, METRICS)
    path = tmp_path / "checkpoint.pt"
    content = load_torch(path, "checkpoint")
    content["optimizer"]["param_groups"][0] |= {"momentum": 0.0, "weight_decay": 1e9}
    torch.save(content, path)
    into = state()
    resumed(tmp_path, into)
    assert (into.optimizer.param_groups[0]["momentum"], into.optimizer.param_groups[0]["weight_decay"]) == (0.9, 0)


def test_infinities_that_a_network_has_from_its_beginning_are_no_damage(tmp_path):
    def masked():
        made = state(ema=False)
        made.model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        return made

    save(masked(), tmp_path, IDENTITY, METRICS)
    assert resumed(tmp_path, masked())[0] == METRICS


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "rmsprop_tf"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_optimizer_resumes(tmp_path, name, momentum):
    def made(steps):
        new = state(ema=False)
        optimizer = make_optimizer(new.model, Recipe(name, 0.1, 1, 2, momentum=momentum, weight_decay=0.1))
        for _ in range(steps):
            new.model(torch.ones(4, 2)).square().sum().backward()
            optimizer.step()
        return type(new)(new.model, None, optimizer)

    before, after = made(2), made(0)
    save(before, tmp_path, IDENTITY, METRICS)
    resumed(tmp_path, after)
    old, new = (s.optimizer.state_dict()["state"] for s in (before, after))
    assert json.dumps(old, default=torch.Tensor.tolist) == json.dumps(new, default=torch.Tensor.tolist)
