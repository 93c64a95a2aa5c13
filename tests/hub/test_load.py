"""Weights by name, path or URL, from good files and bad ones."""

import dataclasses
import io
import os
import pickle
import warnings

import pytest
import timm
import torch
from safetensors.torch import save

import fbnetv3
from fbnetv3 import InputError, build_model
from fbnetv3.arch import find_arch
from fbnetv3.errors import Note
from fbnetv3.hub import convert_mobile_cv, create_model, load_weights
from fbnetv3.hub import load as module
from fbnetv3.hub.registry import Registry, read_registry
from fbnetv3.networks.weight_file import WeightFile, read_weight_file, write_weight_file
from fbnetv3.transforms import Transforms
from tests.hub.conftest import TINY, tiny_weights, truncated
from tests.whole.test_reference import reference_state

A, D = reference_state("FBNetV3_A"), reference_state("FBNetV3_D")


def pickled(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def released(server, monkeypatch):
    """Serve the released A from this machine. The fixture is a function that sets the content of the file."""
    rows = [dataclasses.replace(row, url=server.url(f"{row.id}.pth")) for row in read_registry().rows]
    monkeypatch.setattr(module, "read_registry", lambda zoo=None: Registry(tuple(rows)))
    return lambda content: server.put("fbnetv3_a:fb.pth", content)


def same(model, state):
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore::fbnetv3.errors.Note")
def test_pretrained_takes_the_released_weights(released, server):
    released(pickled({"state_dict": A, "model_ema": None}))
    expected = convert_mobile_cv(A, "fbnetv3_a")
    model = create_model("fbnetv3_a", pretrained=True, progress=False)
    assert same(model, expected)
    assert model.derived_from == ("fbnetv3_a:fb",)
    assert same(create_model("fbnetv3_a", weights="fb", progress=False), expected)
    assert len(server.hits) == 1


def test_a_note_on_the_licence_appears_once(released):
    released(pickled(A))
    with pytest.warns(Note, match="CC BY-NC 4.0: not for commercial use"):
        create_model("fbnetv3_a", pretrained=True, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_model("fbnetv3_a", pretrained=True, progress=False)


@pytest.mark.filterwarnings("ignore::fbnetv3.errors.Note")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (truncated(pickled(A)), "bytes"),
        (pickled(D), r"not a state dict of fbnetv3_a: \d+ entries unexpected: "),
        (pickled({key: A[key] for key in list(A)[:-1]}), "1 entries missing: classifier.bias|no usable"),
        (
            pickled(timm.create_model("fbnetv3_b").state_dict()),
            "serves weights of fbnetv3_a_same_padding, not of fbnetv3_a",
        ),
        (pickled([1, 2]), "expected a state dict, got list"),
        (b"<html>not what you wanted</html>", "is no weight file or is damaged"),
        (pickled(A)[:-1000], "is no weight file or is damaged"),
    ],
    ids=[
        "truncated",
        "another network",
        "a key short",
        "another padding",
        "no state dict",
        "a web page",
        "damaged at the source",
    ],
)
def test_bad_files_are_named(released, content, words):
    released(content)
    with pytest.raises(InputError, match=words):
        create_model("fbnetv3_a", pretrained=True, progress=False)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore::fbnetv3.errors.Note")
@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_an_evil_pickle_does_not_run(released, tmp_path, form):
    sign = tmp_path / "was here"
    content = {"state_dict": A, "config": Evil(sign)}
    released(pickled(content) if form == "torch" else pickle.dumps({"config": Evil(sign)}))
    with pytest.raises(InputError, match=r"more than tensors.*fbnetv3 weights convert .* --trust-pickle"):
        create_model("fbnetv3_a", pretrained=True, progress=False)
    assert not sign.exists()
    if form == "torch":  # read on demand, it runs: the pickle was really dangerous
        path = tmp_path / "evil.pth"
        path.write_bytes(pickled(content))
        load_weights("fbnetv3_a", path, trust_pickle=True)
        assert sign.exists()


def small(tmp_path, name="w.safetensors", **changes):
    """Write a file that describes itself, of a network for 5 classes and grey images; return the network and the path."""
    torch.manual_seed(0)
    model = build_model("fbnetv3_a0", num_classes=5, in_chans=1)
    file = WeightFile.of(model, tuple("abcde"), Transforms(40, 32, (0.5,), (0.25,)))
    write_weight_file(tmp_path / name, file)
    return model, tmp_path / name


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_our_files_describe_themselves(tmp_path, name):
    model, path = small(tmp_path, name)
    file = read_weight_file(path)
    assert (file.arch, file.classes, file.transforms) == (
        model.arch,
        tuple("abcde"),
        Transforms(40, 32, (0.5,), (0.25,)),
    )
    assert same(file.build(), model.state_dict())
    assert not file.build().training
    assert load_weights(None, path).arch == model.arch
    loaded = create_model("fbnetv3_a0", weights=path)
    assert same(loaded, model.state_dict())
    assert loaded.transforms == file.build().transforms == Transforms(40, 32, (0.5,), (0.25,))
    assert model.transforms is None  # without weights
    with pytest.raises(InputError, match="contains the weights of fbnetv3_a0, another network than fbnetv3_a;"):
        create_model("fbnetv3_a", weights=path)


def test_a_url_is_as_good_as_a_path(tmp_path, server):
    model, path = small(tmp_path)
    url = server.put("w.safetensors", path.read_bytes())
    assert same(create_model("fbnetv3_a0", weights=url, in_chans=1, progress=False), model.state_dict())


def test_safetensors_of_the_released_layout(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(A))
    file = load_weights("fbnetv3_a", path)
    expected = convert_mobile_cv(A, "fbnetv3_a")
    assert all(torch.equal(file.state[key], value) for key, value in expected.items())
    assert file.derived_from == ("fbnetv3_a:fb",)  # the released keys: the licence goes with them
    assert file.transforms.resize == 242
    path.write_bytes(save(A)[:-5])
    with pytest.raises(InputError, match="no weight file or is damaged"):
        load_weights("fbnetv3_a", path)


@pytest.mark.parametrize("classes", [10, 0])
def test_a_classifier_of_another_size_keeps_fresh_weights(tmp_path, classes):
    model, path = small(tmp_path)
    if classes:
        with pytest.warns(Note, match="has 5 classes, not 10: the classifier keeps fresh weights"):
            other = create_model("fbnetv3_a0", weights=path, in_chans=1, num_classes=classes)
        assert other.classifier.weight.shape == (10, 1984)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            other = create_model("fbnetv3_a0", weights=path, in_chans=1, num_classes=0)
    x = torch.randn(2, 1, 32, 32)
    model.eval(), other.eval()
    assert torch.equal(model.forward_features(x), other.forward_features(x))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_the_stem_is_adapted(channels):
    file = tiny_weights(channels=3)
    rgb, other = (build_model(TINY, 3, count) for count in (3, channels))
    for model in (rgb, other):
        module.fill(model, file)
        model.double().eval()
    grey = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    assert rgb.transforms == file.transforms
    assert other.transforms == (file.transforms if channels == 3 else None)
    # Equal channels give the same result as in colour, exactly so where the given ones are repeated completely.
    close = {"rtol": 1e-6, "atol": 1e-9} if channels in (1, 3, 6) else {"rtol": 10, "atol": 10}
    torch.testing.assert_close(other(grey.expand(1, channels, 64, 64)), rgb(grey.expand(1, 3, 64, 64)), **close)


def test_stem_weights_by_hand():
    weight = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    for channels, expected in ((1, [9.0]), (2, [1.5, 3.0]), (4, [0.75, 1.5, 4.5, 0.75])):
        assert module.adapt_stem(weight, channels).flatten().tolist() == expected


def test_a_default_device_does_not_change_what_is_read(tmp_path):
    # Without counters of batches, as other programs write it: the zeros in their places must not be on the default device.
    state = {key: value for key, value in tiny_weights().state.items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pt")
    path = small(tmp_path)[1]
    with torch.device("meta"):
        file = load_weights(TINY, tmp_path / "w.pt")
        stem = module.adapt_stem(file.state["stem.conv.weight"], 3)
        with pytest.raises(InputError, match="the network is on the meta device"):
            create_model("fbnetv3_a0", weights=path)
    assert not stem.is_meta
    assert all(not value.is_meta for value in file.state.values())


def test_what_a_file_without_a_description_gets(tmp_path):
    torch.manual_seed(0)
    torch.save(build_model("fbnetv3_a0", 5, 2).state_dict(), tmp_path / "bare.pth")
    file = load_weights("fbnetv3_a0", tmp_path / "bare.pth")
    assert (file.classes, file.derived_from) == (tuple("01234"), ("unknown",))
    side = file.arch.resolution
    assert file.transforms == Transforms(side, side, (0.5, 0.5), (0.5, 0.5))  # no registered weights have two channels


def test_features_only_loads_what_it_keeps(tmp_path):
    model, path = small(tmp_path)
    features = create_model("fbnetv3_a0", weights=path, in_chans=1, features_only=True, out_indices=(1, 3)).eval()
    x = torch.randn(1, 1, 64, 64)
    model.eval()
    middle = model.stages[:2](model.stem(x))
    maps = features(x)
    assert torch.equal(maps[0], middle)
    assert torch.equal(maps[1], model.stages[2:4](middle))


def test_mistakes_say_what_to_give(tmp_path):
    with pytest.raises(InputError, match="no weights 'mine'; available: fb, timm_ra2, or a path or URL"):
        create_model("fbnetv3_a", weights="mine")
    with pytest.raises(InputError, match="no weights 'timm_ra2' of fbnetv3_a; available: fb"):
        create_model("fbnetv3_a", weights="timm_ra2")
    with pytest.raises(InputError, match=r"no weight file at .*absent.pth"):
        create_model("fbnetv3_a", weights=tmp_path / "absent.pth")
    with pytest.raises(InputError, match="unknown model 'fbnetv3_z'"):
        create_model("fbnetv3_z")
    with pytest.raises(InputError, match="no weights of 'fbnetv3_a0' are published"):
        create_model("fbnetv3_a0", pretrained=True)
    (tmp_path / "w.txt").write_text("")
    with pytest.raises(InputError, match=r"w\.txt is no weight file or is damaged .*; give a complete file"):
        create_model("fbnetv3_a", weights=tmp_path / "w.txt")
    torch.save(A, tmp_path / "a.pth")
    with pytest.raises(InputError, match="does not say which network it is for"):
        load_weights(None, tmp_path / "a.pth")


def test_schema_1_is_read_and_a_newer_one_is_refused(tmp_path):
    model, path = small(tmp_path, "w.pt")
    content = torch.load(path, weights_only=True)
    old = {"schema": 1, "arch": content["arch"], "in_chans": 1, "classes": list("abcde"), "mean": 0.2, "std": 0.3}
    torch.save({**old, "state_dict": content["state_dict"]}, path)
    file = read_weight_file(path)
    assert file.transforms == Transforms(224, 224, (0.2,), (0.3,))
    assert same(file.build(), model.state_dict())
    torch.save({**content, "schema": 4}, path)
    with pytest.raises(InputError, match="schema is 4; this version reads 1 to 3: update fbnetv3"):
        read_weight_file(path)
    torch.save({**content, "classes": "cats"}, path)
    with pytest.raises(InputError, match="classes is 'cats'"):
        read_weight_file(path)


def test_without_weights_it_is_build_model():
    torch.manual_seed(3)
    model = create_model("fbnetv3_a0", num_classes=3)
    torch.manual_seed(3)
    assert same(model, fbnetv3.build_model("fbnetv3_a0", num_classes=3).state_dict())


def test_a_model_of_the_registry_whose_weights_fit_a_variant(released):
    """As timm's weights of B: the registered weights are those of the variant, which a note says."""
    variant = find_arch("fbnetv3_a_same_padding")
    row = dataclasses.replace(module.read_registry().find("fbnetv3_a"), arch=variant, noncommercial=False)
    released(pickled(bare_state(variant)))
    with pytest.warns(
        Note, match="the weights in fbnetv3_a:fb belong to the variant fbnetv3_a_same_padding, which comp"
    ):
        file = load_weights("fbnetv3_a", "fb", Registry((row,)), progress=False)
    assert file.arch == variant


def bare_state(arch):
    """A state dict in this package's names, without a description."""
    torch.manual_seed(0)
    return build_model(arch).state_dict()


def test_an_architecture_alone_needs_weights():
    with pytest.raises(InputError, match="no weights given; give a registered source, a path or a URL"):
        load_weights(TINY, None)


def test_a_slip_in_the_name_is_found_before_a_download(monkeypatch):
    monkeypatch.setattr("fbnetv3.hub.load.fetch", lambda *_arguments, **_words: pytest.fail("downloaded"))
    with pytest.raises(InputError, match="unknown model 'fbnetv3_z'"):
        load_weights("fbnetv3_z", "https://example.invalid/weights.pt")


def test_weights_that_are_not_finite_are_not_loaded(tmp_path):
    torch.save(
        A | {"backbone.stages.xif0_0.conv.weight": A["backbone.stages.xif0_0.conv.weight"] / 0}, tmp_path / "a.pt"
    )
    with pytest.raises(
        InputError, match=r"the weights of fbnetv3_a are not finite: stem\.conv\.weight has NaN or infinite"
    ):
        create_model("fbnetv3_a", weights=tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"num_class": 5}, TypeError), ({"num_classes": -1}, InputError), ({"in_chans": 0}, InputError)],
)
def test_arguments_are_looked_at_before_a_download(released, server, wrong, error):
    released(pickled(A))
    with pytest.raises(error, match=next(iter(wrong))):
        create_model("fbnetv3_a", pretrained=True, progress=False, **wrong)
    assert server.hits == []


def test_nobody_is_told_to_delete_a_file_of_the_user(tmp_path):
    path = tmp_path / "passwd"
    path.write_text("root")
    with pytest.raises(InputError, match="no weight file or is damaged") as caught:
        create_model("fbnetv3_a", weights=path.as_uri())
    assert "delete it" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["passwd"]
