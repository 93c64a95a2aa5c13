"""Whatever the files of an image set hold, reading them ends with images or with one line, and never in a traceback."""

import io
import json
import tarfile

import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fbnetv3 import InputError
from fbnetv3.files import load_torch
from fbnetv3.training.checkpoint import save
from fbnetv3.training.data.load import load_data
from fbnetv3.training.resume import resume_from
from tests.training.data.examples import make_folder, png
from tests.training.test_checkpoint import IDENTITY, METRICS, state

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["1.png", "1.cls", "../1.png", "/etc/1.cls", "._1.png", "a/1.PNG"]
)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
CONTENTS = st.binary(max_size=20) | st.sampled_from([b"0", b"9" * 30, png(0, 0)])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
# What may stand in a checkpoint: plain data and tensors.
VALUES = JSON | st.sampled_from(
    [torch.zeros(3), torch.full((3, 2), torch.nan), torch.zeros(3, 2).long(), torch.zeros(())]
)


def check_message(call):
    """Make a call, which may end with one line."""
    message = ""
    try:
        call()
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1500


def read(spec):
    check_message(lambda: load_data(spec, resolution=8, on_bad_image="skip"))


@QUICK
@given(st.lists(st.tuples(NAMES, KINDS, CONTENTS), max_size=5))
@example([("1.png", tarfile.REGTYPE, png(0, 0)), ("1.cls", tarfile.REGTYPE, b"1000000000")])
def test_shards(tmp_path, members):
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, name
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(content) if entry.size else None)
    read(f"wds/{tmp_path}")


@QUICK
@given(st.binary(max_size=1200))
def test_files_that_are_no_tar(tmp_path, content):
    (tmp_path / "train-0.tar").write_bytes(content)
    read(f"wds/{tmp_path}")


@QUICK
@given(JSON | st.builds(lambda names: {"splits": {"train": {"filenames": names}}}, JSON))
@example({"splits": {"train": {"filenames": ["a\nb"]}}})
def test_descriptions_of_shards(tmp_path, content):
    (tmp_path / "_info.json").write_text(json.dumps(content))
    read(f"wds/{tmp_path}")


@QUICK
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")))
@example(b"train/ant/0000.png\n\n \xff/\n")
@example(b"train/ant/0000.png\ntrain/ant/\0.png\n")
def test_lists(tmp_path, content):
    root = tmp_path / "set"
    if not root.exists():
        make_folder(root, (("train", 1),))
    (tmp_path / "train.txt").write_bytes(content)
    read(f"list:{tmp_path}:{root}")


@QUICK
@given(st.sampled_from(["metrics", "model", "ema", "optimizer", "position"]), VALUES, st.text(max_size=8))
def test_checkpoints(tmp_path, key, value, name):
    save(state(steps=1), tmp_path, IDENTITY, METRICS)
    content = load_torch(tmp_path / "checkpoint.pt", "checkpoint")
    inner = content[key]
    for changed in (value, inner | {next(iter(inner)): value, name: value} if isinstance(inner, dict) else [value]):
        torch.save(content | {key: changed}, tmp_path / "checkpoint.pt")
        check_message(lambda: resume_from(state(), tmp_path, IDENTITY, True, 1))
