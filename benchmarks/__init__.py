"""Benchmarks: what was measured here, with which command, and how it compares with the paper and with other software.

`catalogue.CATALOGUE` lists the benchmarks. A benchmark is one module with a `harness.Benchmark`, in the room of its purpose:
`paper`, `experiments`, `search`, `speed` or `coco`. `result.load_result` reads what a benchmark measured; the files are in
`results/`. The room `docs` writes the tables of README.md and docs/.
"""
