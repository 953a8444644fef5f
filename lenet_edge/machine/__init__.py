"""Facts about the machine: its description, its current conditions, and ELF architectures."""
