"""Verification: comparison of an artifact on a target with the float model."""
