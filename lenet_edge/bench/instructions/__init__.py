"""Counts of the instructions that an inference of a C file executes, per layer.

`count` chooses the counter: `callgrind` for x86-64, `emulated` (QEMU) for Arm. `program` builds the
program to count, and `layers` tells which layer an instruction belongs to.
"""
