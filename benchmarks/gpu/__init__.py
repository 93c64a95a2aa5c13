"""Benchmarks that need a GPU. `run.sh` runs them on a GPU machine without network, and docs/gpu.md shows their results.

A benchmark of this room yields what it has measured after every case, so its result file is complete after every case. Its
cases run in the order of their value until the time is over. `cases.run_cases` does both.
"""
