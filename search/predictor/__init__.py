"""The accuracy predictor of section 3.1. It works on plain arrays.

`model.AccuracyPredictor` is the predictor, `settings.PredictorSettings` says of what it is made, and
`diagnostics.held_out_statistics` how well its pretraining went.
"""
