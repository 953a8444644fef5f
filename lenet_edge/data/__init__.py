"""Images and labels, with NumPy alone: a board has nothing more."""
