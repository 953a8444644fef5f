"""Helpers without domain knowledge: files, locks, arrays in .npz files, and typed JSON."""
