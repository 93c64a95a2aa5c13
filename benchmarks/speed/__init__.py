"""Speed: this package side by side with other software, or with the least that the same work can cost.

Benchmarks: `inference`, `training_loop`, `data`, `costs`, `executors`. All of them need a machine that does nothing else.
"""
