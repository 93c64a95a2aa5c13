"""Whatever is in a file that a user gives, reading it gives what it should hold, or one short line that says what is wrong."""

import copy
import dataclasses
import json
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fbnetv3 import InputError, build_model
from fbnetv3.benchmarks.experiments.config import load_experiment
from fbnetv3.benchmarks.result import load_result
from fbnetv3.detection.annotations import read_annotations
from fbnetv3.files import load_torch, save_torch
from fbnetv3.hub import load_weights, registry
from fbnetv3.hub.registry import read_registry
from fbnetv3.networks.weight_file import WeightFile, read_weight_file, write_weight_file
from fbnetv3.pair_file import load_pair, pair_shape
from fbnetv3.recipes import load_recipe, read_recipe_file
from fbnetv3.schema import parse_scalar
from fbnetv3.search.latency_kit.kit import Kit, load_kit
from fbnetv3.search.latency_kit.times import read_times
from fbnetv3.search.nars import config
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.predictor.model import KIND, SCHEMA, AccuracyPredictor
from fbnetv3.search.predictor.settings import PredictorSettings
from fbnetv3.search.runs import zoo
from fbnetv3.search.runs.zoo import load_zoo
from fbnetv3.search.space import reader
from fbnetv3.search.space.latency import Part, load_table
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.trial import Ledger, read_ledger
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.shards import open_shards
from fbnetv3.transforms import Transforms
from tests.places import ROOT
from tests.search.tables import HEADER, LINES
from tests.test_arch import TINY
from tests.test_pair_file import PAIR

LATENCY_KIT = Kit("micro", 1, {"a": Part(1, 8, 16, 3, 2, 1, 0, 14)}, {"b": {"a": 2}, "c": {"a": 3}})
LONGEST = 1_000  # characters of a message, without the path
SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,  # the same files in every run
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def safe(read: Callable[[], Any]) -> bool:
    """Return whether `read` reads, after a check that it otherwise gives one short line."""
    message = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < LONGEST
    return not message


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: of the file.
        data: what a good file holds.
        write: makes the bytes of a file.
        readers: functions of the path that read it.
    """

    name: str
    data: Any
    write: Callable[[Any], bytes]
    readers: tuple[Callable[[Path], Any], ...]


def as_json(data: Any) -> bytes:
    return json.dumps(data, default=str).encode()  # JSON is YAML


def as_lines(data: Any) -> bytes:
    lines = data if isinstance(data, list) else [data]
    return b"".join(as_json(line) + b"\n" for line in lines)


def as_csv(data: Any) -> bytes:
    rows = data if isinstance(data, list) else [data]
    return "\n".join(",".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows).encode()


def as_safetensors(data: Any) -> bytes:
    """Return a file without tensors whose description is `data`."""
    header = json.dumps({"__metadata__": {"fbnetv3": json.dumps(data, default=str)}}).encode()
    return len(header).to_bytes(8, "little") + header


def yaml_of(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def weights_header() -> dict[str, Any]:
    return {
        "schema": 2,
        "arch": TINY.to_dict(),
        "classes": ["a", "b", "c"],
        "transforms": Transforms(20, 16, (0.5,), (0.25,)).to_dict(),
        "derived_from": [],
    }


def trial(index: int) -> dict[str, Any]:
    return {
        "round": 1,
        "index": index,
        "candidate": [1, 0, 2],
        "seed": 3,
        "epochs": 2,
        "flops": 100,
        "params": 10,
        "predicted": None,
        "acc1": [40.0, 50.0],
        "status": "ok",
        "seconds": 1.5,
        "error": "",
    }


def annotations() -> dict[str, Any]:
    image = {"id": 1, "file_name": "a.png", "width": 8, "height": 8}
    box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    return {"images": [image], "annotations": [box], "categories": [{"id": 7, "name": "red"}]}


def with_images(path: Path) -> None:
    (path.parent / "a.png").write_bytes(b"")
    read_annotations(path, path.parent)


def open_ledger(path: Path) -> None:
    with Ledger.open(path, "x"):
        pass


def open_table(path: Path) -> None:
    load_table(path)


MICRO = Path(reader.__file__).parent / "spaces" / "micro.yaml"
KINDS = {
    "pair file": Kind(
        "pair.yaml",
        {
            "schema": 1,
            "arch": TINY.to_dict(),
            "recipe": PAIR.recipe.to_dict(),
            "space": "micro",
            "seed": 3,
            "constraint": PAIR.constraint,
            "predicted": PAIR.predicted,
            "measured": PAIR.measured,
            "provenance": {"data": "fashion_mnist", "num_classes": 10, "in_chans": 1},
        },
        as_json,
        (lambda path: pair_shape(load_pair(path)),),
    ),
    "recipe": Kind(
        "recipe.yaml", yaml_of(ROOT / "recipes" / "cifar10" / "small.yaml"), as_json, (load_recipe, read_recipe_file)
    ),
    "recipe on a base": Kind(
        "recipe.yaml",
        yaml_of(ROOT / "recipes" / "fashion_mnist" / "searched.yaml"),
        as_json,
        (load_recipe, read_recipe_file),
    ),
    "space": Kind("space.yaml", yaml_of(MICRO), as_json, (lambda path: load_space(str(path)),)),
    "preset": Kind(
        "preset.yaml",
        yaml_of(Path(config.__file__).parent / "presets" / "quickstart.yaml"),
        as_json,
        (lambda path: load_preset(str(path)),),
    ),
    "zoo": Kind(
        "zoo.yaml",
        yaml_of(Path(zoo.__file__).parent / "zoos" / "micro.yaml"),
        as_json,
        (lambda path: load_zoo(str(path)),),
    ),
    "experiment": Kind(
        "experiment.yaml",
        yaml_of(ROOT / "benchmarks" / "experiments" / "table8.yaml"),
        as_json,
        (lambda path: load_experiment(str(path)),),
    ),
    "latency table": Kind(
        "latency.json",
        {"schema": 1, "space": "micro", "machine": {"cpu": "x"}, "pieces": [["ir", 8, 16, 3, 2, 1, 0, 14, 0.5]]},
        as_json,
        (open_table,),
    ),
    "latency kit": Kind("kit.json", LATENCY_KIT.to_dict(), as_json, (lambda path: load_kit(path.parent),)),
    "times of a latency kit": Kind(
        "times.csv",
        [["# kit: " + LATENCY_KIT.id], ["file", "ms"], ["a", 0.5], ["b", 1.0], ["c", 2.0]],
        as_csv,
        (lambda path: read_times(path, LATENCY_KIT),),
    ),
    "table of trainings": Kind(
        "table.csv",
        [HEADER.split(","), *(line.split(",") for line in LINES)],
        as_csv,
        (lambda path: load_space(str(path)),),
    ),
    "table of NAS-Bench-Macro": Kind(
        "macro.json",
        {"00000000": {"test_acc": [1, 2, 3], "flops": 1, "params": 1}},
        as_json,
        (lambda path: load_space(str(path)),),
    ),
    "registry": Kind(
        "registry.json",
        json.loads((Path(registry.__file__).parent / "registry.json").read_text()),
        as_json,
        (lambda path: [row.path for row in read_registry(path.parent).rows],),
    ),
    "ledger": Kind(
        "ledger.jsonl",
        [{"ledger": 2, "config": "x"}, trial(0), trial(1)],
        as_lines,
        (read_ledger, open_ledger),
    ),
    "annotations": Kind("coco.json", annotations(), as_json, (with_images,)),
    "shards": Kind(
        "_info.json", {"splits": {"train": {"filenames": ["a.tar"]}}}, as_json, (lambda path: open_shards(path.parent),)
    ),
    "result file": Kind(
        "result.json",
        {"date": "2026-01-02", "command": "c", "method": "m", "versions": {"a": "1"}, "values": {"a": 1}, "schema": 1},
        as_json,
        (lambda path: load_result(path.stem, path.parent),),
    ),
    "description of weights": Kind(
        "weights.safetensors",
        weights_header(),
        as_safetensors,
        (lambda path: load_weights(None, path), lambda path: load_weights(TINY, path)),
    ),
    "predictor": Kind(
        "predictor.safetensors",
        {
            "kind": KIND,
            "schema": SCHEMA,
            "arch_columns": [True, False],
            "seed": 0,
            "settings": dataclasses.asdict(PredictorSettings()),
            "pretrained": False,
            "fitted": False,
            "sources": 0,
        },
        as_safetensors,
        (AccuracyPredictor.load,),
    ),
}

NASTY = st.sampled_from(
    [
        *(None, True, False, 0, -1, 5, 10**9, 10**30, 10**400, 1.5, -0.5, 1e300, float("nan"), float("inf")),
        *(
            "",
            "x",
            "1e-5",
            "x" * 5000,
            "2020-13-45",
            "../../etc/passwd",
            "file:///etc/passwd",
            "a\0b",
            "ü\u2028\U0001f600",
        ),
        *("\n", "(1, 99999999999999999999, 1)", "(1, 2, 0)", "[1, 2]", "1_000", "!!int x", "/", ".", "nan"),
        *([], {}, [[]], [1], ["a", 5], {"a": 1}, {"": None}, [[[[[]]]]], [{}], {"schema": 1}, [None]),
    ]
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Return all places in nested data: pairs of a container and a key."""
    found = []
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inside:
        found += [(data, key), *places(value)]
    return found


@st.composite
def spoiled(draw: Any, data: Any) -> Any:
    """Draw a copy of nested data in which one or two values are replaced, removed or added."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 2))):
        if not (found := places(data)) or draw(st.integers(0, 30)) == 0:
            return draw(NASTY)
        container, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace"] * 6 + ["remove", "add"]))
        if change == "remove":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[draw(st.sampled_from(["new", "", "x" * 5000, "schema"]))] = draw(NASTY)
        else:
            container[key] = draw(NASTY)
    return data


def read_all(kind: Kind, folder: Path, content: bytes) -> list[bool]:
    path = folder / kind.name
    path.write_bytes(content)
    return [safe(lambda read=read: read(path)) for read in kind.readers]


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"table of NAS-Bench-Macro", "shards", "description of weights"}))
def test_a_good_file_is_read(name, tmp_path):
    kind = KINDS[name]
    assert all(read_all(kind, tmp_path, kind.write(kind.data)))


@pytest.mark.parametrize("name", KINDS)
@SETTINGS
@given(data=st.data())
def test_a_spoiled_file_is_one_short_line(name, tmp_path, data):
    kind = KINDS[name]
    read_all(kind, tmp_path, kind.write(data.draw(spoiled(kind.data))))


BOMB = "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11))
TEXTS = {
    "nothing": "",
    "a list": "[1, 2]",
    "a text": "word",
    "a number": "5",
    "nothing at all": "null",
    "bytes": b"\xff\xfe\x00\x80",
    "zeros": b"\0" * 100,
    "an alias bomb": BOMB,
    "5,000 digits": '{"schema": ' + "9" * 5000 + "}",
    "3,000 brackets": "[" * 3000,
    "200,000 mappings": '{"a": ' * 200_000,
    "no date": "schema: 2020-13-45",
    "no truth": "schema: !!bool maybe",
    "an object": "!!python/object/apply:os.system [exit]",
    "no number": '{"schema": NaN, "weights": Infinity}',
    "a pickle": b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00exitq\x01\x85q\x02Rq\x03.",
    "lines": '{"ledger": 2, "config": "x"}\n[1]\n5\n',
    "a line of brackets": '{"ledger": 2, "config": "x"}\n' + "[" * 200_000 + "\n",
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", KINDS)
def test_another_file_is_one_short_line(name, text, tmp_path):
    content = TEXTS[text]
    read_all(KINDS[name], tmp_path, content if isinstance(content, bytes) else content.encode())


class Evil:
    """An object whose pickle writes a file when it is read."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return Path.write_text, (self.sign, "was here")


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.parametrize("name", [*KINDS, "w.pt", "w.pth.tar", "w.ckpt", "w.npy", "w.npz", "w"])
def test_a_pickle_runs_in_no_file(name, form, tmp_path):
    sign, path = tmp_path / "sign", tmp_path / (KINDS[name].name if name in KINDS else name)
    content = {"schema": 2, "arch": Evil(sign), "state_dict": Evil(sign)}
    if form == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    others = (
        read_weight_file,
        lambda path: load_weights("fbnetv3_a", path),
        lambda path: load_torch(path, "checkpoint", ("model",)),
        lambda path: load_data(f"folder:{path}"),
        AccuracyPredictor.load,
    )
    for read in (*(KINDS[name].readers if name in KINDS else ()), *others):
        assert not safe(lambda read=read: read(path))
    assert not sign.exists()
    pickle.loads(pickle.dumps(content))
    assert sign.exists()  # the pickle was really dangerous


@pytest.mark.parametrize("name", KINDS)
@SETTINGS
@given(data=st.data())
def test_a_damaged_file_is_one_short_line(name, tmp_path, data):
    """Bytes in the middle of a good file are other ones, or the file ends there."""
    kind = KINDS[name]
    content = kind.write(kind.data)
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 20)) | st.just(len(content)))
    read_all(kind, tmp_path, content[:start] + data.draw(st.binary(max_size=20)) + content[end:])


@SETTINGS
@given(text=st.text(max_size=40) | st.text("[]{}:,&*!?|>-'\"%@ \n.0e", max_size=40))
def test_any_text_may_be_a_value(text):
    safe(lambda: parse_scalar(text))


WEIGHTS = {"arch": TINY, "classes": ("a", "b", "c"), "transforms": Transforms(20, 16, (0.5,), (0.25,))}


@SETTINGS
@given(data=st.data())
def test_weights_in_torchs_format(tmp_path, data):
    """The description and the tensors of a .pt file, which holds any plain data."""
    state = build_model(TINY, 3, 1).state_dict()
    tensors = st.sampled_from(
        [torch.zeros(()), torch.zeros(2, 3), torch.zeros(1, dtype=torch.complex64), torch.zeros(0)]
    )
    content = data.draw(spoiled({**weights_header(), "state_dict": state, "in_chans": 1, "mean": 0.5, "std": 0.5}))
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict) and data.draw(st.booleans()):
        key = data.draw(st.sampled_from([*list(state)[:6], "classifier.weight", "classifier.bias"]))
        content["state_dict"][key] = data.draw(tensors)
    if isinstance(content, dict) and data.draw(st.booleans()):
        content[data.draw(st.sampled_from([*weights_header(), "state_dict", "model"]))] = data.draw(tensors | NASTY)
    save_torch(tmp_path / "w.pt", content)
    for model in (None, TINY, "fbnetv3_a"):
        safe(lambda model=model: load_weights(model, tmp_path / "w.pt"))


@SETTINGS
@given(data=st.data())
def test_damaged_weights(tmp_path, data):
    suffix = data.draw(st.sampled_from([".pt", ".safetensors"]))
    path = tmp_path / f"good{suffix}"
    if not path.exists():
        write_weight_file(path, WeightFile(**WEIGHTS, state=build_model(TINY, 3, 1).state_dict()))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)) | st.integers(0, 200))
    end = data.draw(st.integers(start, min(len(content), start + 20)) | st.just(len(content)))
    (tmp_path / "bad").write_bytes(content[:start] + data.draw(st.binary(max_size=20)) + content[end:])
    safe(lambda: load_weights(None, tmp_path / "bad"))


@SETTINGS
@given(content=st.binary(max_size=2000), inside=st.booleans())
def test_damaged_shards(tmp_path, content, inside):
    path = tmp_path / "train-0000.tar"
    if inside:
        (tmp_path / "a.cls").write_bytes(content)
        (tmp_path / "a.jpg").write_bytes(content)
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "a.cls", "a.cls")
            tar.add(tmp_path / "a.jpg", "a.jpg")
    else:
        path.write_bytes(content)
    safe(lambda: open_shards(tmp_path))
