"""The paper's numbers: what the paper prints, and which of it is measured here.

`reproduce.report` lists every number with its status, `numbers.load_paper` reads the numbers. Benchmarks: `zoo_cost`,
`space_sizes`.
"""
