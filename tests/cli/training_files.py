"""Recipes, a custom network, and the arguments of a training on a folder of images."""

RECIPE = "optimizer: sgd\nlr: 0.05\nepochs: 3\nbatch_size: 5\nlr_decay: 0.7\n"
NOISY = RECIPE + "mixup: 0.2\ndropout: 0.2\nema: true\nema_decay: 0.8\naugmentation: resized_crop_flip\n"
OWN = """
import os, time
from torch import nn

PAUSE = float(os.environ.get("PAUSE", "0"))

class Net(nn.Sequential):
    def forward(self, x):
        time.sleep(PAUSE if self.training else 0)
        return super().forward(x)

def net(num_classes, in_chans, norm=True):
    between = [nn.BatchNorm2d(6)] if norm else []
    layers = [nn.Conv2d(in_chans, 6, 3, 2), *between, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return Net(*layers, nn.Linear(24, num_classes))

def plain(num_classes, in_chans):
    return net(num_classes, in_chans, norm=False)

def wide(num_classes, in_chans):
    return Net(nn.Conv2d(in_chans, 6, 16), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, num_classes))
"""


def arguments(animals, model="nets_here:net", out="run", recipe="recipe.yaml"):
    return (
        "train",
        "--model",
        model,
        "--recipe",
        recipe,
        "--data",
        animals,
        "--resolution",
        16,
        "--out",
        out,
        "--json",
    )
