"""The search: what NARS and its parts gain, on trainings, on tables of trainings and on made-up accuracies.

`landscapes.Oracle` is the made-up accuracy. Benchmarks: `compare`, `predictor`, `evolution`, `finalists`, `quickstart`,
`latency`, `collection`, `regenerate`.
"""
