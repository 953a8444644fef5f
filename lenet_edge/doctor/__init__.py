"""Checks of a machine for its job. Each finding has a cause, a fix and a reference."""
