"""What can be searched, and what it costs.

`reader.load_space` returns a `space.SearchSpace`: a `network_space.NetworkSpace` of a YAML file in `spaces/`, or a
`table.TableSpace` of trainings. `constraints` samples candidates inside resource limits, `costs` and `latency` count what
they cost, `encoding.encode` makes them the predictor's input, `screen.screen` finds the best of millions, `audit.audit` says
what a space holds.
"""
