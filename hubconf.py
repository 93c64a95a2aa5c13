"""torch.hub reads this: the packages that the entry points need, and the entry points."""

dependencies = ["torch"]

from fbnetv3.hub.entrypoints import (  # noqa: E402, F401
    fbnetv3_a,
    fbnetv3_a0,
    fbnetv3_b,
    fbnetv3_c,
    fbnetv3_d,
    fbnetv3_e,
    fbnetv3_f,
    fbnetv3_g,
)
