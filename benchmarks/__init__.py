"""Benchmarks: what is timed, and the results that were kept."""
