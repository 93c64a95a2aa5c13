"""TensorBoard's event files, as TensorBoard reads them."""

import pytest

pytest.importorskip("tensorboard")

from fbnetv3.tracking.tensorboard_log import open_log
from tests.tracking.readers import read_tensorboard


def test_numbers_are_written_at_once_and_texts_left_out(tmp_path):
    log = open_log(tmp_path, {})
    log.begin("epochs", 0)
    log.write("epochs", 1, {"lr": 0.5, "status": "ok", "ema_acc1": None})
    assert read_tensorboard(tmp_path, "epochs") == {"lr": [(1, 0.5)]}  # the log is still open
    log.close()


def test_rows_that_come_again_replace_the_old_ones(tmp_path):
    log = open_log(tmp_path, {})
    log.begin("steps", 0)
    for number in (10, 20, 30):
        log.write("steps", number, {"loss": number})
    again = open_log(tmp_path, {})  # the first one was killed
    again.begin("steps", 20)
    again.write("steps", 30, {"loss": 0.5})
    again.close()
    log.close()
    assert read_tensorboard(tmp_path, "steps") == {"loss": [(10, 10.0), (20, 20.0), (30, 0.5)]}


def test_settings_are_a_text(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = open_log(tmp_path, {"recipe": {"lr": 0.25}})
    log.begin("epochs", 0)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "epochs")).Reload()
    [text] = events.Tensors("settings/text_summary")
    assert '"lr": 0.25' in text.tensor_proto.string_val[0].decode()


def test_a_table_may_begin_twice(tmp_path):
    log = open_log(tmp_path, {})
    for value in (1.0, 2.0):
        log.begin("epochs", 0)
        log.write("epochs", 1, {"lr": value})
    log.close()
    assert read_tensorboard(tmp_path, "epochs") == {"lr": [(1, 2.0)]}
