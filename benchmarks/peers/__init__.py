"""LeNet on every engine that is installed."""
