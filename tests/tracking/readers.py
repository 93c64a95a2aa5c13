"""What the libraries read from what was logged: for each value of a table the pairs of number and value, in order."""

import csv
import json
from collections import defaultdict


def read_csv(folder, table):
    found = defaultdict(list)
    with (folder / "csv" / f"{table}.csv").open() as file:
        for row in csv.DictReader(file):
            number = int(row.pop("number"))
            for key, value in row.items():
                if value != "" and value.replace(".", "").replace("e-", "").isdigit():
                    found[key].append((number, float(value)))
    return dict(found)


def read_tensorboard(folder, table):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / table), {"scalars": 0}).Reload()
    return {
        tag.removeprefix(f"{table}/"): [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def read_mlflow(folder, table):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{(folder / 'mlflow' / 'mlflow.db').absolute()}")
    [run] = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "fbnetv3"])
    keys = [key for key in run.data.metrics if key.startswith(f"{table}/")]
    return {
        key.removeprefix(f"{table}/"): [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
        for key in keys
    }


def wandb_records(content):
    """The records of a file of W&B: a log as LevelDB's, after a head of 7 bytes.

    Blocks have 32 KiB. Each part of a record has a checksum, its length and its type: whole, first, middle or last.
    """
    at, record = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def read_wandb(folder, table):
    """Read the files of offline runs in the order in which `wandb sync` sends them."""
    from wandb.proto import wandb_internal_pb2

    found = defaultdict(list)
    names = set()
    for path in sorted((folder / "wandb" / "wandb").glob("offline-run-*/*.wandb")):
        names.add(path.name)
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            number = row.pop(f"{table}/number", None)
            for key, value in row.items():
                if number is not None and key.startswith(f"{table}/"):
                    found[key.removeprefix(f"{table}/")].append((number, value))
    assert len(names) == 1  # one run, however often it was resumed
    return dict(found)


READERS = {"csv": read_csv, "tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb}
