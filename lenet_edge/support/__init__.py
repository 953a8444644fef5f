"""Helpers without domain knowledge: files, locks, .npz files, JSON and terminal-safe text."""
