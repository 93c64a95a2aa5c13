"""Networks with what belongs to them: any network by its name, weight files that describe themselves, and classifiers."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.networks.classifier import Classifier as Classifier
    from fbnetv3.networks.named import NamedNetwork as NamedNetwork
    from fbnetv3.networks.named import find_network as find_network
    from fbnetv3.networks.resnets import build_resnet as build_resnet
    from fbnetv3.networks.weight_file import WeightFile as WeightFile
    from fbnetv3.networks.weight_file import read_weight_file as read_weight_file
    from fbnetv3.networks.weight_file import write_weight_file as write_weight_file

_MODULES = {
    "Classifier": "fbnetv3.networks.classifier",
    "NamedNetwork": "fbnetv3.networks.named",
    "WeightFile": "fbnetv3.networks.weight_file",
    "build_resnet": "fbnetv3.networks.resnets",
    "find_network": "fbnetv3.networks.named",
    "read_weight_file": "fbnetv3.networks.weight_file",
    "write_weight_file": "fbnetv3.networks.weight_file",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
