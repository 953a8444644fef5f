"""The machine: its description, its condition at a moment, and the architecture of a library."""
