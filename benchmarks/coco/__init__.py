"""Detection: the costs, the speed and one real training of the detectors of `fbnetv3.detection`. All need detectron2.

Benchmarks: `cost`, `speed`, `voc100`.
"""
