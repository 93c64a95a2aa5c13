"""Experiments: the paper's comparisons of recipes and networks, at the scale of one machine and at full scale.

`config.load_experiment` reads what is trained. `imagenet` evaluates weights on ImageNet. Benchmarks: `experiment`, `cifar10`.
"""
