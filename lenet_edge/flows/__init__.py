"""Combinations of stages, for the command line and the Python API."""
