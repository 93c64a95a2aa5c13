"""The configuration of a search: read strictly, written completely, and recognised by its fingerprint."""

import dataclasses

import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.search.nars.config import Contents, list_presets, load_preset, read_config, save_config
from fbnetv3.search.nars.context import LEAST_EPOCHS, MOST_EPOCHS, Context
from fbnetv3.search.nars.evolve import PRESETS as EVOLUTIONS
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.latency import LatencyLimit
from tests.places import ROOT
from tests.search.scripted import config

WRONG = [
    ({"speed": 1}, "here: unknown key 'speed'"),
    ({"pool": 3}, "here: a pool of 3 is too small for 2 batches of 2"),
    ({"rounds": 0}, "here: rounds is 0"),
    ({"repeats": 3}, "here: repeats is 3; at most the 2 of the first batch"),
    ({"predictor": "quick"}, "here: predictor is 'quick'; give one of default, paper, or settings"),
    ({"precision": "fp8"}, "here: precision is 'fp8'"),
    ({"schema": 2}, "here: schema is 2; this version reads 1"),
    ({"evolution": {"speed": 1}}, "here: evolution: unknown key 'speed'; available: parents"),
    ({"constraint": {"metric": "flops"}}, "here: constraint: missing key 'max'"),
    ({"evolution": "fast"}, "here: evolution is 'fast'; give one of default, paper, or settings"),
    ({"also": [{"metric": "params", "max": "1M"}]}, r"here: also\[0\]: max is '1M'"),
    ({"latency": {"max": 1.0}}, "here: latency: missing key 'table'"),
    ({"finalists": -1}, "here: finalists is -1"),
    (
        {"final_stretch": 10**30},
        "here: final_stretch is 1000000000000000000000000000000; .* less than or equal to 1000",
    ),
    ({"seed": 2**64}, "here: seed is 18446744073709551616; .* less than or equal to 18446744073709551615"),
    ({"seed": -1}, "here: seed is -1"),
    ({"early_stopping": 1.5}, "here: early_stopping is 1.5"),
    ({"stopping": "guess"}, "here: stopping is 'guess'; .*'rule' or 'model'"),
    ({"hopeless": 0.5}, "here: hopeless is 0.5; .*less than 0.5"),
    ({"asynchronous": -1}, "here: asynchronous is -1"),
    ({"extensions": [2, 0]}, "here: extensions.1 is 0"),
    ({"extensions": [59]}, "here: a pool of 64 is too small for 65 trainings, those of extensions among them"),
    ({"extensions": [1], "asynchronous": 1}, "here: asynchronous is 1, and only a search in rounds can be extended"),
    (
        {"asynchronous": 3},
        "here: asynchronous is 3, but stage 2 has 2 trainings after the first batch; allowed: 0 to 2",
    ),
]


@pytest.fixture
def cfg(tmp_path):
    return config(tmp_path)


@pytest.mark.parametrize(("change", "words"), WRONG, ids=["-".join(change) for change, _ in WRONG])
def test_a_wrong_value_is_refused_with_its_key_and_its_place(cfg, change, words):
    with pytest.raises(InputError, match=words):
        read_config(cfg.to_dict() | change, "here")


def test_what_is_no_mapping_is_refused():
    with pytest.raises(InputError, match="here"):
        read_config([1, 2], "here")


def test_a_configuration_survives_writing_and_reading(cfg, tmp_path):
    changed = cfg.replace(
        also=[{"metric": "params", "max": 22e3}],
        latency={"table": "t.json", "max": 1.5},
        classes=5,
        evolution="paper",
        predictor="paper",
    )
    save_config(changed, tmp_path / "config.yaml")
    read = read_config(yaml.safe_load((tmp_path / "config.yaml").read_text()), "here")
    assert read == changed
    assert read.also == (Constraint("params", 22e3),)
    assert read.latency == LatencyLimit("t.json", 1.5)


def test_predictor_and_evolution_can_be_named(cfg):
    named = cfg.replace(predictor="paper", evolution="paper")
    assert named.predictor == PredictorSettings.preset("paper")
    assert named.evolution == EVOLUTIONS["paper"]


def test_a_replaced_value_is_checked_like_a_new_one(cfg):
    with pytest.raises(InputError, match="search config: rounds is 0"):
        cfg.replace(rounds=0)


def test_trainings_are_batches_repeats_and_finalists(cfg):
    assert cfg.replace(batch=4, rounds=3, repeats=2, finalists=5).trainings == 4 * 3 + 2 + 5
    assert cfg.replace(first=9, batch=4, rounds=3, repeats=2, finalists=5).batches == (9, 4, 4)
    assert cfg.replace(extensions=[3, 1]).trainings == cfg.trainings + 4


@pytest.mark.parametrize(
    "change", [{"baseline": True}, {"about": "other words"}, {"readers": 2}, {"extensions": [3]}], ids=str
)
def test_the_fingerprint_ignores_what_trials_do_not_depend_on(cfg, change):
    assert cfg.replace(**change).fingerprint == cfg.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        *({"seed": 1}, {"pool": 65}, {"early_stopping": 0.9}, {"stopping": "model"}, {"hopeless": 0.1}),
        *({"predictor": {"width": 8}}, {"evolution": {"random": 9}}),
    ],
    ids=str,
)
def test_the_fingerprint_covers_what_trials_depend_on(cfg, change):
    assert cfg.replace(**change).fingerprint != cfg.fingerprint


def test_the_fingerprint_does_not_change_between_versions():
    """A version that computes another one cannot resume the searches of earlier versions."""
    earlier = {"acquisition": "mean", "predictor": {"members": 4}, "first": None, "batch": 9, "rounds": 4}
    earlier["constraint"] = {"metric": "flops", "convention": "published", "min": 1.5e5, "max": 4e5}
    assert load_preset("quickstart").replace(**earlier).fingerprint == "600907a662977c81"


def test_a_search_that_an_earlier_version_began_chooses_as_it_began(cfg):
    data = cfg.to_dict()
    del data["acquisition"], data["first"]
    assert read_config(data, "config.yaml").acquisition == "mean"
    del data["contents"]  # as in a preset
    assert read_config(data, "mine.yaml").acquisition == "expected_improvement"


def test_an_unknown_preset_is_refused_with_the_names():
    with pytest.raises(InputError, match="unknown preset 'slow'; available: cifar10, imagenet200"):
        load_preset("slow")


def test_a_preset_can_be_a_file(cfg, tmp_path):
    save_config(cfg, tmp_path / "mine.yaml")
    assert load_preset(str(tmp_path / "mine.yaml")) == cfg


def test_paths_in_a_preset_are_relative_to_it_and_else_to_the_working_folder(cfg, tmp_path, monkeypatch):
    for name in ("set", "here"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "space.yaml").write_text("")
    (tmp_path / "here" / "only.yaml").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    named = dataclasses.replace(cfg, space="space.yaml", recipe="only.yaml", data="memory:images")
    save_config(dataclasses.replace(named, latency=LatencyLimit("none.json", 1.0)), tmp_path / "set" / "p.yaml")
    found = load_preset("../set/p.yaml")
    assert found.space == str(tmp_path / "set" / "space.yaml")
    assert found.recipe == str(tmp_path / "here" / "only.yaml")
    assert found.latency.table == str(tmp_path / "set" / "none.json")  # where a file is looked for first
    assert found.data == f"memory:{tmp_path / 'set' / 'images'}"


def test_names_of_the_package_in_a_preset_stay_names():
    found = load_preset("quickstart")
    assert (found.space, found.recipe, found.data) == ("micro", "fashion_mnist/micro", "fashion_mnist")


def test_the_configuration_of_a_search_is_a_preset_of_another_search(cfg, tmp_path):
    begun = dataclasses.replace(cfg, contents=Contents("a", "b", data="c"), extensions=(3,))
    save_config(begun, tmp_path / "config.yaml")
    assert load_preset(str(tmp_path / "config.yaml")) == cfg
    assert begun.fingerprint != cfg.fingerprint
    assert dataclasses.replace(begun, space="elsewhere.yaml", data="moved").fingerprint == begun.fingerprint
    assert dataclasses.replace(begun, contents=Contents("a", "b", data="d")).fingerprint != begun.fingerprint


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_is_read_and_has_enough_candidates(name):
    preset = load_preset(name)
    assert read_config(preset.to_dict(), "here") == preset
    # Where the preset takes something from the data, that of Fashion-MNIST.
    context = Context.of(preset.replace(data=preset.data or "fashion_mnist"))
    context.constraints.sample(sum(preset.batches), 0)


@pytest.mark.parametrize("name", [name for name in list_presets() if name.startswith("imagenet200")])
def test_presets_for_imagenet_have_the_numbers_of_the_paper(name):
    preset = load_preset(name)
    base = Context.of(preset).base
    assert (preset.pool, preset.batch, preset.early_stopping, preset.classes) == (20_000, 48, 0.92, 200)
    assert preset.rounds == (4 if name == "imagenet200_recipe" else 5)
    assert (base.epochs, base.lr_decay) == (150, 0.963)
    assert base.stretched(preset.final_stretch).lr_decay == pytest.approx(0.9875, abs=1e-4)


@pytest.mark.parametrize("name", list_presets())
def test_the_documentation_has_the_numbers_of_the_presets(name):
    preset = load_preset(name)
    first, *others = preset.batches
    sizes = f"{preset.pool:,}, {first} + {len(others)} x {preset.batch}"
    taken = preset.epochs == "data"
    epochs = f"{LEAST_EPOCHS} to {MOST_EPOCHS}" if taken else Context.of(preset).base.epochs
    row = f"| `{name}` | `{preset.space}` | {sizes} | {epochs} |"
    assert row in (ROOT / "docs/search.md").read_text()


def test_a_start_from_other_searches_changes_the_fingerprint_and_its_absence_does_not(cfg, tmp_path):
    assert cfg.replace(warm_start=["one", "two"]).warm_start == ("one", "two")
    assert cfg.replace(warm_start=["one"]).fingerprint != cfg.fingerprint
    begun = dataclasses.replace(
        cfg, contents=Contents("a", "b", warm_start=("c",)), warm_start=("inputs/source/1.json",)
    )
    assert dataclasses.replace(begun, warm_start=("/elsewhere/1.json",)).fingerprint == begun.fingerprint
    other = dataclasses.replace(begun, contents=Contents("a", "b", warm_start=("d",)))
    assert other.fingerprint != begun.fingerprint
    save_config(begun, tmp_path / "config.yaml")
    assert read_config(yaml.safe_load((tmp_path / "config.yaml").read_text()), "here") == begun
    (tmp_path / "inputs").mkdir()
    assert load_preset(str(tmp_path / "config.yaml")).warm_start == (str(tmp_path / "inputs" / "source" / "1.json"),)


def test_the_network_of_the_paper_cannot_learn_from_stopped_trainings(cfg):
    with pytest.raises(InputError, match=r"stopping is model, but a predictor whose head is a network .* cannot learn"):
        cfg.replace(predictor="paper", stopping="model")


def test_the_network_of_the_paper_cannot_start_from_other_searches(cfg):
    with pytest.raises(InputError, match=r"head is a network .* cannot start from earlier searches; take the default"):
        cfg.replace(predictor="paper", warm_start=["DIR"])


def test_algorithm_1_as_written_proposes_in_batches(cfg):
    words = (
        "asynchronous is 2 and acquisition is mean, the rule of Algorithm 1, .* take acquisition: expected_improvement"
    )
    with pytest.raises(InputError, match=words):
        cfg.replace(asynchronous=2, acquisition="mean")
    with pytest.raises(InputError, match="asynchronous is 8 and acquisition is mean"):
        load_preset("imagenet200_paper").replace(asynchronous=8)


def test_an_asynchronous_search_is_another_search_with_as_many_trainings(cfg):
    found = cfg.replace(asynchronous=2)
    assert (found.trainings, found.batches) == (cfg.trainings, cfg.batches)
    assert len({c.fingerprint for c in (cfg, found, cfg.replace(asynchronous=1))}) == 3
    assert cfg.replace(asynchronous=0).fingerprint == cfg.fingerprint
