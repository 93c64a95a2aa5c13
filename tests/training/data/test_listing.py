"""The order and the classes are torchvision's; what other programs leave among images is no image."""

import os

import pytest
from torchvision.datasets import ImageFolder

from fbnetv3 import InputError
from fbnetv3.training.data.listing import class_folders, image_paths, is_hidden, list_classes
from tests.training.data.examples import image, make_folder


def listed(folder, **options):
    paths, labels, classes = list_classes(folder, **options)
    return [os.fsdecode(path) for path in paths.tolist()], labels.tolist(), classes


def test_images_and_classes_are_those_of_torchvision(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 3),)) / "train"
    for place in (
        "ant/deep/er/1.JPEG",
        "ant/dee.p/1.tiff",
        "bee/a b.webp",
        "bee/h\u00fc \U0001f600.png",
        "bee/x.jpg/2.png",
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"")
    (root / "bee" / "notes.txt").write_text("no image")
    (root / "link").symlink_to(root / "bee")
    theirs = ImageFolder(str(root))
    assert listed(root) == (
        [os.path.relpath(path, root) for path, _ in theirs.samples],
        theirs.targets,
        tuple(theirs.classes),
    )


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("ant/0.png", False),
        ("ant/._0.png", True),
        (".ipynb_checkpoints/0.png", True),
        ("ant/@eaDir/0.png", True),
        ("__MACOSX/0.png", True),
        ("../ant/./0.png", False),
        ("a.b/c.d.png", False),
    ],
)
def test_what_is_hidden(path, hidden):
    assert is_hidden(path) == hidden


def test_a_class_without_images(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 1),)) / "train"
    (root / "eel").mkdir()
    with pytest.raises(
        InputError, match=r"train has no image of eel; .* every class with at least one image \(\.jpg, "
    ):
        list_classes(root)
    assert listed(root, allow_empty=True)[1:] == ([0, 1, 2], ("ant", "bee", "cow", "eel"))
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match="has no image of ant, bee, cow and 1 more"):
        list_classes(root, allow_empty=True)


def test_a_class_that_is_a_link_to_nothing_is_told(tmp_path, caplog):
    root = make_folder(tmp_path / "set", (("train", 1),)) / "train"
    (root / "eel").symlink_to(root / "gone")
    assert class_folders(root) == ["ant", "bee", "cow"]
    assert "eel is a link to nothing; if it is a class, it is missing" in caplog.text


def test_no_class(tmp_path):
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(InputError, match="has no folders of classes; a split is laid out as CLASS/IMAGE"):
        class_folders(tmp_path)
    with pytest.raises(InputError, match=r"cannot read the folder .*nowhere: No such file"):
        class_folders(tmp_path / "nowhere")


def test_a_link_to_a_folder_around_it_is_refused(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 1),)) / "train"
    (root / "bee" / "again").symlink_to(root)
    with pytest.raises(InputError, match=r"again is a link to .*train, which contains it; remove the link"):
        list_classes(root)
    (root / "bee" / "again").unlink()
    (root / "bee" / "more").symlink_to(root / "ant")  # a link to somewhere else is followed
    assert listed(root)[1] == [0, 1, 1, 2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    root = make_folder(tmp_path / "set", (("train", 1),)) / "train"
    (root / "bee" / "closed").mkdir(mode=0)
    with pytest.raises(InputError, match=r"cannot read the folder .*closed: Permission denied"):
        list_classes(root)


def test_paths_are_relative_and_sorted(tmp_path):
    for name in ("b.png", "a.png", "c/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image(0, 0).save(tmp_path / name)
    assert list(image_paths(tmp_path)) == ["a.png", "b.png", f"c{os.sep}d.png"]
    assert list(image_paths(tmp_path / "c")) == ["d.png"]
