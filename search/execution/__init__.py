"""Where the trainings of a search run: in this process, in several processes, or on a Ray cluster.

`settings.ExecutorSettings` chooses. An `executor.Executor` runs jobs; `images.ImageEvaluator` is what a job does by default,
and `torchrun.TorchrunEvaluator` does the same in several processes.
"""
