"""Configs: the added keys, the packaged files and the paper's protocol in them, and mistakes."""

import pytest

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from detectron2.config import get_cfg

from fbnetv3 import InputError
from fbnetv3.detection.config import CONFIGS, add_fbnetv3_config, load_config


def test_the_added_keys_and_the_normalisation_of_images():
    cfg = get_cfg()
    add_fbnetv3_config(cfg)
    assert dict(cfg.MODEL.FBNETV3) == {"ARCH": "fbnetv3_a", "NORM": "BN", "OUT_FEATURES": ["c4"]}
    assert dict(cfg.MODEL_EMA) == {"ENABLED": False, "DECAY": 0.9998}
    assert cfg.INPUT.FORMAT == "RGB"
    # ImageNet's mean and std of the red channel, 0.485 and 0.229, for pixels in 0..255.
    assert cfg.MODEL.PIXEL_MEAN[0] == pytest.approx(123.675)
    assert cfg.MODEL.PIXEL_STD[0] == pytest.approx(58.395)


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_packaged_config_has_the_papers_protocol(name):
    cfg = load_config(name)
    assert (cfg.SOLVER.LR_SCHEDULER_NAME, cfg.MODEL.RPN.POST_NMS_TOPK_TEST) == ("WarmupCosineLR", 75)
    assert cfg.MODEL_EMA.ENABLED
    if name.endswith(("_3x", "base_c4")):
        assert (cfg.SOLVER.BASE_LR, cfg.MODEL.FBNETV3.NORM) == (0.16, "SyncBN")
        assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH == 270_000 * 16  # detectron2's 3x schedule


def test_a_file_by_its_path_with_changes_over_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"_BASE_: {CONFIGS}/base_c4.yaml\nSEED: 3\nSOLVER:\n  MAX_ITER: 7\n")
    cfg = load_config(str(path), ["SOLVER.MAX_ITER", "9", "MODEL.FBNETV3.ARCH", "fbnetv3_c"])
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.MODEL.FBNETV3.ARCH) == (3, 9, "fbnetv3_c")
    assert cfg.MODEL.RPN.HEAD_NAME == "FBNetV3RPNHead"  # from the base


def test_a_config_cannot_run_code(tmp_path):
    path = tmp_path / "code.yaml"
    path.write_text(f"OUTPUT_DIR: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    with pytest.raises(InputError, match=r"code\.yaml is no config"):
        load_config(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("nothing", [], "unknown config 'nothing'; available: base_c4"),
        ("base_c4", ["SOLVER.MAX_ITER"], "the config changes are 'SOLVER.MAX_ITER'; give KEY VALUE pairs"),
        ("base_c4", ["SOLVER.NO_SUCH", "3"], "Non-existent key: SOLVER.NO_SUCH; give a config of detectron2"),
        ("base_c4", ["SOLVER.MAX_ITER", "many"], "Type mismatch"),
        ("base_c4", ["SOLVER.IMS_PER_BATCH", "0"], "SOLVER.IMS_PER_BATCH is 0; allowed: whole numbers from 1"),
        ("base_c4", ["SOLVER.MAX_ITER", "-1"], "SOLVER.MAX_ITER is -1; allowed: whole numbers from 0"),
        ("base_c4", ["SOLVER.BASE_LR", "-0.1"], "SOLVER.BASE_LR is -0.1; allowed: finite numbers from 0"),
        ("base_c4", ["SOLVER.BASE_LR", "1e999"], "SOLVER.BASE_LR is inf; allowed: finite numbers from 0"),
        ("base_c4", ["MODEL_EMA.DECAY", "1.5"], "MODEL_EMA.DECAY is 1.5; allowed: numbers from 0 to 1"),
        ("base_c4", ["INPUT.FORMAT", "RBG"], "INPUT.FORMAT is 'RBG'; allowed: RGB, BGR, L, YUV-BT.601"),
    ],
)
def test_mistakes_are_one_line(name, changes, words):
    with pytest.raises(InputError) as error:
        load_config(name, changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_key_of_a_file_names_the_file(tmp_path):
    (tmp_path / "odd.yaml").write_text("NO_SUCH: 1\n")
    with pytest.raises(InputError, match=r"odd\.yaml: Non-existent config key: NO_SUCH"):
        load_config(str(tmp_path / "odd.yaml"))


def test_a_file_without_end_is_refused(tmp_path):
    """An alias bomb, a chain of bases to itself, and a bomb behind a base."""
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]\n" for i in range(10))
    for name, text, words in (
        ("bomb", bomb, "its aliases stand for more than"),
        ("circle", "_BASE_: circle.yaml\n", "configs are based on one another"),
        ("behind", "_BASE_: bomb.yaml\n", "bomb.yaml is no config, or is damaged: its aliases"),
        ("gone", "_BASE_: none.yaml\n", "cannot read the config .*none.yaml"),
        ("date", "SEED: 2020-13-45\n", "date.yaml is no config, or is damaged"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
        with pytest.raises(InputError, match=words) as error:
            load_config(str(tmp_path / f"{name}.yaml"))
        assert "\n" not in str(error.value)
