"""The list of all benchmarks. Reading it imports none of them, so that `fbnetv3 benchmark --help` is fast."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fbnetv3.benchmarks.harness import Benchmark


@dataclass(frozen=True)
class Entry:
    """One line of the list.

    Attributes:
        module: the module that defines the benchmark, below `fbnetv3.benchmarks`.
        about: what it measures, in one sentence.
    """

    module: str
    about: str

    @property
    def room(self) -> str:
        """The folder of the module."""
        return self.module.partition(".")[0]

    def load(self) -> Benchmark:
        """Import the module and return its benchmark."""
        benchmark: Benchmark = importlib.import_module(f"fbnetv3.benchmarks.{self.module}").BENCHMARK
        return benchmark


# The commands of `fbnetv3 benchmark`, and the one benchmark that is a command of `fbnetv3 search`.
COMPARE = Entry("search.compare", "Compare NARS with other methods of search at equal numbers of trainings.")
CATALOGUE = {
    "zoo-cost": Entry("paper.zoo_cost", "FLOPs and parameters of FBNetV3-A to G, counted on the built networks."),
    "space-sizes": Entry("paper.space_sizes", "Number of architectures and recipes in every search space."),
    "experiment": Entry(
        "experiments.experiment", "A table of the paper as an experiment: two recipes, swapped recipes, ..."
    ),
    "fine-tuning": Entry(
        "experiments.fine_tuning", "What fine-tuning gains over training from scratch, on real images."
    ),
    "cifar10": Entry("experiments.cifar10", "Accuracy against FLOPs on CIFAR-10, by the protocol of section 4.3."),
    "predictor": Entry("search.predictor", "The accuracy predictor against its rivals. Draws Figure 4."),
    "evolution": Entry("search.evolution", "The evolutionary search on landscapes whose best candidate is known."),
    "finalists": Entry("search.finalists", "What the training of finalists gains, on known accuracies."),
    "warm-start": Entry(
        "search.warm_start", "What a search gains that starts from an earlier one, related or misleading."
    ),
    "early-stopping": Entry(
        "search.early_stopping",
        "Epochs that a search needs for a regret, by its early stopping, against Optuna's pruners.",
    ),
    "asynchronous": Entry("search.asynchronous", "Time and regret of an asynchronous search, on a simulated clock."),
    "quickstart": Entry("search.quickstart", "The quickstart of this version against that of an earlier version."),
    "latency": Entry("search.latency", "Latencies from the latency table against those of whole networks."),
    "collection": Entry("search.collection", "The card of a table of one's own trainings: noise, variance, surrogate."),
    "regenerate": Entry("search.regenerate", "A zoo from nothing, at the scale of one machine."),
    "inference": Entry("speed.inference", "Speed of inference against timm's networks."),
    "loop-speed": Entry("speed.training_loop", "Speed of the training loop against a loop of timm's parts."),
    "data-speed": Entry("speed.data", "Speed of images in memory against Pillow images through a DataLoader."),
    "cost-speed": Entry("speed.costs", "Speed of the closed-form costs against fvcore."),
    "parallel": Entry("speed.executors", "Parallel efficiency of the search's executors with two workers."),
    "detection-cost": Entry("coco.cost", "The cost columns of Table 5. Needs detectron2."),
    "detection-speed": Entry(
        "coco.speed", "Speed of a detector against the same detector on timm's network. Needs detectron2."
    ),
    "detection-voc100": Entry("coco.voc100", "A detector fine-tuned on 80 photos. Needs detectron2."),
    "gpu-tests": Entry("gpu.tests", "The tests that need a GPU."),
    "gpu-inference": Entry("gpu.inference", "Speed of inference on a GPU, against timm's and the card's limits."),
    "gpu-training": Entry("gpu.training", "Speed of training on a GPU, with images on the card and from JPEG files."),
    "gpu-cifar10": Entry("gpu.cifar10", "Accuracy against FLOPs on CIFAR-10, trained on one GPU."),
    "gpu-search": Entry("gpu.search", "A search with several trials side by side on one GPU, against random search."),
}
