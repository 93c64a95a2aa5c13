"""Which class of a network every class of some images is. Names decide, not their order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fbnetv3.errors import InputError, quote
from fbnetv3.networks.classifier import class_names
from fbnetv3.networks.weight_file import IMAGENET, listed


@dataclass(frozen=True)
class ClassMatch:
    """The classes of a network, and for each class of the data its number there.

    Attributes:
        note: what a user should know about it; empty if both have the same classes in the same order.
    """

    classes: tuple[str, ...]
    labels: tuple[int, ...]
    note: str = ""


def match_classes(weights: str, network: tuple[str, ...] | str, spec: str, data: tuple[str, ...]) -> ClassMatch:
    """Return which class of a network every class of some data is.

    Classes of ImageNet may be named by synset (`n01440764`), by number, or by a name that no two of them have. If the weights
    number their classes, and the names do not match, the order of the data counts.

    Args:
        weights: where the network is from, for the messages.
        network: its classes, as a weight file has them.
        spec: where the data is from, for the messages.

    Raises:
        InputError: the network does not have all classes of the data.
    """
    names = class_names(network)
    if names == data:
        return ClassMatch(names, tuple(range(len(names))))
    known = imagenet_numbers() if network == IMAGENET else {name: k for k, name in enumerate(names)}
    lacking = [name for name in data if name not in known]
    if not lacking:
        labels = tuple(known[name] for name in data)
        return ClassMatch(names, labels, _note(weights, names, spec, labels))
    if len(names) == len(data) and names == tuple(map(str, range(len(names)))):
        note = f"the classes of {weights} have no names; they are taken in the order of {spec}: {quote(data)}"
        return ClassMatch(data, tuple(range(len(data))), note)
    what = "ImageNet's 1000 classes" if network == IMAGENET else f"the classes {quote(names)}"
    raise InputError(
        f"{weights} has {what}, and {len(lacking)} of the {len(data)} classes of {spec} are not among them: "
        f"{listed([quote(name) for name in lacking])}; rename these folders, or give the data of the weights' classes"
    )


def imagenet_numbers() -> dict[str, int]:
    """Return ImageNet's numbers of its classes, by synset, by number, and by every name that no two classes have."""
    from timm.data import ImageNetInfo

    # Synsets are the names of ImageNet itself; many smaller sets name their folders by the number of the class.
    names = class_names(IMAGENET)
    twice = {name for name, count in Counter(names).items() if count > 1}
    synsets = ImageNetInfo().label_names()
    unique = {name: k for k, name in enumerate(names) if name not in twice}
    return {**unique, **{name: k for k, name in enumerate(synsets)}, **{str(k): k for k in range(len(synsets))}}


def _note(weights: str, names: tuple[str, ...], spec: str, labels: tuple[int, ...]) -> str:
    """Return what differs between the classes of a network and those of data, all of which it has."""
    if len(labels) < len(names):
        return (
            f"{spec} has {len(labels)} of the {len(names)} classes of {weights}; its images may be given any of these"
        )
    if labels == tuple(range(len(names))):  # the data has other names for them
        return ""
    return f"the classes of {spec} are in another order than those of {weights}; they are matched by name"
