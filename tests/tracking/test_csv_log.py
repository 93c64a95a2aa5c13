"""Rows in CSV files."""

from fbnetv3.tracking.csv_log import open_log


def test_a_table_has_a_file_with_all_values(tmp_path):
    log = open_log(tmp_path, {})
    log.begin("nars", 0)
    log.write("nars", 1, {"accuracy": 91.5, "status": "ok", "predicted": None})
    log.write("nars", 2, {"accuracy": None, "status": "a, b", "predicted": 90})
    log.write("epochs", 1, {"lr": 0.1})
    assert (tmp_path / "csv" / "nars.csv").read_text() == 'number,accuracy,status,predicted\n1,91.5,ok,\n2,,"a, b",90\n'
    assert (tmp_path / "csv" / "epochs.csv").read_text() == "number,lr\n1,0.1\n"


def test_rows_that_come_again_replace_the_old_ones(tmp_path):
    log = open_log(tmp_path, {})
    for number in (10, 20, 30):
        log.write("steps", number, {"loss": number / 10})
    path = tmp_path / "csv" / "steps.csv"
    path.write_text(path.read_text() + "40,4")  # cut off by a crash
    again = open_log(tmp_path, {})
    again.begin("steps", 20)
    assert path.read_text() == "number,loss\n10,1.0\n20,2.0\n"
    again.write("steps", 30, {"loss": 0.5})
    again.close()
    assert path.read_text() == "number,loss\n10,1.0\n20,2.0\n30,0.5\n"
    again.begin("steps", 0)
    again.write("steps", 10, {"other": 1})  # nothing is left, so there is no old head
    assert path.read_text() == "number,other\n10,1\n"
