"""What is kept: the working directory of a sweep, checkpoints, results with their records."""
