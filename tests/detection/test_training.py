"""Training of a detector: stopped and resumed to the last bit, its average, its schedule, its evaluations, mistakes."""

import json
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2", reason="the detectors need detectron2, which is not on PyPI")

from detectron2.solver import build_lr_scheduler, build_optimizer

from fbnetv3 import InputError
from fbnetv3.detection import training
from fbnetv3.detection.config import load_config
from fbnetv3.detection.detector_weights import load_detector
from fbnetv3.detection.evaluation import evaluate
from fbnetv3.detection.training import train
from fbnetv3.files import lock_folder
from fbnetv3.training.engine import cpu_threads
from fbnetv3.training.optim import MovingAverage
from fbnetv3.training.scaler import Scaler
from fbnetv3.training.stop_signal import StopRequest
from tests.detection import coco_data
from tests.detection.coco_data import same


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        yield


def run(cfg, resume=False, progress=None):
    """Train, and return the metrics and the model."""
    model, _ = load_detector(cfg)
    return train(cfg, model, resume=resume, progress=progress), model


def saved(folder):
    """Return the content of the last checkpoint."""
    return torch.load(folder / (folder / "last_checkpoint").read_text(), weights_only=True)


def stop_after(step, number=signal.SIGTERM):
    def progress(done, _total, _text):
        if done == step:
            os.kill(os.getpid(), number)

    return progress


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pair):
    """An uninterrupted training of six steps: its folder, data, metrics and model."""
    folder = tmp_path_factory.mktemp("finished")
    coco_data.write_data(folder / "data")
    with cpu_threads(1):
        metrics, model = run(coco_data.config(folder / "data", pair, folder / "out"))
    return folder / "out", folder / "data", metrics, model


@pytest.mark.parametrize(("number", "step", "workers"), [(signal.SIGTERM, 3, 0), (signal.SIGINT, 2, 1)])
def test_a_training_that_is_stopped_and_resumed_is_the_uninterrupted_one(
    finished, pair, tmp_path, number, step, workers
):
    out, data, metrics, model = finished
    cfg = coco_data.config(data, pair, tmp_path / "cut", DATALOADER__NUM_WORKERS=workers)
    end = SystemExit if number == signal.SIGTERM else KeyboardInterrupt
    with pytest.raises(end) as ended:
        run(cfg, progress=stop_after(step, number))
    if number == signal.SIGTERM:
        assert ended.value.code == 143
    assert saved(tmp_path / "cut")["step"] == step
    assert not (tmp_path / "cut" / "weights.pth").exists()
    torch.manual_seed(99)  # the global generator must not matter
    state = torch.get_rng_state()
    found, resumed = run(cfg, resume=True)
    assert torch.equal(state, torch.get_rng_state())
    assert same(found, metrics)
    assert same(dict(resumed.state_dict()), dict(model.state_dict()))
    first, second = saved(out), saved(tmp_path / "cut")
    for key in ("model", "ema", "optimizer", "scheduler", "step", "classes"):
        assert same(first[key], second[key]), key
    assert first["optimizer"]["state"]
    weights = [torch.load(folder / "weights.pth", weights_only=True) for folder in (out, tmp_path / "cut")]
    assert same(*weights)
    # Once it is over, resuming trains nothing and evaluates the same.
    assert same(run(cfg, resume=True)[0], metrics)
    assert same(saved(tmp_path / "cut")["model"], first["model"])


def test_what_a_training_leaves_behind(finished):
    out, _, metrics, model = finished
    names = {path.name for path in out.iterdir() if not path.name.startswith("events")}
    files = {"metrics.json", "config.yaml", "weights.pth", "last_checkpoint", "model_0000006.pth", "raw", "ema"}
    assert names == files  # earlier checkpoints are gone
    content = torch.load(out / "weights.pth", weights_only=True)
    assert content["classes"] == ["disc", "box"]
    assert same(
        dict(content["model"]),
        {k.removeprefix("module."): v for k, v in saved(out)["ema"].items() if k.startswith("module.")},
    )
    assert not same(dict(content["model"]), dict(model.state_dict()))
    assert {key.split("/")[0] for key in metrics} == {"raw", "ema"}
    last = json.loads((out / "metrics.json").read_text().splitlines()[-1])
    assert last["iteration"] == 5
    assert math.isfinite(last["total_loss"])
    assert last["raw/AP"] == pytest.approx(metrics["raw/AP"])
    assert load_config(str(out / "config.yaml")).SOLVER.MAX_ITER == 6


def test_the_average_is_torchs_recursion_over_the_raw_weights(pair, data, tmp_path):
    cfg = coco_data.config(data, pair, tmp_path / "out", SOLVER__MAX_ITER=3, MODEL_EMA__DECAY=0.75)
    model, _ = load_detector(cfg)
    raw = []

    def note(_done, _total, text):
        if text.startswith("training"):
            raw.append({k: v.clone() for k, v in model.state_dict().items()})

    train(cfg, model, progress=note)
    assert len(raw) == 3
    ema = torch.load(tmp_path / "out" / "weights.pth", weights_only=True)["model"]
    for key, value in ema.items():
        # torch's AveragedModel takes the first weights as they are.
        expected = 0.75 * (0.75 * raw[0][key] + 0.25 * raw[1][key]) + 0.25 * raw[2][key]
        if value.is_floating_point():
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    assert not same(raw[0], raw[2])


def test_without_an_average_the_raw_weights_are_reported(pair, data, tmp_path):
    cfg = coco_data.config(data, pair, tmp_path / "out", SOLVER__MAX_ITER=2, MODEL_EMA__ENABLED=False)
    metrics, model = run(cfg)
    assert {key.split("/")[0] for key in metrics} == {"raw"}
    content = torch.load(tmp_path / "out" / "weights.pth", weights_only=True)
    assert same(dict(content["model"]), dict(model.state_dict()))


def test_frozen_stages_do_not_move_and_the_others_do(pair, data, tmp_path):
    weights = coco_data.classifier_file(tmp_path / "classifier.pt")
    more = {"MODEL__WEIGHTS": weights, "MODEL__BACKBONE__FREEZE_AT": 2, "SOLVER__MAX_ITER": 4}
    cfg = coco_data.config(data, pair, tmp_path / "out", **more)
    before = {key: value.clone() for key, value in load_detector(cfg)[0].state_dict().items()}
    after = run(cfg)[1].state_dict()
    for key, value in after.items():
        frozen = key.startswith(("backbone.stem", "backbone.stages.0"))
        if frozen or ("running" in key or key.endswith("conv.weight")):
            assert torch.equal(value, before[key]) == frozen, key


def test_the_schedule_warms_up_and_falls_as_a_cosine(pair):
    cfg = load_config("base_c4", ["MODEL.DEVICE", "cpu", "MODEL.FBNETV3.ARCH", str(pair)])
    optimizer = build_optimizer(cfg, load_detector(cfg)[0])
    scheduler = build_lr_scheduler(cfg, optimizer)
    rate = {
        step: 0.16 * scheduler.lr_lambdas[0](step)
        if hasattr(scheduler, "lr_lambdas")
        else 0.16 * scheduler._multiplier(step / 33750)
        for step in (0, 500, 1000, 16875, 33749)
    }
    assert rate[0] == pytest.approx(0.16 / 1000)
    assert rate[500] == pytest.approx(0.08, rel=0.01)
    for step in (1000, 16875, 33749):
        assert rate[step] == pytest.approx(0.16 * (1 + math.cos(math.pi * step / 33750)) / 2, rel=1e-3, abs=1e-6)


def test_truncated_images_stop_neither_training_nor_evaluation(pair, data, tmp_path, caplog):
    coco_data.truncate(data, 1)
    metrics, _ = run(coco_data.config(data, pair, tmp_path / "out"))
    assert "p1.png is left out" in caplog.text
    assert metrics["raw/AP"] >= 0
    coco_data.truncate(data, *range(6))
    with pytest.raises(InputError, match="the images to train on cannot be read"):
        run(coco_data.config(data, pair, tmp_path / "other"))


def test_an_evaluation_that_fails_loses_no_step(pair, data, tmp_path, monkeypatch):
    def fail(*_arguments, **_more):
        raise InputError("no evaluation")

    cfg = coco_data.config(data, pair, tmp_path / "out", SOLVER__CHECKPOINT_PERIOD=0)
    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", fail)
        with pytest.raises(InputError, match="no evaluation"):
            run(cfg)
    assert saved(tmp_path / "out")["step"] == 6
    assert run(cfg, resume=True)[0]["raw/AP"] >= 0


def test_mistakes_are_one_line(finished, pair, data, tmp_path):
    out = finished[0]
    before = saved(out)
    for more, resume, words in (
        ({}, False, "already holds a training; resume it"),
        ({"SOLVER__BASE_LR": 0.02}, True, r"is of another training: SOLVER.BASE_LR was 0.01 and is 0.02 now"),
    ):
        cfg = coco_data.config(finished[1], pair, out, **more)
        with pytest.raises(InputError, match=words):
            run(cfg, resume=resume)
    assert same(saved(out), before)
    (tmp_path / "file").write_text("")
    for more, words in (
        ({"OUTPUT_DIR": ""}, "there is no folder to write to"),
        ({"OUTPUT_DIR": tmp_path / "file" / "x"}, "cannot write into"),
        ({"SOLVER__BASE_LR": 1e9}, "lower SOLVER.BASE_LR"),
        ({"SOLVER__AMP__ENABLED": True}, "SOLVER.AMP.ENABLED is on, but the device is cpu"),
        ({"SOLVER__IMS_PER_BATCH": 7}, "6 images are fewer than a batch of 7"),
        ({"MODEL__ROI_HEADS__NUM_CLASSES": 3}, "has 2 classes, but the model has 3"),
        ({"DATASETS__TEST": "()"}, "DATASETS.TEST is .*give exactly one data set"),
    ):
        cfg = coco_data.config(data, pair, tmp_path / "o", **more)
        with pytest.raises(InputError, match=words) as error:
            run(cfg)
        assert "\n" not in str(error.value)


def test_the_metrics_of_an_evaluation_are_those_of_the_saved_weights(finished, pair):
    out, data, metrics, model = finished
    cfg = coco_data.config(data, pair, MODEL__WEIGHTS=out / "weights.pth")
    loaded, _ = load_detector(cfg, strict=True)
    again = evaluate(cfg, loaded)
    assert same({f"ema/{key}": value for key, value in again.items()}, {k: v for k, v in metrics.items() if "ema" in k})
    assert again["AP50"] > 0  # something is compared
    assert same(evaluate(cfg, model), {k[4:]: v for k, v in metrics.items() if "raw" in k})
    assert model.training


class Unwritable:
    """A checkpointer on a full disk."""

    device = torch.device("cpu")

    def write(self, step):
        raise InputError(f"no space for step {step}")


def test_a_checkpoint_that_cannot_be_written_stops_only_the_last_step(caplog):
    save_step = training._save_step(Unwritable(), 2, StopRequest())
    for i in range(3):  # steps 1 to 3 of 4; only step 2 is to be saved
        save_step(SimpleNamespace(iter=i, max_iter=4))
    assert caplog.messages == ["step 2 is not saved, the training continues: no space for step 2"]
    with pytest.raises(InputError, match="no space for step 4"):
        save_step(SimpleNamespace(iter=3, max_iter=4))


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    model = torch.nn.Linear(1, 1)
    training._write_weights(tmp_path / "good.pth", model, ["a"], ["b:fb"])
    content = torch.load(tmp_path / "good.pth", weights_only=True)
    assert (content["classes"], content["derived_from"]) == (["a"], ["b:fb"])
    torch.nn.init.constant_(model.bias, math.nan)
    with pytest.raises(InputError, match=r"not finite after the last step: lower SOLVER\.BASE_LR"):
        training._write_weights(tmp_path / "bad.pth", model, ["a"], [])
    assert not (tmp_path / "bad.pth").exists()


def test_a_last_evaluation_that_fails_loses_no_result(data, pair, tmp_path, monkeypatch):
    cfg = coco_data.config(data, pair, tmp_path / "out", SOLVER__MAX_ITER=2)
    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_arguments: (_ for _ in ()).throw(InputError("no image")))
        with pytest.raises(InputError, match="no image"):
            run(cfg)
    before = (tmp_path / "out" / "weights.pth").read_bytes()
    found, _ = run(cfg, resume=True)
    assert "raw/AP" in found
    assert (tmp_path / "out" / "weights.pth").read_bytes() == before


def test_two_trainings_do_not_share_a_folder(data, pair, tmp_path):
    cfg = coco_data.config(data, pair, tmp_path / "out", SOLVER__MAX_ITER=2)
    with (
        lock_folder(tmp_path / "out", "training"),
        pytest.raises(InputError, match="out is in use by another training; wait until that has ended"),
    ):
        run(cfg)
    assert not (tmp_path / "out").exists()
    run(cfg)
    assert not (tmp_path / "out" / ".lock").exists()


def test_a_step_that_fp16_leaves_out_does_not_enter_the_average():
    model, scaler = torch.nn.Linear(1, 1), Scaler("fp16")
    ema = MovingAverage(model, 0.5)
    average = training._update_averages(model, ema, scaler, None)
    for skipped, averaged in ((1, 0), (1, 1), (1, 2), (2, 2)):
        scaler.skipped = skipped
        average(None)
        assert ema.n_averaged == averaged
    training._update_averages(model, ema, None, None)(None)
    assert ema.n_averaged == 3
