"""Cortex-M microcontrollers in QEMU: networks as C, with their instructions, stack and flash."""
