"""The parts of one network of the space `micro`, counted independently of the latency table."""

from fbnetv3.search.space.latency import Part


def walk(arch):
    """Yield the parts in the order in which an image passes them, for 1 channel and 10 classes."""
    side = arch.resolution
    yield Part(0, 1, arch.stem.c, arch.stem.k, 0, arch.stem.s, 0, side)
    side, cin = -(-side // arch.stem.s), arch.stem.c
    for row in arch.rows:
        for i in range(row.n):
            s = row.s if i == 0 else 1
            yield Part(1, cin, row.c, row.k, row.e, s, int(row.se), side)
            side, cin = -(-side // s), row.c
    yield Part(2, cin, arch.head.c, 0, arch.head.e, 0, 0, side)
    yield Part(3, arch.head.c, 10, 0, 0, 0, 0, 0)
