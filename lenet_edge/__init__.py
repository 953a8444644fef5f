"""Train LeNet, export it for the edge, prove each file is right, and time it."""

__version__ = "0.1.0"
