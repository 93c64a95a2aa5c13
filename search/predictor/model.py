"""The accuracy predictor of section 3.1: an encoder of architectures with a proxy head and an accuracy head (Figure 3).

It works on plain arrays, so it can be used with any table of architectures, recipes and accuracies. The encoder and the proxy
head learn free statistics of architectures. `PredictorSettings` says how the accuracy head uses them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fbnetv3.counts import LEAST_SEED, check_seed
from fbnetv3.device import plain_defaults
from fbnetv3.errors import InputError, quote
from fbnetv3.networks.weight_file import read_tensors, write_tensors
from fbnetv3.schema import read
from fbnetv3.search.predictor.encoder import Proxy, pretrain
from fbnetv3.search.predictor.gaussian_process import GaussianProcessHead
from fbnetv3.search.predictor.network import NetworkHead
from fbnetv3.search.predictor.settings import PredictorSettings

SCHEMA = 4
EARLIER = (2, 3)  # schemas that are read too
UNWEIGHTED = 2  # the schema of files whose columns all have the same weight
KIND = "accuracy_predictor"
Floats = npt.NDArray[np.floating[Any]]


class AccuracyPredictor:
    """Predicts accuracy from encoded architecture-recipe pairs.

    Args:
        arch_columns: boolean mask, or indices, of the columns of `x` that describe the architecture. The encoder sees only
            these. All other columns describe the recipe; the accuracy head sees them too.
        n_columns: number of columns of `x`; only needed with indices.
        seed: seed of weights and batches. The same seed, data and number of threads give the same predictions.
        settings: `PredictorSettings.preset("paper")` is the paper's predictor; the default is the best that we know.
    """

    def __init__(
        self,
        arch_columns: npt.ArrayLike,
        *,
        seed: int,
        n_columns: int | None = None,
        settings: PredictorSettings | None = None,
    ) -> None:
        columns = np.asarray(arch_columns)
        if columns.dtype != bool:
            if n_columns is None:
                raise InputError("arch_columns are indices: give n_columns too, or a boolean mask")
            if not np.isin(columns, np.arange(n_columns)).all():
                raise InputError(f"arch_columns are {columns.tolist()}; allowed: 0 to {n_columns - 1}")
            columns = np.isin(np.arange(n_columns), columns)
        if columns.ndim != 1 or not columns.any():
            raise InputError("arch_columns must name at least one column")
        self.arch_columns = columns
        # To the Gaussian processes, architecture and recipe matter the same at first, however many columns each has.
        recipe = int((~columns).sum())
        self._weights = np.where(columns, 1.0, np.sqrt(columns.sum() / recipe) if recipe else 1.0)
        self.seed = check_seed(seed, LEAST_SEED)
        self.settings = settings or PredictorSettings()
        self._proxy: Proxy | None = None
        self._heads: list[GaussianProcessHead] | list[NetworkHead] = []
        self._sources: list[GaussianProcessHead] = []

    @plain_defaults()
    def pretrain(self, x_arch: Floats, labels: Floats) -> None:
        """Train encoder and proxy head on free labels (section 3.2). What the other methods learnt is forgotten.

        Args:
            x_arch: the architecture columns only [n, number of arch_columns].
            labels: statistics of the architectures [n, k] in any units; they are standardised inside.

        Raises:
            InputError: shapes that do not fit, or values that are not finite.
        """
        x, y = self._check_arch(x_arch), _check(labels, None, np.float64)
        if len(x) != len(y):
            raise InputError(f"pretrain: {len(x)} rows of x_arch but {len(y)} of labels")
        self._proxy = pretrain(x, y, self.settings, self.seed)
        self._heads, self._sources = [], []

    @plain_defaults()
    def start_from(self, sources: Sequence[tuple[Floats, Floats]]) -> None:
        """Learn from earlier searches, which the paper does not do. What `fit` learnt is forgotten.

        What a source predicts becomes one more column for `fit`, which uses these columns as far as they help.

        Args:
            sources: of every search the encoded pairs [n, columns], and their accuracies in percentage points [n].

        Raises:
            InputError: shapes that do not fit, values that are not finite, or a head that is a network.
        """
        if self.settings.head != "kernel":
            raise InputError(
                "a predictor whose head is a network cannot start from earlier searches; choose the head kernel"
            )
        pairs = [self._check_pairs("start_from", x, y) for x, y in sources]
        self._heads, self._sources = [], []
        # One member is enough: only its mean is used.
        fitted = [GaussianProcessHead.fit_members(self._groups(x), y.numpy(), 1, self.seed)[0] for x, y in pairs]
        self._sources = fitted

    @plain_defaults()
    def predict_sources(self, x: Floats) -> npt.NDArray[np.float64]:
        """Return how good each source thinks that candidates are, as standardised numbers [sources, n]."""
        if not self._sources:
            raise InputError("predict_sources needs sources: call start_from first")
        columns = self._source_columns(self._own_groups(_check(x, len(self.arch_columns))))
        return np.ascontiguousarray(columns.T)

    @plain_defaults()
    def predict_labels(self, x_arch: Floats) -> npt.NDArray[np.float64]:
        """Return the statistics [n, k] that the proxy head predicts, in the units of `pretrain`'s labels (Figure 4a and b)."""
        if self._proxy is None:
            raise InputError("predict_labels needs a pretrained predictor: call pretrain first")
        return self._proxy.labels(self._check_arch(x_arch)).numpy()

    @plain_defaults()
    def fit(self, x: Floats, y: Floats, variance: Floats | None = None) -> None:
        """Train the accuracy head (section 3.3).

        It starts from the pretrained encoder every time (from none without `pretrain`). So the result depends on the seed and
        the data alone, and not on earlier calls.

        Args:
            x: encoded pairs [n, columns].
            y: accuracies in percentage points [n].
            variance: known variance of every accuracy, in points squared, besides the noise of a training [n]: for an accuracy
                that was extrapolated. Only Gaussian processes take it into account.

        Raises:
            InputError: shapes that do not fit, or values that are not finite.
        """
        inputs, target = self._check_pairs("fit", x, y)
        if self.settings.head == "kernel":
            known = None if variance is None else _check(np.reshape(variance, (-1, 1)), 1, np.float64)[:, 0].numpy()
            if known is not None and len(known) != len(target):
                raise InputError(f"fit: {len(target)} accuracies but {len(known)} of variance")
            self._heads = GaussianProcessHead.fit_members(
                self._groups(inputs), target.numpy(), self.settings.members, self.seed, known
            )
        else:
            arch, recipe = self._split(inputs)
            start = self._proxy.encoder if self._proxy else None
            self._heads = [
                NetworkHead.fit(arch, recipe, target.float(), start, self.settings, (self.seed * 1000 + member) % 2**64)
                for member in range(self.settings.members)
            ]

    @plain_defaults()
    def predict(self, x: Floats, noisy: bool = False) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return mean and std of the predicted accuracy in percentage points, each [n].

        The variance is the variance of the members' means, plus, with Gaussian processes, their mean variance.

        Args:
            noisy: return the std of a single training, with its noise, and not that of the expected accuracy. Networks do not
                know the noise.
        """
        means, variances = self._predict(x, noisy)
        return means.mean(0), np.sqrt(means.var(0) + variances.mean(0))

    @plain_defaults()
    def predict_members(self, x: Floats) -> npt.NDArray[np.float64]:
        """Return the accuracy that every member of the ensemble predicts [members, n]."""
        return self._predict(x)[0]

    def rougher(self, members: int) -> AccuracyPredictor:
        """Return this predictor with its first members alone, which predicts faster."""
        part = copy.copy(self)
        part._heads = self._heads[:members]
        return part

    @plain_defaults()
    def draw(self, x: Floats, n: int, seed: int, noisy: bool = False) -> npt.NDArray[np.float64]:
        """Return joint draws of the predicted accuracies of rows [n, rows]: what they may be together, given what was learnt.

        Of networks, every draw is the prediction of one member. Gaussian processes draw from the posterior.

        Args:
            noisy: draw the accuracies of single trainings, with their noise, instead of their expectations. Networks do not
                know the noise, so they have none.
        """
        inputs, rng = _check(x, len(self.arch_columns)), np.random.default_rng(seed)
        heads = [head for head in self._heads if isinstance(head, GaussianProcessHead)]
        if not heads:
            return self.predict_members(x)[np.arange(n) % len(self._heads)]
        groups = self._groups(inputs)
        sizes = [len(part) for part in np.array_split(np.arange(n), len(heads))]
        return np.concatenate([head.draw(groups, size, rng, noisy) for head, size in zip(heads, sizes, strict=True)])

    @plain_defaults()
    def save(self, path: str | Path) -> None:
        """Write everything that `load` needs to a `.safetensors` file, completely or not at all.

        Raises:
            InputError: another suffix, or a file that cannot be written.
        """
        _check_suffix(path)
        header = {
            "kind": KIND,
            "schema": SCHEMA,
            "arch_columns": self.arch_columns.tolist(),
            "seed": self.seed,
            "settings": dataclasses.asdict(self.settings),
            "pretrained": self._proxy is not None,
            "fitted": bool(self._heads),
            "sources": len(self._sources),
        }
        tensors = self._proxy.to_tensors() if self._proxy else {}
        for i in range(len(self._heads)):
            tensors |= self._heads[i].to_tensors(f"member{i}.")
        for i, source in enumerate(self._sources):
            tensors |= source.to_tensors(f"source{i}.")
        # safetensors refuses tensors that share memory, and a file without tensors.
        tensors = {key: value.clone() for key, value in tensors.items()} | {"end": torch.zeros(1)}
        write_tensors(path, tensors, header)

    @classmethod
    @plain_defaults()
    def load(cls, path: str | Path) -> AccuracyPredictor:
        """Read the predictor of a file that `save` wrote. Its predictions are equal to the last bit.

        Raises:
            InputError: no such file, a damaged one, one of another program, or a schema that this version does not read.
        """
        _check_suffix(path)
        tensors, header = read_tensors(path)
        if not isinstance(header, dict) or header.get("kind") != KIND:
            raise InputError(f"{path} holds no accuracy predictor; give a file that AccuracyPredictor.save wrote")
        if header.get("schema") not in (*EARLIER, SCHEMA):
            raise InputError(
                f"{path}: schema is {quote(header.get('schema'))}; this version reads {EARLIER[0]} to {SCHEMA}: fit it "
                "again, or load it with the version of fbnetv3 that wrote it"
            )
        settings = read(PredictorSettings, header.get("settings"), f"{path}: settings")
        # Copies, because torch aligns their memory as it does after a fit. With another alignment, sums round differently.
        tensors = {key: value.clone() for key, value in tensors.items()}
        try:
            self = cls(np.array(header["arch_columns"], bool), seed=header["seed"], settings=settings)
            if header["schema"] == UNWEIGHTED:
                self._weights = np.ones(len(self.arch_columns))
            columns = (int(self.arch_columns.sum()), int((~self.arch_columns).sum()))
            if header["pretrained"]:
                self._proxy = Proxy.from_tensors(tensors, columns[0], settings)
            sources = [f"source{i}." for i in range(header["sources"])]
            self._sources = [GaussianProcessHead.from_tensors(tensors, source) for source in sources]
            members = [f"member{i}." for i in range(settings.members)] if header["fitted"] else []
            if settings.head == "kernel":
                self._heads = [GaussianProcessHead.from_tensors(tensors, member) for member in members]
            else:
                self._heads = [NetworkHead.from_tensors(tensors, member, columns, settings) for member in members]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (KeyError, RuntimeError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(
                f"{path} is damaged: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        return self

    def _predict(self, x: Floats, noisy: bool = False) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the means of the members and the variances around them, each [members, n]."""
        if not self._heads:
            raise InputError("predict needs a fitted predictor: call fit first")
        inputs = _check(x, len(self.arch_columns))
        if isinstance(self._heads[0], GaussianProcessHead):
            groups = self._groups(inputs)
            pairs = [head.predict(groups, noisy) for head in self._heads if isinstance(head, GaussianProcessHead)]
            return np.stack([mean for mean, _ in pairs]), np.stack([variance for _, variance in pairs])
        arch, recipe = self._split(inputs)
        means = torch.stack([head.predict(arch, recipe) for head in self._heads if isinstance(head, NetworkHead)])
        return means.double().numpy(), np.zeros(means.shape)

    def _groups(self, inputs: Tensor) -> list[npt.NDArray[np.float64]]:
        """Return what Gaussian processes see of candidates: their own groups, and what the sources think of them."""
        own = self._own_groups(inputs)
        return own + ([self._source_columns(own)] if self._sources else [])

    def _own_groups(self, inputs: Tensor) -> list[npt.NDArray[np.float64]]:
        """Return the columns of candidates, and the statistics that the proxy head predicts."""
        statistics = [self._proxy.targets(self._split(inputs)[0]).double().numpy()] if self._proxy else []
        return [inputs.double().numpy() * self._weights, *statistics]

    def _source_columns(self, own: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return np.stack([source.standing(own) for source in self._sources], axis=1)

    def _split(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.from_numpy(self.arch_columns)
        return inputs[:, mask], inputs[:, ~mask]

    def _check_pairs(self, what: str, x: Floats, y: Floats) -> tuple[Tensor, Tensor]:
        inputs = _check(x, len(self.arch_columns))
        target = _check(np.reshape(np.asarray(y), (-1, 1)), 1, np.float64)[:, 0]
        if len(inputs) != len(target):
            raise InputError(f"{what}: {len(inputs)} rows of x but {len(target)} of y")
        return inputs, target

    def _check_arch(self, x_arch: Floats) -> Tensor:
        return _check(x_arch, int(self.arch_columns.sum()))


def _check(values: npt.ArrayLike, columns: int | None, dtype: type = np.float32) -> Tensor:
    try:
        array: npt.NDArray[Any] = np.asarray(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected an array of numbers [n >= 1, {columns or 'k'}]: {error}") from error
    if array.ndim != 2 or not array.size or (columns is not None and array.shape[1] != columns):
        raise InputError(f"expected an array [n >= 1, {columns or 'k'}], got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InputError("the array holds values that are not finite")
    return torch.from_numpy(np.ascontiguousarray(array))


def _check_suffix(path: str | Path) -> None:
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path}: a predictor's file ends in .safetensors")
