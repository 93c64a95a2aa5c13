"""NARS, Algorithm 1 of the paper.

`algorithm.nars` is the whole algorithm on one page. Stage 1 is in `pretrain`, stage 2 in `select`, `early_stopping` and
`batches`, stage 3 in `evolve`. `config.SearchConfig` holds the settings, `context.Context` what follows from them,
`proposal.Proposal` the answer.
"""
