"""The accuracy predictor: what it learns from few labels, what pretraining gives, and its file."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from fbnetv3 import InputError
from fbnetv3.search.predictor.model import AccuracyPredictor
from tests.search.predictor.examples import ARCH, PAPER, QUICK, WEIGHTS, fitted, statistics, table

NETWORK = dataclasses.replace(QUICK, head="network", batch=6, width=32)


@pytest.fixture(scope="module")
def pretrained():
    x = np.random.default_rng(3).random((2000, 6)).astype(np.float32)
    predictor = AccuracyPredictor(ARCH, seed=0, settings=QUICK)
    predictor.pretrain(x, statistics(x))
    return predictor


@pytest.mark.parametrize("settings", [QUICK, NETWORK], ids=["kernel", "network"])
def test_the_largest_seed_will_do(settings):
    settings = dataclasses.replace(settings, members=2)
    assert np.isfinite(fitted(*table(20, 0), seed=2**64 - 1, settings=settings).predict(table(5, 1)[0])[0]).all()
    with pytest.raises(InputError, match="seed is 18446744073709551616"):
        AccuracyPredictor(ARCH, seed=2**64, settings=settings)


@pytest.fixture
def user_defaults():
    """A function that sets a default device and a default type, which are the usual ones again after the test."""
    yield lambda device, dtype: (torch.set_default_device(device), torch.set_default_dtype(dtype))
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("device", "dtype"), [("meta", torch.float32), ("cpu", torch.float64)])
@pytest.mark.parametrize("settings", [QUICK, NETWORK], ids=["kernel", "network"])
def test_the_defaults_of_the_user_change_nothing(user_defaults, tmp_path, settings, device, dtype):
    def everything(path):
        predictor = AccuracyPredictor(ARCH, seed=0, settings=dataclasses.replace(settings, pretrain_epochs=2))
        x, y = table(20, 0)
        predictor.pretrain(x[:, :6], statistics(x[:, :6]))
        predictor.fit(x, y)
        predictor.save(path)
        loaded = AccuracyPredictor.load(path)
        return [predictor.predict_labels(x[:, :6]), *predictor.predict(x), loaded.predict_members(x)]

    expected = everything(tmp_path / "usual.safetensors")
    user_defaults(device, dtype)
    found = everything(tmp_path / "others.safetensors")
    assert torch.get_default_dtype() == dtype
    assert torch.empty(0).device.type == device
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("settings", [QUICK, NETWORK], ids=["kernel", "network"])
def test_the_generators_of_the_user_are_left_alone(monkeypatch, settings):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before, (x, y) = torch.get_rng_state(), table(20, 0)
    predictor = AccuracyPredictor(ARCH, seed=0, settings=dataclasses.replace(settings, pretrain_epochs=1))
    predictor.pretrain(x[:, :6], statistics(x[:, :6]))
    predictor.fit(x, y)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeded == []


@pytest.mark.parametrize("settings", [QUICK, NETWORK], ids=["kernel", "network"])
def test_it_learns_a_table_and_predicts_percentage_points(settings):
    x, y = table(60, 0)
    test_x, test_y = table(200, 1)
    mean, std = fitted(x, y, settings=settings).predict(test_x)
    assert mean.shape == std.shape == (200,)
    assert mean.dtype == std.dtype == np.float64
    assert spearmanr(mean, test_y)[0] > 0.9
    assert np.abs(mean - test_y).mean() < 0.6
    assert (std > 0).all()


@pytest.mark.parametrize("settings", [QUICK, PAPER], ids=["kernel", "network"])
def test_the_mean_is_the_mean_of_the_members(settings):
    x, y = table(30, 0)
    predictor = fitted(x, y, settings=dataclasses.replace(settings, members=2))
    members, (mean, std) = predictor.predict_members(x), predictor.predict(x)
    assert members.shape == (2, 30)
    assert np.allclose(members.mean(0), mean)
    assert (std >= members.std(0) - 1e-9).all()
    assert not np.array_equal(members[0], members[1])


@pytest.mark.parametrize("settings", [QUICK, PAPER], ids=["kernel", "network"])
def test_the_same_seed_gives_the_same_bits_whatever_was_fitted_before(settings):
    x, y = table(40, 0)
    first = fitted(x, y, settings=settings)
    second = fitted(*table(20, 5), settings=settings)
    torch.manual_seed(9)
    second.fit(x, y)
    assert np.array_equal(first.predict(x)[0], second.predict(x)[0])
    assert not np.array_equal(first.predict(x)[0], fitted(x, y, seed=1, settings=settings).predict(x)[0])


def test_fit_starts_from_the_pretrained_encoder_every_time(pretrained):
    x, y = table(40, 0)
    new = np.random.default_rng(4).random((500, 6)).astype(np.float32)
    predicted = pretrained.predict_labels(new)
    pretrained.fit(x, y)
    once = pretrained.predict(x)[0]
    pretrained.fit(*table(20, 7))
    pretrained.fit(x, y)
    assert np.array_equal(once, pretrained.predict(x)[0])
    assert np.array_equal(predicted, pretrained.predict_labels(new))


def test_fitting_leaves_the_global_generator_alone(pretrained):
    state = torch.get_rng_state()
    pretrained.fit(*table(20, 0))
    assert torch.equal(state, torch.get_rng_state())


def test_pretraining_learns_the_statistics(pretrained):
    new = np.random.default_rng(4).random((500, 6)).astype(np.float32)
    predicted = pretrained.predict_labels(new)
    assert predicted.shape == (500, 2)
    assert (((predicted - statistics(new)) ** 2).mean(0) / statistics(new).var(0) < 0.02).all()


def test_pretraining_again_forgets_what_was_fitted():
    x, y = table(20, 0)
    predictor = fitted(x, y)
    predictor.pretrain(x[:, ARCH], statistics(x[:, ARCH]))
    with pytest.raises(InputError, match="call fit first"):
        predictor.predict(x)


def test_labels_that_are_constant_zero_or_negative_are_learnt_as_they_are():
    x = np.random.default_rng(3).random((300, 6)).astype(np.float32)
    labels = np.stack([np.full(300, 7.0), np.zeros(300), x[:, 0] - 0.5, 5e9 + 1e9 * x[:, 1]], axis=1)
    predictor = AccuracyPredictor(ARCH, seed=0, settings=QUICK)
    predictor.pretrain(x, labels)
    predicted = predictor.predict_labels(x)
    assert np.abs(predicted[:, 0] - 7.0).max() < 0.5
    assert np.corrcoef(predicted[:, 3], labels[:, 3])[0, 1] > 0.95
    predictor.fit(*table(20, 0))
    assert np.isfinite(predictor.predict(table(50, 1)[0])[0]).all()


def gains(accuracy, predictor, seeds=6, n=24):
    """Logarithms of the errors without pretraining over those with it, for a table of every seed."""
    out = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x = rng.random((n + 400, 9)).astype(np.float32)
        y = accuracy(x) + 0.1 * rng.standard_normal(len(x))
        predictor.fit(x[:n], y[:n])
        errors = [((p.predict(x[n:])[0] - y[n:]) ** 2).mean() for p in (fitted(x[:n], y[:n]), predictor)]
        out.append(errors[0] / errors[1])
    return np.log(out)


def test_pretraining_helps_where_accuracy_follows_the_statistics(pretrained):
    def accuracy(x):
        return 60 + 8 * np.log(statistics(x)[:, 0] / 1e8) + x[:, 6]

    found = gains(accuracy, pretrained)
    assert (found > 0).all()
    assert found.mean() > np.log(2.0)


def test_pretraining_does_not_hurt_where_the_statistics_say_nothing(pretrained):
    found = gains(lambda x: 75 + x @ WEIGHTS, pretrained)
    assert found.mean() > np.log(0.95)
    assert found.min() > np.log(0.7)


def test_pretraining_takes_columns_of_the_architecture_alone():
    with pytest.raises(InputError, match=r"expected an array \[n >= 1, 6\], got shape \[5, 9\]"):
        AccuracyPredictor(ARCH, seed=0).pretrain(np.zeros((5, 9)), np.zeros((5, 2)))


def test_the_recipe_changes_accuracies_and_no_statistics(pretrained):
    x, y = table(30, 0)
    pretrained.fit(x, y)
    other = x.copy()
    other[:, 6:] = 0.5
    assert not np.array_equal(pretrained.predict(x)[0], pretrained.predict(other)[0])
    assert np.array_equal(pretrained.predict_labels(x[:, ARCH]), pretrained.predict_labels(other[:, ARCH]))


def test_many_columns_of_the_architecture_do_not_hide_the_recipe():
    """The recipe decides; sixteen labels are enough to see it, although the architecture has ten times as many columns."""
    ranks = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.uniform(size=(316, 33))
        y = 70 + 10 * np.cos(3 * (x[:, 30] - 0.4)) * np.cos(2 * (x[:, 31] - 0.6)) + rng.normal(0, 0.3, len(x))
        predictor = AccuracyPredictor(np.arange(30), n_columns=33, seed=0, settings=QUICK)
        predictor.fit(x[:16], y[:16])
        ranks.append(spearmanr(predictor.predict(x[16:])[0], y[16:]).statistic)
    assert np.mean(ranks) > 0.45


def test_columns_by_index_are_those_of_a_mask():
    x, y = table(20, 0)
    by_index = AccuracyPredictor([0, 1, 2, 3, 4, 5], seed=0, n_columns=9, settings=QUICK)
    assert by_index.arch_columns.tolist() == ARCH.tolist()
    by_index.fit(x, y)
    assert np.array_equal(by_index.predict(x)[0], fitted(x, y).predict(x)[0])


@pytest.mark.parametrize(
    ("columns", "keywords", "words"),
    [
        ([0, 1], {}, "give n_columns too"),
        ([0, 9], {"n_columns": 9}, r"arch_columns are \[0, 9\]; allowed: 0 to 8"),
        (np.zeros(4, bool), {}, "at least one column"),
        (np.ones((2, 2), bool), {}, "at least one column"),
    ],
    ids=["indices alone", "too large", "none", "matrix"],
)
def test_columns_that_cannot_be_are_refused(columns, keywords, words):
    with pytest.raises(InputError, match=words):
        AccuracyPredictor(columns, seed=0, **keywords)


def test_a_few_failures_do_not_hide_the_order_of_the_rest():
    x, y = table(60, 0)
    y[:6] = 10.0
    test_x, test_y = table(200, 1)
    assert spearmanr(fitted(x, y).predict(test_x)[0], test_y)[0] > 0.75


@pytest.mark.parametrize(
    "labels", [[70.0], [70.0, 70.0, 70.0], [70.0, 0.0, 0.0, 100.0], [1e-9, 1, 2, 3, 4]], ids=["1", "3", "4", "5"]
)
def test_hardly_any_labels_give_finite_predictions(pretrained, labels):
    x, _ = table(len(labels), 0)
    for predictor in (pretrained, AccuracyPredictor(ARCH, seed=0, settings=PAPER)):
        predictor.fit(x, np.array(labels, float))
        mean, std = predictor.predict(table(50, 1)[0])
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
        if len(set(labels)) == 1:
            assert np.abs(mean - 70.0).max() < 1.0


def test_repeated_rows_and_a_constant_column_are_no_problem(pretrained):
    x, y = table(40, 0)
    x[:, 5] = 1.0
    x[20:] = x[:20]
    y = 75 + x @ WEIGHTS
    pretrained.fit(x, y)
    assert spearmanr(pretrained.predict(x)[0], y)[0] > 0.9


@pytest.mark.parametrize("settings", [QUICK, PAPER], ids=["kernel", "network"])
@pytest.mark.parametrize("pretrain", [True, False], ids=["pretrained", "fitted alone"])
def test_a_saved_predictor_predicts_the_same_bits(tmp_path, settings, pretrain):
    x, y = table(30, 0)
    predictor = AccuracyPredictor(ARCH, seed=3, settings=settings)
    if pretrain:
        predictor.pretrain(x[:, ARCH], statistics(x[:, ARCH]))
    predictor.fit(x, y)
    predictor.save(tmp_path / "p.safetensors")
    loaded = AccuracyPredictor.load(tmp_path / "p.safetensors")
    for a, b in zip(predictor.predict(x), loaded.predict(x), strict=True):
        assert np.array_equal(a, b)
    loaded.fit(*table(25, 4))  # it continues as the first would
    predictor.fit(*table(25, 4))
    assert np.array_equal(predictor.predict_members(x), loaded.predict_members(x))


def test_a_new_predictor_is_saved_with_its_settings(tmp_path):
    AccuracyPredictor(ARCH, seed=3, settings=PAPER).save(tmp_path / "new.safetensors")
    loaded = AccuracyPredictor.load(tmp_path / "new.safetensors")
    assert (loaded.settings, loaded.seed, loaded.arch_columns.tolist()) == (PAPER, 3, ARCH.tolist())
    with pytest.raises(InputError, match="call fit first"):
        loaded.predict(table(5, 0)[0])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The tensors and the header of a saved predictor."""
    path = tmp_path_factory.mktemp("saved") / "p.safetensors"
    fitted(*table(10, 0)).save(path)
    header = {
        "kind": "accuracy_predictor",
        "schema": 4,
        "arch_columns": ARCH.tolist(),
        "seed": 0,
        "pretrained": False,
        "fitted": True,
        "sources": 0,
        "settings": dataclasses.asdict(QUICK),
    }
    return load_file(path), header


def test_a_file_of_schema_2_is_read_as_it_was_written(tmp_path, saved):
    """Its columns all weighed the same; where there is no recipe, they still do."""
    tensors, header = saved
    save_file(tensors, tmp_path / "p.safetensors", {"fbnetv3": json.dumps(header | {"schema": 2})})
    x, y = table(10, 0)
    assert not np.allclose(AccuracyPredictor.load(tmp_path / "p.safetensors").predict(x)[0], fitted(x, y).predict(x)[0])
    alone = AccuracyPredictor(np.ones(x.shape[1], bool), seed=0, settings=QUICK)
    alone.fit(x, y)
    alone.save(tmp_path / "alone.safetensors")
    old = {"fbnetv3": json.dumps(header | {"schema": 2, "arch_columns": alone.arch_columns.tolist()})}
    save_file(load_file(tmp_path / "alone.safetensors"), tmp_path / "old.safetensors", old)
    assert np.array_equal(AccuracyPredictor.load(tmp_path / "old.safetensors").predict(x)[0], alone.predict(x)[0])


def test_a_file_of_schema_3_has_no_squares(tmp_path, saved):
    """Without them, its predictions are those of a file of today whose squares have next to no variance."""
    tensors, header = saved
    squares = {key: value for key, value in tensors.items() if ".theta.square." in key}
    assert squares
    rest = {key: value for key, value in tensors.items() if key not in squares}
    none = {key: torch.full_like(value, -50.0) for key, value in squares.items()}
    found = []
    for name, written, schema in (("old", rest, 3), ("new", rest | none, 4)):
        save_file(written, tmp_path / f"{name}.safetensors", {"fbnetv3": json.dumps(header | {"schema": schema})})
        found.append(AccuracyPredictor.load(tmp_path / f"{name}.safetensors").predict(table(10, 0)[0])[0])
    assert np.allclose(*found)
    assert not np.allclose(found[0], fitted(*table(10, 0)).predict(table(10, 0)[0])[0])


def test_the_file_has_the_described_header(tmp_path, saved):
    tensors, header = saved
    save_file(tensors, tmp_path / "p.safetensors", {"fbnetv3": json.dumps(header)})
    x, y = table(10, 0)
    loaded = AccuracyPredictor.load(tmp_path / "p.safetensors")
    assert np.array_equal(loaded.predict(x)[0], fitted(x, y).predict(x)[0])


@pytest.mark.parametrize(
    ("change", "lost", "words"),
    [
        ({"schema": 1}, "", "schema is 1; this version reads 2 to 4: fit it again"),
        ({"kind": "detector"}, "", "holds no accuracy predictor; give a file that AccuracyPredictor.save wrote"),
        ({}, "member1.process0.weights", "damaged: KeyError"),
        ({"settings": {"members": 0}}, "", "members"),
        ({"settings": {"heads": 1}}, "", "heads"),
        ({"pretrained": True}, "", "damaged"),
    ],
    ids=["schema", "kind", "tensor", "setting", "unknown setting", "no encoder"],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, saved, change, lost, words):
    tensors, header = saved
    kept = {key: value for key, value in tensors.items() if key != lost}
    save_file(kept, tmp_path / "p.safetensors", {"fbnetv3": json.dumps(header | change)})
    with pytest.raises(InputError, match=words):
        AccuracyPredictor.load(tmp_path / "p.safetensors")


def test_files_of_others_are_refused(tmp_path, saved):
    path = tmp_path / "p.safetensors"
    with pytest.raises(InputError, match="no such file"):
        AccuracyPredictor.load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="holds no accuracy predictor"):
        AccuracyPredictor.load(path)
    save_file(saved[0], path, {"fbnetv3": json.dumps(saved[1])})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        AccuracyPredictor.load(path)


@pytest.mark.parametrize("call", ["save", "load"])
def test_another_suffix_is_refused(tmp_path, call):
    with pytest.raises(InputError, match=r"p\.pt: a predictor's file ends in \.safetensors"):
        getattr(AccuracyPredictor(ARCH, seed=0), call)(tmp_path / "p.pt")


X, Y = table(10, 0)


@pytest.mark.parametrize(
    ("call", "arguments", "words"),
    [
        ("predict", (X,), "predict needs a fitted predictor: call fit first"),
        ("predict_members", (X,), "predict needs a fitted predictor: call fit first"),
        ("predict_labels", (X[:, :6],), "predict_labels needs a pretrained predictor: call pretrain first"),
        ("fit", (X, Y[:9]), "10 rows of x but 9 of y"),
        ("fit", (X[:, :8], Y), r"expected an array \[n >= 1, 9\], got shape \[10, 8\]"),
        ("fit", (X, np.full(10, np.nan)), "not finite"),
        ("fit", (X, ["good"] * 10), "array of numbers"),
        ("pretrain", (X[:, ARCH], np.ones((9, 2))), "10 rows of x_arch but 9 of labels"),
        ("pretrain", (X[:1, ARCH], np.ones((1, 2))), "at least 2 rows"),
        ("pretrain", (X[:, ARCH], np.ones((10, 0))), r"expected an array \[n >= 1, k\], got shape \[10, 0\]"),
    ],
    ids=["unfitted", "members", "not pretrained", "rows", "columns", "nan", "text", "labels", "one row", "no labels"],
)
def test_arrays_and_calls_that_do_not_fit_are_refused(call, arguments, words):
    with pytest.raises(InputError, match=words):
        getattr(AccuracyPredictor(ARCH, seed=0), call)(*arguments)


def linear(n, seed, factor):
    """A table whose accuracies depend on the columns by `factor` times the usual weights."""
    x, y = table(n, seed)
    return x, 50 + factor * (y - 75)


@pytest.mark.parametrize("factor", [0.5, -1.0], ids=["related", "reversed"])
def test_a_source_helps_where_labels_are_few(factor):
    (x, y), (test_x, test_y) = table(8, 0), table(200, 1)

    def correlation(*sources):
        predictor = AccuracyPredictor(ARCH, seed=0, settings=QUICK)
        predictor.start_from(sources)
        predictor.fit(x, y)
        return spearmanr(predictor.predict(test_x)[0], test_y)[0]

    assert correlation(linear(40, 2, factor)) > correlation() + 0.05
    assert correlation(linear(40, 2, factor)) > 0.95


def test_a_source_that_says_nothing_does_not_hurt():
    (x, y), (test_x, test_y) = table(16, 0), table(200, 1)
    predictor = AccuracyPredictor(ARCH, seed=0, settings=QUICK)
    predictor.start_from([(table(40, 2)[0], np.random.default_rng(5).normal(70, 5, 40))])
    predictor.fit(x, y)
    errors = [np.abs(p.predict(test_x)[0] - test_y).mean() for p in (predictor, fitted(x, y))]
    # The spread of the accuracies is 1.6 points.
    assert errors[0] < errors[1] + 0.1


def test_sources_say_how_good_they_think_candidates_are(pretrained):
    predictor = copy.copy(pretrained)
    predictor.start_from([linear(40, 2, 1.0), linear(40, 3, -2.0)])
    x, y = table(100, 1)
    one, two = predictor.predict_sources(x)
    assert spearmanr(one, y)[0] > 0.95
    assert spearmanr(two, y)[0] < -0.95
    assert abs(one.mean()) < 0.5


def test_sources_are_kept_in_the_file(tmp_path, pretrained):
    predictor, (x, y) = copy.copy(pretrained), table(20, 0)
    predictor.start_from([linear(40, 2, 1.0)])
    predictor.fit(x, y)
    predictor.save(tmp_path / "p.safetensors")
    loaded = AccuracyPredictor.load(tmp_path / "p.safetensors")
    assert np.array_equal(loaded.predict(x)[0], predictor.predict(x)[0])
    loaded.fit(x, y)
    assert np.array_equal(loaded.predict(x)[0], predictor.predict(x)[0])


def test_sources_that_do_not_fit_are_refused():
    x, y = table(20, 0)
    with pytest.raises(InputError, match="start_from: 20 rows of x but 19 of y"):
        AccuracyPredictor(ARCH, seed=0).start_from([(x, y[1:])])
    with pytest.raises(InputError, match="head is a network cannot start from earlier searches"):
        AccuracyPredictor(ARCH, seed=0, settings=NETWORK).start_from([(x, y)])
    with pytest.raises(InputError, match="predict_sources needs sources: call start_from first"):
        AccuracyPredictor(ARCH, seed=0).predict_sources(x)


def test_a_rougher_predictor_has_the_first_members():
    x, y = table(12, 0)
    whole = fitted(x, y)
    part = whole.rougher(1)
    assert np.array_equal(part.predict_members(x), whole.predict_members(x)[:1])
    assert len(whole.predict_members(x)) == QUICK.members > 1
