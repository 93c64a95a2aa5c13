"""What the trainings of a zoo run on, and how many of them at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from fbnetv3.device import AUTO, find_count, named_device
from fbnetv3.search.execution.cards import Environment, placements


@dataclass(frozen=True)
class Resources:
    """What the trainings of a zoo run on."""

    device: str = AUTO
    # Networks that are trained at the same time, after the search; by default one, or `trials_per_gpu` on each GPU.
    at_once: int | None = None
    processes: int = 1  # of torchrun, for each of these networks
    # Processes that read image files, for every training; by default what the machine allows.
    readers: int | None = None
    trial_timeout: float | None = None  # seconds after which a training of the search that hangs is stopped
    trials_per_gpu: int = 1  # trainings that share a GPU

    @property
    def device_found(self) -> str:
        """`cpu`, `cuda` or `cuda:N`."""
        return named_device(self.device)

    @property
    def places(self) -> list[Environment]:
        """What is added to the environments of trainings that run at the same time.

        Raises:
            InputError: there are fewer GPUs than processes of a network.
        """
        places = placements(self.device_found, self.processes) * self.trials_per_gpu or [{}]
        count = self.at_once or len(places)
        return [places[i % len(places)] for i in range(count)]

    @property
    def train_options(self) -> list[str]:
        """Options of `fbnetv3 train` for every network."""
        sharing = len(self.places) * self.processes
        given = AUTO if self.readers is None else str(self.readers)
        readers = find_count("--readers", given, self.device_found, 0, sharing)
        return ["--device", self.device_found, "--workers", str(readers)]
