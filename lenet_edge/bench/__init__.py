"""Benchmarks: latency, memory and energy of inference, measured in fresh processes."""
