"""Tables of trainings that tests share: one that can be read by hand, and grids of any size."""

import csv

import numpy as np

HEADER = "arch.depth,arch.kernel,recipe.lr,label.flops,label.params,label.ms,note.who,acc1.1,acc1.2"
# The second and the fourth line are two trainings of one candidate. The fifth training was stopped early, the last diverged.
LINES = (
    "2,k3,0.1,200,20,1.5,x,40,60",
    "1,k3,0.1,100,10,0.5,y,30,50",
    "2,k5,0.05,300,30,2,x,50,70",
    "1,k3,0.1,100,10,0.5,z,32,54",
    "1,k5,0.1,150,10,0.5,z,33,",
    "1,k5,0.05,150,10,0.5,z,,",
)


def write(path, lines=LINES, header=HEADER):
    """Write a table; return its path as a text."""
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def changed(line, column, value):
    """The lines of the table with another cell in one of them."""
    cells = LINES[line].split(",")
    cells[HEADER.split(",").index(column)] = value
    return [*LINES[:line], ",".join(cells), *LINES[line + 1 :]]


def whole_grid(path, sizes=(4, 4, 4), noise=0.0, keep=1.0):
    """Write a table of all combinations of three ranges, or of a share of them, where more is better; return its path."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch.a", "arch.b", "recipe.c", "label.flops", "label.params", "acc1"])
        for row in np.indices(sizes).reshape(len(sizes), -1).T.tolist():
            if rng.random() < keep:
                acc1 = 50 + 2 * sum(row) + noise * rng.normal()
                writer.writerow([*row, 100 + 10 * row[0] + 5 * row[1], 10 + row[1], acc1])
    return str(path)
