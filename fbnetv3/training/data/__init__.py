"""What a training sees: images of any source, read or held in memory, shuffled and augmented the same way."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.training.data.device import on_device as on_device
    from fbnetv3.training.data.epoch import draw_epoch as draw_epoch
    from fbnetv3.training.data.load import load_data as load_data
    from fbnetv3.training.data.loaders import LoaderData as LoaderData
    from fbnetv3.training.data.loaders import wrap_loaders as wrap_loaders
    from fbnetv3.training.data.memory import ImageData as ImageData
    from fbnetv3.training.data.memory import Split as Split
    from fbnetv3.training.data.packaged import fashion_mnist as fashion_mnist
    from fbnetv3.training.data.packaged import load_images as load_images
    from fbnetv3.training.data.protocol import Batch as Batch
    from fbnetv3.training.data.protocol import Data as Data
    from fbnetv3.training.data.readers import ReaderData as ReaderData
    from fbnetv3.training.data.readers import train_transform as train_transform

_MODULES = {
    "Batch": "fbnetv3.training.data.protocol",
    "Data": "fbnetv3.training.data.protocol",
    "ImageData": "fbnetv3.training.data.memory",
    "LoaderData": "fbnetv3.training.data.loaders",
    "ReaderData": "fbnetv3.training.data.readers",
    "Split": "fbnetv3.training.data.memory",
    "draw_epoch": "fbnetv3.training.data.epoch",
    "fashion_mnist": "fbnetv3.training.data.packaged",
    "load_data": "fbnetv3.training.data.load",
    "load_images": "fbnetv3.training.data.packaged",
    "on_device": "fbnetv3.training.data.device",
    "train_transform": "fbnetv3.training.data.readers",
    "wrap_loaders": "fbnetv3.training.data.loaders",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
