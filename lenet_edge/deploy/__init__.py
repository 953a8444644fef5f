"""Deployment to a board: bundles, wheels, the SSH connection, and the program on the board."""
