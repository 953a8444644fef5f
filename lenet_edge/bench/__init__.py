"""Bench: how long one inference takes, measured so that the figure can be trusted."""
