import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from fbnetv3 import InputError
from fbnetv3.search.predictor.gaussian_process import GaussianProcess, _Evidence, _warp
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.predictor.settings import PRESETS, PredictorSettings
from fbnetv3.training.engine import cpu_threads

ARCH = np.array([True] * 6 + [False] * 3)
WEIGHTS = np.array([3.0, -2, 1, 1, 0, 0, 2, -3, 1])
QUICK = PredictorSettings(members=2, pretrain_epochs=30, width=64, layers=2)
PAPER = dataclasses.replace(PRESETS["paper"], pretrain_epochs=5, width=32, layers=2, frozen_epochs=8, finetune_epochs=8)


def table(n, seed, noise=0.1):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 9)).astype(np.float32)
    return x, 75 + x @ WEIGHTS + noise * rng.standard_normal(n)


def statistics(x_arch):
    """Two made-up costs that are no linear function of the columns."""
    size = 0.2 + x_arch[:, 0] + x_arch[:, 1] * x_arch[:, 2] + x_arch[:, 3] * x_arch[:, 4]
    return np.stack([1e8 * size**2, 1e6 * (0.3 + x_arch[:, 4] * x_arch[:, 5])], axis=1)


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def pretrained():
    x = np.random.default_rng(3).random((2000, 6)).astype(np.float32)
    with cpu_threads(1):
        predictor = AccuracyPredictor(ARCH, seed=0, settings=QUICK)
        predictor.pretrain(x, statistics(x))
    return predictor


def fitted(x, y, seed=0, settings=QUICK):
    predictor = AccuracyPredictor(ARCH, seed=seed, settings=settings)
    predictor.fit(x, y)
    return predictor


@pytest.mark.parametrize("settings", [QUICK, dataclasses.replace(QUICK, head="network", batch=6, width=32)])
def test_it_learns_a_table_and_speaks_in_percentage_points(settings):
    x, y = table(60, 0)
    test_x, test_y = table(200, 1)
    predictor = fitted(x, y, settings=settings)
    mean, std = predictor.predict(test_x)
    assert mean.shape == std.shape == (200,)
    assert mean.dtype == std.dtype == np.float64
    assert spearmanr(mean, test_y)[0] > 0.9
    assert np.abs(mean - test_y).mean() < 0.6
    assert (std > 0).all()
    members = predictor.predict_members(test_x)
    assert members.shape == (2, 200)
    assert np.allclose(members.mean(0), mean)
    assert not np.array_equal(members[0], members[1])


@pytest.mark.parametrize("settings", [QUICK, PAPER])
def test_the_same_seed_gives_the_same_bits_whatever_was_fitted_before(settings):
    x, y = table(40, 0)
    first = fitted(x, y, settings=settings)
    second = fitted(*table(20, 5), settings=settings)
    torch.manual_seed(9)
    second.fit(x, y)
    assert np.array_equal(first.predict(x)[0], second.predict(x)[0])
    assert not np.array_equal(first.predict(x)[0], fitted(x, y, seed=1, settings=settings).predict(x)[0])


def test_pretraining_learns_the_statistics_and_is_what_fit_starts_from(pretrained):
    x, y = table(40, 0)
    new = np.random.default_rng(4).random((500, 6)).astype(np.float32)
    predicted = pretrained.predict_labels(new)
    assert predicted.shape == (500, 2)
    residual = ((predicted - statistics(new)) ** 2).mean(0) / statistics(new).var(0)
    assert (residual < 0.02).all()
    pretrained.fit(x, y)
    once = pretrained.predict(x)[0]
    pretrained.fit(*table(20, 7))
    pretrained.fit(x, y)  # fit must not change the pretrained encoder
    assert np.array_equal(once, pretrained.predict(x)[0])
    assert np.array_equal(predicted, pretrained.predict_labels(new))
    state = torch.get_rng_state()
    pretrained.fit(x, y)
    assert torch.equal(state, torch.get_rng_state())


def test_pretraining_depends_on_its_seed_alone():
    x = np.random.default_rng(3).random((300, 6)).astype(np.float32)
    found = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(state)
        predictor = AccuracyPredictor(ARCH, seed=seed, settings=PAPER)
        predictor.pretrain(x, statistics(x))
        found.append(predictor.predict_labels(x))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


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
    """Errors without pretraining over those with it, a table a seed."""
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


def test_pretraining_never_hurts_where_the_statistics_say_nothing(pretrained):
    found = gains(lambda x: 75 + x @ WEIGHTS, pretrained)
    assert found.mean() > np.log(0.95)
    assert found.min() > np.log(0.7)


def test_recipe_columns_stay_out_of_pretraining(pretrained):
    with pytest.raises(InputError, match=r"expected an array \[n >= 1, 6\], got shape \[5, 9\]"):
        AccuracyPredictor(ARCH, seed=0).pretrain(np.zeros((5, 9)), np.zeros((5, 2)))
    x, y = table(30, 0)
    pretrained.fit(x, y)
    other = x.copy()
    other[:, 6:] = 0.5
    assert not np.array_equal(pretrained.predict(x)[0], pretrained.predict(other)[0])
    assert np.array_equal(pretrained.predict_labels(x[:, ARCH]), pretrained.predict_labels(other[:, ARCH]))


def test_columns_by_index():
    x, y = table(20, 0)
    by_index = AccuracyPredictor([0, 1, 2, 3, 4, 5], seed=0, n_columns=9, settings=QUICK)
    by_index.fit(x, y)
    assert np.array_equal(by_index.predict(x)[0], fitted(x, y).predict(x)[0])
    with pytest.raises(InputError, match="give n_columns too"):
        AccuracyPredictor([0, 1], seed=0)
    with pytest.raises(InputError, match="allowed: 0 to 8"):
        AccuracyPredictor([0, 9], seed=0, n_columns=9)


def test_a_few_failures_do_not_hide_the_order_of_the_rest():
    x, y = table(60, 0)
    y[:6] = 10.0
    test_x, test_y = table(200, 1)
    assert spearmanr(fitted(x, y).predict(test_x)[0], test_y)[0] > 0.75


@pytest.mark.parametrize(
    ("n", "labels"), [(1, [70.0]), (3, [70.0, 70.0, 70.0]), (4, [70.0, 0.0, 0.0, 100.0]), (5, [1e-9, 1, 2, 3, 4])]
)
def test_hardly_any_labels(pretrained, n, labels):
    x, _ = table(n, 0)
    for predictor in (pretrained, AccuracyPredictor(ARCH, seed=0, settings=PAPER)):
        predictor.fit(x, np.array(labels, float))
        mean, std = predictor.predict(table(50, 1)[0])
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
        if len(set(labels)) == 1:
            assert np.abs(mean - 70.0).max() < 1.0


def test_repeated_rows_and_columns_that_never_change(pretrained):
    x, y = table(40, 0)
    x[:, 5] = 1.0
    x[20:] = x[:20]
    y = 75 + x @ WEIGHTS
    pretrained.fit(x, y)
    assert spearmanr(pretrained.predict(x)[0], y)[0] > 0.9


def test_the_gradient_of_the_evidence_is_the_derivative():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(5, 5, generator=rng, dtype=torch.float64)
    y = torch.randn(5, generator=rng, dtype=torch.float64, requires_grad=True)

    def evidence(a, y):  # symmetric perturbations alone are covariances
        return _Evidence.apply(a @ a.T + torch.eye(5, dtype=torch.float64), y)

    assert torch.autograd.gradcheck(evidence, (a.requires_grad_(), y))
    covariance = (a @ a.T + torch.eye(5, dtype=torch.float64)).detach()
    normal = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance)
    constant = 2.5 * np.log(2 * np.pi)
    assert evidence(a, y).item() == pytest.approx(-normal.log_prob(y).item() - constant)


def test_warping_by_hand_and_its_jacobian():
    y = torch.tensor([70.0, 78.0, 80.0], dtype=torch.float64, requires_grad=True)
    theta = {"headroom": torch.tensor(0.0, dtype=torch.float64)}
    warped, jacobian = _warp(y, torch.tensor(80.0), torch.tensor(2.0), theta)
    assert warped.tolist() == pytest.approx([-np.log(6), -np.log(2), 0.0])
    slopes = torch.autograd.grad(warped.sum(), y)[0]
    assert jacobian.item() == pytest.approx(slopes.log().sum().item())


def test_a_process_is_sure_at_its_rows_and_unsure_far_away():
    x = torch.linspace(0, 1, 12)[:, None]
    y = 75 + 3 * torch.sin(6 * x[:, 0])
    process = GaussianProcess.fit([x], y)
    near, far = (process.predict([rows])[1].mean().item() for rows in (x, x + 3))
    assert near < 0.1
    assert far > 5 * near
    assert (process.predict([x])[0] - y).abs().max() < 0.3


@pytest.mark.parametrize("settings", [QUICK, PAPER])
@pytest.mark.parametrize("begun", [True, False])
def test_a_saved_predictor_predicts_the_same_bits(tmp_path, settings, begun):
    x, y = table(30, 0)
    predictor = AccuracyPredictor(ARCH, seed=3, settings=settings)
    predictor.save(tmp_path / "fresh.safetensors")
    assert AccuracyPredictor.load(tmp_path / "fresh.safetensors").settings == settings
    if begun:
        predictor.pretrain(x[:, ARCH], statistics(x[:, ARCH]))
    predictor.fit(x, y)
    predictor.save(tmp_path / "p.safetensors")
    loaded = AccuracyPredictor.load(tmp_path / "p.safetensors")
    for a, b in zip(predictor.predict(x), loaded.predict(x), strict=True):
        assert np.array_equal(a, b)
    loaded.fit(*table(25, 4))  # it goes on as the first would
    predictor.fit(*table(25, 4))
    assert np.array_equal(predictor.predict_members(x), loaded.predict_members(x))


def test_foreign_and_damaged_files(tmp_path):
    path = tmp_path / "p.safetensors"
    x, y = table(10, 0)
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        fitted(x, y).save(tmp_path / "p.pt")
    with pytest.raises(InputError, match="no such file"):
        AccuracyPredictor.load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="holds no accuracy predictor"):
        AccuracyPredictor.load(path)
    fitted(x, y).save(path)
    tensors = load_file(path)
    header = {
        "kind": "accuracy_predictor",
        "schema": 1,
        "arch_columns": ARCH.tolist(),
        "seed": 0,
        "pretrained": False,
        "fitted": True,
        "settings": dataclasses.asdict(QUICK),
    }
    missing = {key: value for key, value in tensors.items() if key != "member1.process0.weights"}
    for change, kept, words in (
        ({"schema": 2}, tensors, "update fbnetv3"),
        ({}, missing, "damaged: KeyError"),
        ({"settings": {"members": 0}}, tensors, "members"),
        ({"settings": {"heads": 1}}, tensors, "heads"),
        ({"pretrained": True}, tensors, "damaged"),
    ):
        save_file(kept, path, {"fbnetv3": json.dumps(header | change)})
        with pytest.raises(InputError, match=words):
            AccuracyPredictor.load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        AccuracyPredictor.load(path)


def test_presets():
    assert PredictorSettings.preset("default") == PredictorSettings()
    paper = PredictorSettings.preset("paper")
    assert (paper.members, paper.frozen_epochs, paper.finetune_epochs, paper.head) == (1, 50, 50, "network")
    assert not paper.log_labels
    assert not paper.rich_labels
    with pytest.raises(InputError, match="available: default, paper"):
        PredictorSettings.preset("best")


def test_the_network_head_freezes_the_encoder_first():
    x, y = table(20, 0)
    settings = dataclasses.replace(PAPER, finetune_epochs=0)
    for epochs, moved in ((0, False), (3, True)):
        predictor = AccuracyPredictor(ARCH, seed=0, settings=dataclasses.replace(settings, finetune_epochs=epochs))
        predictor.pretrain(x[:, ARCH], statistics(x[:, ARCH]))
        predictor.fit(x, y)
        before, after = predictor._proxy.encoder.state_dict(), predictor._heads[0].encoder.state_dict()
        assert any(not torch.equal(before[key], after[key]) for key in before) == moved
        assert torch.equal(before["1.running_mean"], after["1.running_mean"])


def test_bad_arrays_and_calls():
    x, y = table(10, 0)
    predictor = AccuracyPredictor(ARCH, seed=0)
    with pytest.raises(InputError, match="call fit first"):
        predictor.predict(x)
    with pytest.raises(InputError, match="call pretrain first"):
        predictor.predict_labels(x[:, :6])
    with pytest.raises(InputError, match="10 rows of x but 9 of y"):
        predictor.fit(x, y[:9])
    with pytest.raises(InputError, match="10 rows of x_arch but 9 of labels"):
        predictor.pretrain(x[:, ARCH], np.ones((9, 2)))
    with pytest.raises(InputError, match="at least 2 rows"):
        predictor.pretrain(x[:1, ARCH], np.ones((1, 2)))
    with pytest.raises(InputError, match="not finite"):
        predictor.fit(x, np.full(10, np.nan))
    with pytest.raises(InputError, match="array of numbers"):
        predictor.fit(x, ["good"] * 10)
    with pytest.raises(InputError, match="at least one column"):
        AccuracyPredictor(np.zeros(4, bool), seed=0)
