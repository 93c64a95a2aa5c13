"""A search with a function of your own, here a plain PyTorch loop on some of the package's images.

fbnetv3 search run --evaluator my_search:evaluate --out DIR      (in the folder of this file)
"""

import time

import torch
from torch.nn import functional as F

from fbnetv3 import build_model
from fbnetv3.search import Outcome
from fbnetv3.training.data import load_data


def evaluate(candidate, epochs, seed):
    """Train `candidate.arch` with `candidate.recipe` for some epochs; return the accuracy in percent after each of them."""
    start, data, recipe = time.monotonic(), load_data("fashion_mnist"), candidate.recipe
    images, labels = data.train.images[:1000] / 255, data.train.labels[:1000]
    torch.manual_seed(seed)  # the same arguments give the same accuracies
    model = build_model(candidate.arch, num_classes=10, in_chans=1)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, 0.9, weight_decay=recipe.weight_decay)
    accuracies = []
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = model(data.val.images[:500] / 255).argmax(1) == data.val.labels[:500]
        accuracies.append(100 * right.float().mean().item())
    return Outcome(tuple(accuracies), "ok", time.monotonic() - start)
