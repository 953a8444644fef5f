"""Helpers without domain knowledge: files, locks, .npz files, quiet native code, typed JSON."""
