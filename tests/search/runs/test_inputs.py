"""The folder of a search has what its numbers depend on, and says which file was changed."""

import dataclasses
import json
import shutil

import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.files import lock_folder
from fbnetv3.progress import silent
from fbnetv3.recipes import load_recipe
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset, save_config
from fbnetv3.search.nars.context import Context
from fbnetv3.search.report.export import export_trials
from fbnetv3.search.runs.budgets import budget_pairs
from fbnetv3.search.runs.folder import load_search
from fbnetv3.search.runs.inputs import changes, check_costs, check_inputs, locate_inputs, recipe_name, take_inputs
from fbnetv3.search.runs.run import resume, start
from fbnetv3.search.runs.verify import verify
from fbnetv3.search.space.latency import LatencyTable, covering, distinct_parts, save_table
from fbnetv3.search.space.reader import SPACES, load_space
from tests.search.scripted import BASE_RECIPE, Scripted, config

ONE = ExecutorSettings(workers=1)


def write_preset(folder):
    """Write a preset that names a space, a recipe and a latency table beside it; return its path."""
    folder.mkdir()
    shutil.copy(SPACES / "micro.yaml", folder / "five.yaml")
    space = load_space("micro")
    table = LatencyTable("micro", {"cpu": "none"}, dict.fromkeys(distinct_parts(space, covering(space)), 0.5))
    save_table(table, folder / "cpu.json")
    cfg = config(folder, final_training=False, latency={"table": "cpu.json", "max": 1e3})
    save_config(dataclasses.replace(cfg, space="five.yaml", recipe="recipe.yaml"), folder / "preset.yaml")
    return folder / "preset.yaml"


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a search of such a preset; what the preset named is gone."""
    folder = tmp_path_factory.mktemp("inputs")
    start(load_preset(str(write_preset(folder / "set"))), folder / "run", silent, ONE, Scripted())
    shutil.rmtree(folder / "set")
    return folder / "run"


@pytest.fixture
def copied(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "moved")
    return tmp_path / "moved"


def before(folder, space="five.yaml"):
    """Change the folder to what the version before would have written, and put its inputs beside it."""
    for name in ("space/five.yaml", "recipe/recipe.yaml", "latency/cpu.json"):
        shutil.copy(folder / "inputs" / name, folder.parent)
    shutil.rmtree(folder / "inputs")
    data = yaml.safe_load((folder / "config.yaml").read_text())
    del data["contents"]
    data |= {"space": space, "recipe": "recipe.yaml", "latency": {"table": "cpu.json", "max": 1e3}}
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    header, *rest = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    header = json.dumps(json.loads(header) | {"config": load_search(folder).config.fingerprint}) + "\n"
    (folder / "ledger.jsonl").write_text(header + "".join(rest))


def widen(path):
    """Widen the first searched row of a space, as a user might between two searches."""
    text = path.read_text()
    data = yaml.safe_load(text)
    data["rows"][-1]["c"] = "(72, 112, 8)" if data["rows"][-1]["c"] != "(72, 112, 8)" else "(64, 104, 8)"
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def test_a_folder_names_its_own_files(searched):
    data = yaml.safe_load((searched / "config.yaml").read_text())
    assert data["space"] == "inputs/space/five.yaml"
    assert data["recipe"] == "inputs/recipe/recipe.yaml"
    assert data["latency"]["table"] == "inputs/latency/cpu.json"
    assert (searched / data["space"]).read_bytes() == (SPACES / "micro.yaml").read_bytes()
    assert load_recipe(searched / data["recipe"]) == load_search(searched).context.base
    assert set(data["contents"]) == {"space", "recipe", "latency", "data", "warm_start"}


def test_names_of_the_package_are_copied_under_their_names(tmp_path):
    kept, files = take_inputs(Context.of(load_preset("quickstart")), "fashion_mnist")
    assert list(files) == ["inputs/space/micro.yaml", "inputs/recipe/fashion_mnist/micro.yaml"]
    assert (kept.data, kept.contents.data) == ("fashion_mnist", "fashion_mnist")
    assert recipe_name(locate_inputs(kept, tmp_path)) == "fashion_mnist/micro"
    assert recipe_name(load_preset("quickstart")) == "fashion_mnist/micro"


def test_the_fingerprint_is_of_what_the_files_hold(tmp_path):
    one, two = (load_preset(str(write_preset(tmp_path / name))) for name in ("one", "two"))
    kept = {name: take_inputs(Context.of(cfg), None)[0] for name, cfg in (("one", one), ("two", two))}
    assert kept["one"].fingerprint == kept["two"].fingerprint
    assert locate_inputs(kept["one"], tmp_path).fingerprint == kept["one"].fingerprint
    for name in ("five.yaml", "recipe.yaml", "cpu.json"):
        path = tmp_path / "two" / name
        text = path.read_text()
        # The base recipe is kept as values, so that only values count.
        path.write_text(text.replace("0.05", "0.07") if name == "recipe.yaml" else text + "\n")
        assert take_inputs(Context.of(two), None)[0].fingerprint != kept["one"].fingerprint, name
        path.write_text(text)


@pytest.mark.parametrize("name", ["space/five.yaml", "recipe/recipe.yaml", "latency/cpu.json"])
def test_a_copy_that_was_changed_is_named(copied, name):
    path = copied / "inputs" / name
    text = path.read_text()
    path.write_text(text + "\n")
    message = rf"inputs/{name} was changed after the search began; restore it"
    for call in (load_search, lambda folder: resume(folder, silent, ONE, Scripted())):
        with pytest.raises(InputError, match=message):
            call(copied)
    path.write_text(text)  # as the message says
    assert resume(copied, silent, ONE, Scripted())
    path.unlink()
    with pytest.raises(InputError, match=rf"cannot read .*{name}: No such file or directory; restore it"):
        load_search(copied)


@pytest.mark.parametrize("place", ["/etc/passwd", "inputs/../../five.yaml", "five.yaml"])
def test_a_folder_names_no_file_outside(copied, place):
    cfg = load_search(copied).config
    with pytest.raises(InputError, match=r"space is .*; a search has its files below inputs/ in its folder"):
        check_inputs(dataclasses.replace(cfg, space=place, recipe="inputs/recipe/recipe.yaml"), copied)


@pytest.mark.slow
def test_a_folder_of_the_version_before_is_read_and_continued(copied, tmp_path, monkeypatch):
    before(copied)
    monkeypatch.chdir(tmp_path)
    assert load_search("moved").config.contents is None
    ledger = (copied / "ledger.jsonl").read_bytes()
    (pair,) = (found.pair for found in resume("moved", silent, ONE, Scripted()))
    assert pair.space == "five.yaml"  # as it was written then
    assert (copied / "ledger.jsonl").read_bytes() == ledger
    assert not (copied / "inputs").exists()
    assert export_trials("moved", "csv", tmp_path / "t.csv") == 6
    assert [row.status for row in verify("moved", 0, silent)] == ["same"] * 3
    assert len(budget_pairs("moved", [300e3], silent)) == 1


def test_a_folder_without_copies_chooses_as_it_began(copied):
    (copied / "inputs" / "config.yaml").unlink()
    path = copied / "config.yaml"
    data = yaml.safe_load(path.read_text())
    earlier = {key: value for key, value in data.items() if key not in ("contents", "acquisition")}
    path.write_text(yaml.safe_dump(earlier))
    assert load_search(copied).config.acquisition == "mean"
    path.write_text(yaml.safe_dump(data))
    assert load_search(copied).config.acquisition == "expected_improvement"


def test_a_folder_of_the_version_before_says_where_it_can_be_read(copied, tmp_path, monkeypatch):
    before(copied)
    monkeypatch.chdir(copied)
    message = r"no file five.yaml: the search in .* was started by an earlier version, .* call from the working folder in which"
    with pytest.raises(InputError, match=message):
        export_trials(copied, "csv", tmp_path / "t.csv")
    monkeypatch.chdir(tmp_path)
    assert export_trials(copied, "csv", tmp_path / "t.csv") == 6


def test_a_space_that_was_changed_since_is_named(copied, tmp_path, monkeypatch):
    """Before, `export` and `budgets` answered with widths that were never trained, and `resume` blamed versions of torch."""
    before(copied)
    monkeypatch.chdir(tmp_path)
    widen(tmp_path / "five.yaml")
    message = r"trial \d of round \d has .* FLOPs and .*, but space micro now says .*: the space five.yaml was changed"
    for call in (
        lambda: export_trials(copied, "csv", tmp_path / "t.csv"),
        lambda: budget_pairs(copied, [300e3], silent),
        lambda: resume(copied, silent, ONE, Scripted()),
    ):
        with pytest.raises(InputError, match=message):
            call()
    (check,) = (row for row in verify(copied, 0, silent) if row.status == "differs")
    assert "the space five.yaml was changed after the search began; restore it" in check.note
    assert not (tmp_path / "t.csv").exists()


def test_a_ledger_that_was_changed_is_named(copied):
    search = load_search(copied)
    trials = search.trials()
    trials[1] = dataclasses.replace(trials[1], flops=1)
    with pytest.raises(InputError, match=r"has 1 FLOPs and .*moved/ledger.jsonl was changed after the search began"):
        check_costs(search.context, trials, search.ledger())


def test_candidates_that_the_space_does_not_have_have_no_costs(copied):
    search = load_search(copied)
    trial = search.trials()[0]
    check_costs(search.context, [], search.ledger())
    for row in ([99], [99, *trial.candidate[1:]], [0] * 99):
        check_costs(search.context, [dataclasses.replace(trial, candidate=row)], search.ledger())


def test_a_space_that_lost_values_since_is_named(copied, tmp_path, monkeypatch):
    before(copied)
    monkeypatch.chdir(tmp_path)
    data = yaml.safe_load((tmp_path / "five.yaml").read_text())
    data["rows"] = [row | {"c": row["c"] if isinstance(row["c"], int) else 64} for row in data["rows"]]
    (tmp_path / "five.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(
        InputError, match=r"which is no index row of the space micro, unless five.yaml was changed: restore"
    ):
        export_trials(copied, "csv", tmp_path / "t.csv")


def test_base_recipes_are_copied_with_all_their_values(searched):
    data = yaml.safe_load((searched / "inputs" / "recipe" / "recipe.yaml").read_text())
    assert set(BASE_RECIPE) < set(data)


def test_a_configuration_that_was_changed_is_refused_by_everything_that_uses_its_trials(copied, tmp_path):
    """`budgets` answered with the changed settings, as if the search had been made with them."""
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("early_stopping: 0.98", "early_stopping: 0.5"))
    for call in (
        lambda: export_trials(copied, "csv", tmp_path / "t.csv"),
        lambda: budget_pairs(copied, [300e3], silent),
        lambda: resume(copied, silent, ONE, Scripted()),
        lambda: verify(copied, 0, silent),
    ):
        with pytest.raises(InputError, match=r"early_stopping is 0\.5 and was 0\.98\. Set it back"):
            call()
    (copied / "inputs" / "config.yaml").unlink()  # of an earlier version, which did not keep it
    with pytest.raises(InputError, match=r"ledger\.jsonl belongs to another configuration"):
        resume(copied, silent, ONE, Scripted())


@pytest.mark.parametrize("content", ["", "rounds: 3", "schema: 1"])
def test_a_copy_of_the_configuration_that_is_not_that_of_the_ledger_names_nothing(copied, content):
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("rounds: 2", "rounds: 3"))
    (copied / "inputs" / "config.yaml").write_text(content or text.replace("rounds: 2", "rounds: 4"))
    with pytest.raises(InputError, match=r"ledger\.jsonl belongs to another configuration"):
        resume(copied, silent, ONE, Scripted())


def test_every_changed_setting_is_named_and_those_without_effect_are_not():
    before = load_preset("quickstart")
    evolution = dataclasses.replace(before.evolution, caution=0.25)
    now = dataclasses.replace(before, rounds=7, evolution=evolution, about="mine", confirm=3, data="elsewhere")
    assert changes(before, now) == [
        f"rounds is 7 and was {before.rounds}",
        f"evolution.caution is 0.25 and was {before.evolution.caution}",
    ]
    assert changes(before, before) == []


def test_settings_without_effect_may_be_changed(copied):
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("baseline: false", "baseline: true"))
    assert load_search(copied).config.baseline


def test_a_folder_in_use_is_left_alone(copied):
    def files():
        return {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.is_file()}

    with lock_folder(copied, "search"), lock_folder(copied / "budgets", "search"):
        before = files()
        for call in (
            lambda: start(load_preset("quickstart"), copied, silent, ONE, Scripted()),
            lambda: resume(copied, silent, ONE, Scripted()),
            lambda: budget_pairs(copied, [300e3], silent),
        ):
            with pytest.raises(InputError, match="is in use by another search"):
                call()
        assert files() == before


def test_a_source_that_was_changed_or_lost_is_named(searched, tmp_path):
    cfg = config(tmp_path, final_training=False, warm_start=[str(searched)])
    start(cfg, tmp_path / "run", silent, ONE, Scripted())
    data = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert data["warm_start"] == ["inputs/source/1.json"]
    path = tmp_path / "run" / "inputs" / "source" / "1.json"
    source = path.read_text()
    path.write_text(source + "\n")
    with pytest.raises(InputError, match=r"inputs/source/1.json was changed after the search began"):
        load_search(tmp_path / "run")
    path.unlink()
    with pytest.raises(InputError, match=r"cannot read .*inputs/source/1.json: No such file"):
        load_search(tmp_path / "run")
    path.write_text(source)
    # The copy starts another search like the folder that it was made from.
    again = config(tmp_path, final_training=False, warm_start=[str(path)])
    assert take_inputs(Context.of(again), None)[1]["inputs/source/1.json"] == source.encode()
