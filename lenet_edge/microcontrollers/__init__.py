"""Microcontrollers: bare-metal programs of networks in C, and QEMU's boards that execute them.

`cores` lists the Cortex-M cores, `toolchain` finds a compiler, `program` builds a program, and
`emulator` executes it. start.c, runner.c and link.ld are the program around a network.
"""
