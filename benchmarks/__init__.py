"""Benchmarks of this project, and their recorded results."""
