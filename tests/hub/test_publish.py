"""Custom zoos: torch.hub returns what was published, and licences stay with the weights."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from fbnetv3 import InputError, build_model
from fbnetv3.files import lock_folder
from fbnetv3.hub import create_model, load_weights, read_registry
from fbnetv3.hub.publish import publish_weights
from fbnetv3.hub.registry import Metric
from fbnetv3.networks.weight_file import UNKNOWN, WeightFile
from fbnetv3.transforms import Transforms
from tests.hub.conftest import TINY, tiny_weights
from tests.places import ROOT
from tests.whole.test_reference import reference_state


def same(model, file):
    return all(torch.equal(value, file.state[key]) for key, value in model.state_dict().items())


def test_two_publish_one_after_the_other(tmp_path):
    """Both would read the same registry, and the row of the first one would be lost."""
    with lock_folder(tmp_path / "zoo", "publishing"), pytest.raises(InputError, match="in use by another publishing"):
        publish_weights(tiny_weights(), tmp_path / "zoo", "tiny", licence="MIT")
    publish_weights(tiny_weights(), tmp_path / "zoo", "tiny", licence="MIT")
    assert not (tmp_path / "zoo" / ".lock").exists()


def test_published_weights_come_back(tmp_path):
    file = tiny_weights()
    zoo = tmp_path / "zoo"
    row = publish_weights(
        file, zoo, "tiny", licence="MIT", metrics=(Metric("acc1", 12.5, "measured here: nothing"),), recipe="none"
    )
    (path,) = zoo.glob("*.safetensors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"tiny-{digest[:8]}.safetensors"
    assert (row.sha256, row.licence, row.noncommercial) == (digest, "MIT", False)
    assert row == read_registry(zoo).find("tiny")
    assert (row.arch, row.transforms, row.classes) == (TINY, file.transforms, ("a", "b", "c"))
    with safe_open(path, "pt") as content:
        assert set(content.keys()) == set(file.state)
    model = create_model("tiny", pretrained=True, zoo=zoo)
    assert same(model, file)
    assert model.derived_from == ("tiny:custom",)
    card = (zoo / "README.md").read_text()
    assert "acc1 12.5 (measured here: nothing)" in card
    assert digest in card
    assert {p.name for p in zoo.iterdir()} == {path.name, "registry.json", "README.md", "hubconf.py"}


def test_torch_hub_serves_the_folder(tmp_path):
    file = tiny_weights()
    publish_weights(file, tmp_path / "zoo", "tiny", licence="MIT")
    publish_weights(tiny_weights(1), tmp_path / "zoo", "tiny", licence="MIT", source="second")
    script = (
        "import sys, torch; zoo = sys.argv[1]; sys.path.insert(0, zoo);"
        "m = torch.hub.load(zoo, 'tiny', source='local', pretrained=True);"
        "n = torch.hub.load(zoo, 'tiny', source='local', weights='second');"
        "print(m.classifier.bias.tolist(), n.classifier.bias.tolist());"
        "import hubconf; print(hubconf.tiny.__doc__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "zoo")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    biases, *about = done.stdout.splitlines()
    assert biases == f"{file.state['classifier.bias'].tolist()} {tiny_weights(1).state['classifier.bias'].tolist()}"
    assert "28 x 28 images" in " ".join(about)


def test_weights_may_lie_elsewhere(tmp_path, server):
    zoo = tmp_path / "zoo"
    row = publish_weights(tiny_weights(), zoo, "tiny", licence="MIT", url=server.url("files/"))
    (path,) = zoo.glob("*.safetensors")
    assert row.url == server.url(f"files/{path.name}")
    server.put(f"files/{path.name}", path.read_bytes())
    path.unlink()
    assert same(create_model("tiny", pretrained=True, zoo=zoo, progress=False), tiny_weights())
    assert server.hits == [f"/files/{path.name}"]


def test_a_replaced_file_is_refused(tmp_path):
    publish_weights(tiny_weights(), tmp_path, "tiny", licence="MIT")
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="was damaged or replaced"):
        create_model("tiny", pretrained=True, zoo=tmp_path)


def test_noncommercial_origins_need_leave(tmp_path):
    file = tiny_weights(derived_from=("fbnetv3_a:fb",))
    with pytest.raises(InputError, match=r"derive from fbnetv3_a:fb, licensed CC BY-NC 4.0.*--allow-noncommercial"):
        publish_weights(file, tmp_path / "zoo", "tiny", licence="MIT")
    assert not (tmp_path / "zoo").exists()
    row = publish_weights(file, tmp_path / "zoo", "tiny", licence="MIT", allow_noncommercial=True)
    assert (row.licence, row.noncommercial, row.derived_from) == ("CC BY-NC 4.0", True, ("fbnetv3_a:fb",))
    child = WeightFile(TINY, ("a", "b", "c"), file.transforms, file.state, ("fbnetv3_a:fb", "tiny:custom"))
    with pytest.raises(InputError, match="derive from fbnetv3_a:fb"):  # the grandchild too
        publish_weights(child, tmp_path / "zoo", "tiny2", licence="MIT")
    timm = tiny_weights(derived_from=("fbnetv3_d:timm_ra2",))
    assert not publish_weights(timm, tmp_path / "zoo", "tiny3", licence="MIT").noncommercial


def test_a_finetuned_network_remembers(tmp_path):
    torch.save(reference_state("FBNetV3_A"), tmp_path / "a.pth")
    with pytest.warns(UserWarning, match="the classifier keeps fresh weights"):
        model = create_model("fbnetv3_a", weights=tmp_path / "a.pth", num_classes=2)
    file = WeightFile.of(model, ("x", "y"), Transforms(224, 224, (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(InputError, match="derive from fbnetv3_a:fb"):
        publish_weights(file, tmp_path / "zoo", "mine", licence="MIT")


def test_an_unknown_origin_must_be_stated(tmp_path):
    file = tiny_weights(derived_from=(UNKNOWN,))
    with pytest.raises(
        InputError, match="does not say what it was trained from; give --trained-from scratch or MODEL:SOU"
    ):
        publish_weights(file, tmp_path, "tiny", licence="MIT")
    with pytest.raises(InputError, match="'nobody:custom', which no registry knows"):
        publish_weights(file, tmp_path, "tiny", licence="MIT", trained_from="nobody:custom")
    with pytest.raises(InputError, match="derive from fbnetv3_g:fb"):
        publish_weights(file, tmp_path, "tiny", licence="MIT", trained_from="fbnetv3_g:fb")
    assert publish_weights(file, tmp_path, "tiny", licence="MIT", trained_from="scratch").derived_from == ()
    with pytest.raises(
        InputError, match="the file says that it was trained from fbnetv3_a:fb, not from scratch; leave out"
    ):
        publish_weights(
            tiny_weights(derived_from=("fbnetv3_a:fb",)), tmp_path, "t", licence="MIT", trained_from="scratch"
        )


def test_mistakes_leave_the_zoo_as_it_was(tmp_path):
    publish_weights(tiny_weights(), tmp_path, "tiny", licence="MIT")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name, source, words in (
        ("../evil", "custom", "name is '../evil'"),
        ("9a", "custom", "beginning with a letter"),
        ("tiny", "custom", "has weights 'custom' of tiny already"),
        ("tiny", "a b", "source is 'a b'"),
    ):
        with pytest.raises(InputError, match=words):
            publish_weights(tiny_weights(), tmp_path, name, source=source, licence="MIT")
    broken = tiny_weights()
    with pytest.raises(InputError, match="not a state dict of"):
        publish_weights(WeightFile(TINY, ("a",), broken.transforms, broken.state), tmp_path, "other", licence="MIT")
    other = build_model("fbnetv3_a0", 2)
    file = WeightFile(other.arch, ("a", "b"), Transforms(9, 9, (0.5,) * 3, (0.5,) * 3), other.state_dict())
    with pytest.raises(InputError, match=r"tiny of .* is another network"):
        publish_weights(file, tmp_path, "tiny", source="second", licence="MIT")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give a folder that can be written"):
        publish_weights(tiny_weights(), tmp_path / "file", "tiny", licence="MIT")


def test_a_long_measurement_comes_after_all_checks(tmp_path):
    def measure():
        assert not (tmp_path / "zoo" / "registry.json").exists()
        return Metric("acc1", 7.0, "measured here: nothing")

    row = publish_weights(tiny_weights(), tmp_path / "zoo", "tiny", licence="MIT", measure=measure)
    assert [(metric.name, metric.value) for metric in row.metrics] == [("acc1", 7.0)]
    with pytest.raises(InputError, match="has weights 'custom' of tiny already"):
        publish_weights(
            tiny_weights(), tmp_path / "zoo", "tiny", licence="MIT", measure=lambda: pytest.fail("measured")
        )


def test_a_readme_that_is_not_of_a_zoo_is_not_replaced(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"README.md is not that of a zoo, and would be replaced; move it, or give"):
        publish_weights(tiny_weights(), tmp_path, "tiny", licence="MIT")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").rename(tmp_path / "mine.md")
    publish_weights(tiny_weights(), tmp_path, "tiny", licence="MIT")
    assert "tiny" in (tmp_path / "README.md").read_text()


def test_a_crash_between_files_leaves_a_zoo_that_works(tmp_path, monkeypatch):
    from fbnetv3.hub import publish as module

    publish_weights(tiny_weights(), tmp_path, "tiny", licence="MIT")
    monkeypatch.setattr(module, "_add_row", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        publish_weights(tiny_weights(1), tmp_path, "other", licence="MIT")
    monkeypatch.undo()
    assert json.loads((tmp_path / "registry.json").read_text())["weights"][0]["model"] == "tiny"
    assert read_registry(tmp_path).models() == ("tiny",)
    publish_weights(tiny_weights(1), tmp_path, "other", licence="MIT")
    assert same(create_model("other", pretrained=True, zoo=tmp_path), tiny_weights(1))
    assert load_weights("tiny", None, read_registry(tmp_path)).classes == ("a", "b", "c")


def test_weights_without_a_classifier_are_published(tmp_path):
    network = build_model("fbnetv3_a0", 0)
    file = WeightFile.of(network, (), Transforms(72, 64, (0.5,) * 3, (0.5,) * 3))
    row = publish_weights(file, tmp_path / "zoo", "body", licence="MIT", trained_from="scratch")
    assert round(row.params_m * 1e6) == sum(p.numel() for p in network.parameters() if p.ndim > 1)
    assert load_weights("body", "custom", read_registry(tmp_path / "zoo")).num_classes == 0
