"""Fleets: many boards that run calls of this package, connected to one Dask scheduler."""
