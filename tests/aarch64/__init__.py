"""Programs for 64-bit Arm, which run in an emulator."""
