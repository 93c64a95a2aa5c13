"""Tables as spaces: a CSV file read by hand, its labels, limits, evaluator and search, and what is wrong with a file."""

import csv
import json
import pickle

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars.algorithm import Context, nars
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.evolve import EvolutionSettings, evolve
from fbnetv3.search.runs.run import start
from fbnetv3.search.space.constraints import Limits
from fbnetv3.search.space.costs import Constraint, cost, statistics
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import load_space
from fbnetv3.search.space.table import TableEvaluator, TableSpace
from fbnetv3.search.trial import Ledger

HEADER = "arch.depth,arch.kernel,recipe.lr,label.flops,label.params,label.ms,note.who,acc1.1,acc1.2"
LINES = (
    "2,k3,0.1,200,20,1.5,x,40,60",
    "1,k3,0.1,100,10,0.5,y,30,50",
    "2,k5,0.05,300,30,2,x,50,70",
    "1,k3,0.1,100,10,0.5,z,32,54",
    "1,k5,0.1,150,10,0.5,z,33,",
    "1,k5,0.05,150,10,0.5,z,,",
)


def write(path, lines=LINES, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


@pytest.fixture
def space(tmp_path):
    return load_space(write(tmp_path / "mine.csv"))


def whole_grid(path, sizes=(4, 4, 4), noise=0.0, keep=1.0):
    """A table of all (or a share of the) combinations of three ranges, where more is better."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch.a", "arch.b", "recipe.c", "label.flops", "label.params", "acc1"])
        for row in np.indices(sizes).reshape(len(sizes), -1).T.tolist():
            if rng.random() < keep:
                acc1 = 50 + 2 * sum(row) + noise * rng.normal()
                writer.writerow([*row, 100 + 10 * row[0] + 5 * row[1], 10 + row[1], acc1])
    return str(path)


def test_a_file_read_by_hand(space):
    assert isinstance(space, TableSpace)
    assert space.name == "mine"
    assert [(c.name, c.values, c.ordered, c.arch) for c in space.coordinates] == [
        ("depth", (1, 2), True, True),
        ("kernel", ("k3", "k5"), False, True),
        ("lr", (0.05, 0.1), True, False),
    ]
    assert space.table.tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0]]
    assert space.trainings.tolist() == [1, 2, 1, 1, 1]
    # The mean of two trainings; a training stopped early as far as it went; a diverged one is chance of 1,000 classes.
    assert space.accuracy(space.table).tolist() == [60.0, 52.0, 70.0, 33.0, 0.1]
    assert space.base.epochs == 2
    assert arch_mask(space).tolist() == [True, True, True, False]
    assert encode(space, space.table[:1]).tolist() == [[1.0, 1.0, 0.0, 1.0]]


def test_labels_are_the_tables(space):
    counts = cost(space, space.table)
    assert counts.flops().tolist() == counts.flops("fvcore").tolist() == [200, 100, 300, 150, 150]
    assert counts.params().tolist() == [20, 10, 30, 10, 10]
    names, labels = statistics(space, space.table)
    assert names == ("flops", "params", "ms")
    assert labels[:2].tolist() == [[200, 20, 1.5], [100, 10, 0.5]]
    window = Constraint("flops", max=200, min=150)
    assert window.holds(window.values(space, space.table)).tolist() == [True, False, False, True, True]


def test_rows_that_a_table_does_not_have(space):
    absent = np.array([[0, 0, 0]])
    assert space.holds(absent).tolist() == [False]
    assert not Limits(space, (Constraint("flops", max=1000),)).allows(absent)[0]
    with pytest.raises(InputError, match=r"table mine has no \{'depth': 1, 'kernel': 'k3', 'lr': 0\.05\}"):
        space.position(absent)


def test_the_evaluator_looks_up(space):
    evaluate, base = TableEvaluator(space), space.base
    twice = space.candidate([0, 0, 1], base, "candidate")
    assert twice.values == {"depth": 1, "kernel": "k3", "lr": 0.1}
    assert "no network" in twice.arch.name
    assert evaluate(twice, 2, 4).acc1 == (30.0, 50.0)
    assert evaluate(twice, 2, 7).acc1 == (32.0, 54.0)
    assert evaluate(twice, 1, 7).acc1 == (32.0,)
    assert evaluate(space.candidate([0, 1, 0], base, "x"), 2, 0).status == "diverged"
    with pytest.raises(InputError, match="has 1 epochs, 2 are asked for"):
        evaluate(space.candidate([0, 1, 1], base, "x"), 2, 0)
    with pytest.raises(InputError, match="a pair has values of depth, kernel, lr"):
        evaluate(twice._replace(values={}), 2, 0)
    assert pickle.loads(pickle.dumps(evaluate))(twice, 2, 7).acc1 == (32.0, 54.0)


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_pools_and_evolution_keep_to_the_table(tmp_path, keep):
    space = load_space(whole_grid(tmp_path / "grid.csv", (6, 6, 6), keep=keep))
    assert (space.listed is None) == (keep == 1.0)
    limits = Limits(space, (Constraint("flops", max=140),))
    inside = space.table[limits.allows(space.table)]
    pool = limits.sample(len(inside), 0)
    assert sorted(pool.tolist()) == sorted(inside.tolist())
    with pytest.raises(InputError, match=f"only {len(inside)} of"):
        limits.sample(len(inside) + 1, 0)
    found = evolve(space, space.accuracy, space.table[:0], limits, EvolutionSettings(), seed=0)
    assert limits.allows(found.index).all()
    assert found.scores[0] == space.accuracy(inside).max()


def test_nars_on_a_table(tmp_path):
    path = whole_grid(tmp_path / "grid.csv", (5, 5, 5), noise=0.2)
    cfg = load_preset("quickstart").replace(
        space=path,
        data="none",
        recipe="none",
        constraint=Constraint("flops", max=150),
        pool=60,
        batch=4,
        rounds=3,
        finalists=3,
        predictor={"pretrain_epochs": 5},
    )
    context = Context.of(cfg)
    with Ledger.open(tmp_path / "l.jsonl", cfg.fingerprint) as ledger, InProcess(context.evaluator) as executor:
        proposal = nars(context, ledger, executor, lambda *_: None)
        assert len(ledger.trials) == 15
        assert all(t.flops <= 150 for t in ledger.trials)
    inside = context.space.table[context.limits.allows(context.space.table)]
    assert context.space.accuracy(np.array([proposal.candidate]))[0] >= np.quantile(context.space.accuracy(inside), 0.9)


def test_a_table_has_nothing_to_train(tmp_path):
    cfg = load_preset("quickstart").replace(space=whole_grid(tmp_path / "grid.csv"), pool=40)
    with pytest.raises(InputError, match=r"is a table: its pairs are no networks .* search compare --table"):
        start(cfg, tmp_path / "run", 1, lambda *_: None)
    assert not (tmp_path / "run").exists()


def change(line, column, value):
    cells = LINES[line].split(",")
    cells[HEADER.split(",").index(column)] = value
    return [*LINES[:line], ",".join(cells), *LINES[line + 1 :]]


@pytest.mark.parametrize(
    ("lines", "header", "words"),
    [
        (change(0, "label.flops", "many"), HEADER, "line 2, column 'label.flops' is 'many'; give a number"),
        (change(0, "label.params", "1.5"), HEADER, "line 2, column 'label.params' is '1.5'; give a whole number"),
        (change(3, "label.ms", "9"), HEADER, "line 5, column 'label.ms' is '9'; line 3 has the same pair and 0.5"),
        (change(2, "acc1.1", ""), HEADER, "line 4, column 'acc1.2' is '70'; an earlier epoch is empty"),
        (change(2, "acc1.2", "170"), HEADER, "line 4, column 'acc1.2' is '170'; give percent"),
        (change(2, "label.ms", "nan"), HEADER, "line 4, column 'label.ms' is 'nan'; give a number"),
        ([*LINES, "1,2"], HEADER, "line 8 has 2 cells, the header has 9"),
        ([], HEADER, "has a header but no line"),
        (LINES, HEADER.replace("note.who", "who"), "line 1, column 'who': unknown; allowed: arch.NAME"),
        (LINES, HEADER.replace("acc1.2", "acc1.3"), "line 1, column 'acc1': epochs must be 1, 2"),
        (LINES, HEADER.replace("label.flops", "label.f"), "line 1, column 'label.flops': missing"),
        (LINES, HEADER.replace("recipe.lr", "recipe.depth"), "line 1, column 'depth': given twice"),
        (["1,1,1"], "label.flops,label.params,acc1", "line 1, column 'arch.NAME or recipe.NAME': missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, lines, header, words):
    with pytest.raises(InputError) as error:
        load_space(write(tmp_path / "bad.csv", lines, header))
    assert words in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "bad.csv"))


def test_no_table_at_all(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv cannot be read as a table"):
        load_space(str(tmp_path / "absent.csv"))
    (tmp_path / "other.json").write_text(json.dumps({"00000000": {"test_acc": [1, 2, 3], "flops": 1, "params": 1}}))
    for name in ("other.json", "absent.json"):
        with pytest.raises(InputError, match="not NAS-Bench-Macro's table, or damaged"):
            load_space(str(tmp_path / name))
