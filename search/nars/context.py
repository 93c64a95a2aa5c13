"""What the stages of a search share: configuration, space, base recipe, constraints, pool, seeds and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fbnetv3.errors import QUOTED_PATH, InputError, quote
from fbnetv3.search.execution.images import ImageEvaluator
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.custom import import_evaluator
from fbnetv3.search.nars.hopeless import Labels, labels_of
from fbnetv3.search.nars.sources import Source, check_source, read_source
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.reader import load_space, takes_from_data
from fbnetv3.search.space.space import IntMatrix, SearchSpace
from fbnetv3.search.trial import Evaluator, Trial, completed
from fbnetv3.training.data.protocol import search_images
from fbnetv3.training.data.shape import DataShape, data_shape
from fbnetv3.training.data.spec import content_id
from fbnetv3.training.recipe import Recipe

STEPS = 500  # of a training whose epochs are taken from the data; about twice as many as in the quickstart
LEAST_EPOCHS, MOST_EPOCHS = 2, 100


@dataclass(frozen=True)
class Context:
    """What the stages of a search share. Make it with `Context.of`."""

    config: SearchConfig
    space: SearchSpace
    base: Recipe
    data: str | None  # where the images are now; they may have been moved since the search began
    device: str  # what trainings run on now; it may be another device than the one that the search began with
    sources: tuple[Source, ...] = ()  # trainings of earlier searches
    shape: DataShape | None = None  # of the data, where the space or the number of epochs was taken from it

    @classmethod
    def of(
        cls, config: SearchConfig, sources: Sequence[Source] | None = None, space: SearchSpace | None = None
    ) -> Context:
        """Load what a configuration names, with numbers for what it takes from its data.

        Args:
            sources: by default those in the files that `config.warm_start` names.
            space: the space of the configuration, where it was loaded before.

        Raises:
            InputError: no such space or recipe, a damaged one, a recipe that cannot be stretched for the final training, a
                source of a space with other coordinates, or data that is not there, if something is taken from it.
        """
        taken = config.epochs == "data" or (space is None and takes_from_data(config.space))
        shape = data_shape(_named(config.data, config)) if taken else None
        space = space or load_space(config.space, shape)
        base = space.base_recipe(config.recipe)
        if shape is not None and config.epochs == "data":
            config = config.replace(epochs=epochs_for(shape.images, base.batch_size))
        if isinstance(config.epochs, int):
            base = base.lasting(config.epochs)
        base.stretched(config.final_stretch)  # a stretch that no recipe allows must not show after all trainings
        if sources is None:
            sources = [read_source(Path(name)) for name in config.warm_start]
        for source, name in zip(sources, config.warm_start, strict=True):
            check_source(source, space, name)
        return cls(config, space, base, config.data, config.device, tuple(sources), shape)

    @cached_property
    def constraints(self) -> ConstraintSet:
        """All constraints of the configuration.

        Raises:
            InputError: the latency table cannot be read, or does not fit the space.
        """
        config, latency = self.config, self.config.latency
        measured = () if latency is None else (latency.load(self.space),)
        return ConstraintSet(self.space, (config.constraint, *config.also), measured)

    def pool(self) -> IntMatrix:
        """Return the pool of Algorithm 1, `config.pool` different feasible index rows. It is drawn once.

        Raises:
            InputError: the space has too few feasible candidates.
        """
        return self._pool

    @cached_property
    def _pool(self) -> IntMatrix:
        return self.constraints.sample(self.config.pool, self.config.seed)

    def evaluator(self) -> Evaluator:
        """Return the evaluator that the configuration means: look-up in a table, a custom one, or trainings on its images.

        Raises:
            InputError: the custom evaluator cannot be imported; or the configuration names no data, or data that is not there
                or does not fit the space.
        """
        if not self.space.trainable:
            return self.space.evaluator()
        return import_evaluator(self.config.evaluator) if self.config.evaluator else image_evaluator(self)

    @property
    def own_final(self) -> bool:
        """Whether a custom evaluator also makes the final training: there are no images to make it on."""
        return self.config.evaluator is not None and self.data is None

    def trial_seed(self, round: int, index: int) -> int:
        """Return the seed of a training: a function of the search's seed and of the trial's place in the search."""
        return trial_seed(self.config.seed, round, index)

    def label(self, trial: Trial, epoch: int) -> float:
        """Return the accuracy of a trial after `epoch` epochs, or chance for a training that diverged."""
        return trial.acc1[epoch - 1] if trial.status == "ok" else self.chance

    def labels(self, trials: Sequence[Trial], epochs: int) -> Labels:
        """Return what the predictor learns from trials; see `labels_of`."""
        return labels_of(trials, epochs, self.chance, self.config.seed)

    def source(self, trials: Sequence[Trial], epochs: int) -> Source:
        """Return what other searches can learn from trials of this one.

        Args:
            epochs: after which the trials are compared. A trial that was shorter counts with its last accuracy: it was stopped
                because it was worse. One that a model of learning curves stopped counts with what the model expects of it.

        Raises:
            InputError: all trials failed.
        """
        used, accuracies, _ = self.labels(trials, epochs)
        if not used:
            raise InputError(f"all trainings of {self.config.name} failed: no search can start from it")
        candidates = [trial.candidate for trial in used]
        return Source.of(self.config.name, self.space, self.config.data, candidates, accuracies.tolist())

    def best_trial(self, trials: Sequence[Trial]) -> Trial:
        """Return the most accurate trial that was not stopped. Of equally accurate ones it is the earliest.

        A failed trial is returned only if all of them failed.
        """
        return max(completed(trials) or trials, key=lambda t: (self.label(t, t.epochs), -t.round, -t.index))

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in percent."""
        return 100.0 / (self.config.classes or self.space.num_classes)


def epochs_for(images: int, batch_size: int) -> int:
    """Return how many epochs a training on so many images has by default: about `STEPS` steps."""
    return min(max(round(STEPS * batch_size / images), LEAST_EPOCHS), MOST_EPOCHS)


def trial_seed(seed: int, round: int, index: int) -> int:
    """Return the seed of a training at a place in the search with this seed."""
    return int(np.random.SeedSequence([seed, round, index]).generate_state(1)[0])


def image_id(context: Context) -> str:
    """Return what identifies the images of a search, wherever they are. Its trials depend on them, but not on `test`."""
    return content_id(search_images(image_evaluator(context).images(max(context.space.resolutions))))


def image_evaluator(context: Context) -> ImageEvaluator:
    """Return the evaluator that trains on the data of a search.

    Raises:
        InputError: the search names no data, or data that is not there, does not fit the space, or has other images than those
            that the search began with.
    """
    config, space = context.config, context.space
    evaluator = ImageEvaluator(_named(context.data, config), context.device, config.precision, config.readers or 0)
    began = config.contents and config.contents.data
    try:
        data = evaluator.images(max(space.resolutions))
    except InputError as error:
        moved = "; if the images were moved, give their place with --data" if began else ""
        raise InputError(f"{error}{moved}") from None
    if began and content_id(search_images(data)) != began:
        raise InputError(
            f"{quote(context.data, QUOTED_PATH)} has other images than this search began with; give the place of those with "
            "--data"
        )
    channels, classes = data.transforms.in_chans, len(data.classes)
    if (space.in_chans, config.classes or space.num_classes) != (channels, classes):
        raise InputError(
            f"space {space.name} is for {space.in_chans} channels and {config.classes or space.num_classes} classes, "
            f"data {data.name} has {channels} and {classes}; choose a space for this data, such as a copy of this one with "
            "`in_chans: data` and `num_classes: data`"
        )
    return evaluator


def _named(data: str | None, config: SearchConfig) -> str:
    if data is None:
        raise InputError(f"{config.name} names no data: give --data (`fbnetv3 train --help` says what it takes)")
    return data
