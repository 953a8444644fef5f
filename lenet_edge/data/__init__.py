"""Data sets and images. These modules need only NumPy, because a board has nothing else."""
