"""What a training sees: images of any source, read or held in memory, shuffled and augmented the same way."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.training.data.device import on_device as on_device
    from fbnetv3.training.data.load import load_data as load_data
    from fbnetv3.training.data.memory import ImageData as ImageData
    from fbnetv3.training.data.memory import Split as Split
    from fbnetv3.training.data.packaged import fashion_mnist as fashion_mnist
    from fbnetv3.training.data.packaged import load_images as load_images
    from fbnetv3.training.data.protocol import Batch as Batch
    from fbnetv3.training.data.protocol import Data as Data
    from fbnetv3.training.data.readers import ReaderData as ReaderData

_MODULES = {
    "Batch": "fbnetv3.training.data.protocol",
    "Data": "fbnetv3.training.data.protocol",
    "ImageData": "fbnetv3.training.data.memory",
    "ReaderData": "fbnetv3.training.data.readers",
    "Split": "fbnetv3.training.data.memory",
    "fashion_mnist": "fbnetv3.training.data.packaged",
    "load_data": "fbnetv3.training.data.load",
    "load_images": "fbnetv3.training.data.packaged",
    "on_device": "fbnetv3.training.data.device",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
