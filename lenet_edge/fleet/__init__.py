"""Many boards at once, on Dask's scheduler: who is there, what each does, and who went away."""
