"""The former place of the weight files of `fbnetv3.networks`, kept because scripts outside of the package import it."""

from fbnetv3.networks.weight_file import WeightFile, read_weight_file, write_weight_file

__all__ = ["WeightFile", "read_weight_file", "write_weight_file"]
