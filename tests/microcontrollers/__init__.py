"""Microcontrollers: the table of boards, and the memory that networks take."""
