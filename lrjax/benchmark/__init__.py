"""What a training step costs: lrjax's program against a plain dense one in JAX and an eager loop in PyTorch, on the same work.

`counts` says what a step must compute and move, by hand; `dense` and `eager` are the two baselines; `measure` holds the clocks,
the measured ceilings of the machine and the table. `experiments/benchmark.py` prints it.
"""
