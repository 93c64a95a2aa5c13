"""The registry says the truth about every network it names."""

import json
from pathlib import Path

import pytest

from fbnetv3 import InputError, build_model, list_models
from fbnetv3.arch import ARCHS, find_arch, same_padding
from fbnetv3.complexity import cost
from fbnetv3.hub.registry import read_json, read_registry
from fbnetv3.networks.classifier import class_names

ROWS = read_registry().rows


def test_every_model_and_source_is_there():
    assert {row.id for row in ROWS} == {f"{name}:fb" for name in list_models()} | {
        f"fbnetv3_{letter}:timm_ra2" for letter in "bdg"
    }
    assert all(read_registry().find(name).source == "fb" for name in list_models())
    assert {row.licence for row in ROWS if row.noncommercial} == {"CC BY-NC 4.0"}
    assert {row.licence for row in ROWS if not row.noncommercial} == {"Apache-2.0"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_costs_are_those_of_the_rebuilt_model(row):
    import torch
    from fvcore.nn import FlopCountAnalysis

    model = build_model(row.arch).eval()
    weights = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert sum(weights) == round(row.params_m * 1e6)
    side = row.transforms.crop
    counted = FlopCountAnalysis(model, torch.zeros(1, 3, side, side)).unsupported_ops_warnings(False)
    by_operator = counted.uncalled_modules_warnings(False).by_operator()
    noop_pool = cost(row.arch, resolution=side).noop_pool  # the released head's second pool is not built
    assert sum(by_operator.values()) - by_operator["batch_norm"] + noop_pool == round(row.flops_m * 1e6)


@pytest.mark.parametrize("row", [row for row in ROWS if row.source == "timm_ra2"], ids=lambda row: row.id)
def test_timm_rows_say_what_timm_says(row):
    import timm

    cfg = timm.get_pretrained_cfg(f"{row.model}.ra2_in1k")
    assert row.url == cfg.url
    assert row.sha256 in cfg.url
    assert row.transforms.crop == cfg.test_input_size[1]
    assert row.transforms.resize == int(cfg.test_input_size[1] / cfg.crop_pct)
    assert (row.transforms.mean, row.transforms.std) == (cfg.mean, cfg.std)
    assert row.transforms.interpolation == cfg.interpolation


def test_only_timms_b_is_another_function():
    assert [row.id for row in ROWS if row.arch.name != row.model] == ["fbnetv3_b:timm_ra2"]
    assert same_padding(ARCHS["fbnetv3_d"]) is ARCHS["fbnetv3_d"]
    variant = same_padding(ARCHS["fbnetv3_b"])
    assert variant.name == "fbnetv3_b_same_padding"
    assert find_arch(variant.name) == variant
    assert [row.padding for row in variant.rows] == [row.k // 2 for row in variant.rows]
    assert same_padding(variant) is variant


def test_metrics_name_their_origin():
    row = read_registry().find("fbnetv3_a")
    assert (row.metric("acc1", "paper"), row.metric("acc1", "released file")) == (79.1, 79.574)
    assert read_registry().find("fbnetv3_d").metric("acc1", "paper") is None
    assert {m.origin for row in ROWS for m in row.metrics} == {"released file", "paper", "timm results table"}


def test_imagenet_has_a_thousand_names():
    names = class_names("imagenet1k")
    assert len(names) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")


def test_mistakes_name_what_there_is(tmp_path):
    with pytest.raises(InputError, match="no weights 'mine' of fbnetv3_b; available: fb, timm_ra2"):
        read_registry().find("fbnetv3_b", "mine")
    with pytest.raises(InputError, match="no weights of 'fbnetv3_a0' are published"):
        read_registry().find("fbnetv3_a0")
    with pytest.raises(InputError, match="no registry at"):
        read_registry(tmp_path)
    (tmp_path / "registry.json").write_text("{")
    with pytest.raises(InputError, match=r"registry\.json is no registry of a zoo, or is damaged: "):
        read_registry(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(schema=2), "schema is 2"),
        (lambda d: d.pop("weights"), "needs `sources` and `weights`"),
        (lambda d: d["weights"][0].update(crop="big"), "crop is 'big'"),
        (lambda d: d["weights"][0].pop("flops_m"), "missing key 'flops_m'"),
        (lambda d: d["weights"][0].update(colour="red"), "unknown key 'colour'"),
        (lambda d: d["weights"][0].update(arch="fbnetv3_z"), "unknown model 'fbnetv3_z'"),
        (lambda d: d["weights"][0].update(source="elsewhere"), "source 'elsewhere'"),
        (lambda d: d["weights"][0]["metrics"][0].pop("origin"), "missing key 'origin'"),
        (lambda d: d["weights"][0]["metrics"][0].update(value="good"), "metrics: value is 'good'; allowed: a number"),
        (lambda d: d["weights"][0].update(metrics=[5]), "metrics: expected a mapping, got int 5"),
        (lambda d: d["weights"][0].update(metrics=5), "metrics is 5; allowed: a list"),
        (lambda d: d.update(sources={"fb": 5, "timm_ra2": {}}), "sources: fb is 5; allowed: a mapping"),
        (lambda d: d.update(weights=[5]), r"weights\[0\] is 5; allowed: a mapping"),
        (lambda d: d["weights"][0].update(source=["fb"]), r"source \['fb'\] is not among the sources: fb, timm_ra2"),
        (lambda d: d["weights"][0].update(model=5), "model is 5; allowed: a text"),
        (lambda d: d["weights"][0].update(classes=5), "classes is 5; allowed: a list of names, or imagenet1k"),
        (lambda d: d["weights"][0].update(classes=[1, 2]), r"classes is \[1, 2\]; allowed: a list of names"),
        (lambda d: d["weights"][0].update(flops_m="many"), "flops_m is 'many'; allowed: a number from 0"),
        (lambda d: d["weights"][0].update(noncommercial="no"), "noncommercial is 'no'; allowed: true, false"),
        (lambda d: d["weights"][0].update(sha256="short"), "sha256 is 'short'; allowed: hexadecimal digits"),
        (lambda d: d["weights"][0].update(derived_from="fb"), "derived_from is 'fb'; allowed: a list of texts"),
        (lambda d: d["weights"][0].update(arch=5), "arch is 5; allowed: a name or a mapping"),
        (lambda d: d["weights"][0].update(about="x" * 10**6, recipe=5), "recipe is 5"),
    ],
)
def test_a_damaged_registry_is_refused(tmp_path, change, words):
    from pathlib import Path

    import fbnetv3.hub.registry as module

    data = json.loads((Path(module.__file__).parent / "registry.json").read_text())
    change(data)
    (tmp_path / "registry.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=words):
        read_registry(tmp_path)


def registry_with(folder, **changes):
    """Write a registry of one row, that of the package's first weights with `changes`."""
    from fbnetv3.hub import registry

    data = read_json(Path(registry.__file__).parent / "registry.json")
    data["weights"] = [data["weights"][0] | changes]
    folder.mkdir(exist_ok=True)
    (folder / "registry.json").write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file://host/etc/passwd",
        "/etc/passwd",
        "../secret.pt",
        "a/../../secret.pt",
        "file:///zoo/../etc/passwd",
        "w\0.pt",
    ],
)
def test_a_zoo_does_not_lead_out_of_its_folder(tmp_path, url):
    zoo = registry_with(tmp_path / "zoo", url=url)
    with pytest.raises(InputError, match=r"url is .*; allowed: a URL on the web, or a file in .*zoo$"):
        read_registry(zoo)


def test_files_of_a_zoo_are_in_its_folder(tmp_path):
    zoo = tmp_path / "zoo"
    for url in ("w.pt", "sub/w.pt", "sub/../w.pt", (zoo / "w.pt").as_uri()):
        row = read_registry(registry_with(zoo, url=url)).rows[0]
        assert row.path.resolve().parent.is_relative_to(zoo)
    url = "https://example.org/w.pt"
    assert read_registry(registry_with(zoo, url=url)).rows[0].url == url


def test_the_name_of_a_model_does_not_lead_out_of_the_cache(tmp_path, cache):
    row = read_registry(registry_with(tmp_path / "zoo", model="../../x", url="https://example.org/w.pt")).rows[0]
    assert row.path.parent == cache
