"""The errors this package raises on purpose.

    LenetEdgeError            the base: "what is wrong; how to fix it", in one line
    ├── UsageError            arguments that contradict each other
    ├── DataError             images, labels or a data set that cannot be used
    ├── ModelFileError        a model file or its manifest that cannot be used
    ├── TargetError           a target that cannot run here, or not this file
    │   └── MissingPackageError   its package is not installed; names the pip line
    ├── BoardError            a board that cannot be reached, or cannot do what was asked
    └── WorkerError           a worker process crashed, hung or answered rubbish

Only ``lenet_edge.cli`` turns them into a line on the terminal and an exit status.
"""

from __future__ import annotations


class LenetEdgeError(Exception):
    """Say what is wrong and how to fix it, in one line a user can act on."""


class UsageError(LenetEdgeError):
    """Arguments contradict each other; a command ends with exit status 2."""


class DataError(LenetEdgeError):
    """Images, labels or a data set cannot be used."""


class ModelFileError(LenetEdgeError):
    """A model file, or the manifest beside it, cannot be used."""


class TargetError(LenetEdgeError):
    """A target cannot run on this machine, or cannot run this file."""


class MissingPackageError(TargetError):
    """The package behind a command or a target is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install 'lenet-edge[{extra}]'"
        )


class WorkerError(LenetEdgeError):
    """A worker process crashed, ran out of time or did not answer."""


class BoardError(LenetEdgeError):
    """A board cannot be reached, or cannot do what was asked of it."""
