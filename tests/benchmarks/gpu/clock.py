"""A card whose trainings take no time: they move a clock that takes the place of the module `time`."""

import threading

from fbnetv3.search.trial import Outcome


class Card:
    """Trainings by seconds of an epoch of each network, and what they add to the clock.

    Attributes:
        trained: what was trained so far: network, learning rate, epochs, split.
    """

    def __init__(self, epochs, fixed=0.0, accuracy=lambda training, epochs: 50.0):
        self.epochs, self.fixed, self.accuracy = epochs, fixed, accuracy
        self.now, self.trained, self.lock = 0.0, [], threading.Lock()

    def monotonic(self):
        return self.now

    def pool(self, name):
        return Pool(self, name)


class Pool:
    """The processes of one network on the card."""

    limit = None

    def __init__(self, card, name):
        self.card, self.name = card, name

    def run(self, jobs):
        for key, job in jobs.items():
            training, epochs = job.candidate, job.epochs
            with self.card.lock:
                card = self.card
                seconds = card.fixed + epochs * card.epochs[self.name] / training.every
                late = self.limit is not None and seconds > self.limit
                card.now += self.limit if late else seconds
                card.trained.append((self.name, training.recipe.lr, epochs, training.split))
                acc1 = card.accuracy(training, epochs)
            if late or acc1 is None:
                yield key, Outcome((), "failed", seconds, "too late" if late else "no memory")
            else:
                yield key, Outcome((acc1,) * epochs, "ok", seconds)
