"""Documentation: the tables and figures of README.md and docs/ that are made from result files.

Run in a checkout: `python -m fbnetv3.benchmarks.docs.generated` writes the tables, and
`python -m fbnetv3.benchmarks.docs.figures --out docs/figures` draws the figures. `pages.PAGES` says which table stands where.
"""
