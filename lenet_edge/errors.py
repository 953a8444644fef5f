"""Errors that this package raises.

    LenetEdgeError            base class; the message is one line, "what is wrong; how to fix it"
    ├── UsageError            arguments that contradict each other
    ├── DataError             images, labels or a data set are invalid
    ├── ModelFileError        a model file or its manifest is missing or invalid
    │   └── StaleManifestError    a manifest describes an earlier content of its file
    ├── TargetError           a target cannot run on this machine, or cannot run this file
    │   └── MissingPackageError   a package is not installed; the message has the pip command
    ├── BoardError            a board cannot be reached, or a step on it failed
    └── WorkerError           a worker crashed or sent an invalid reply
        └── WorkerTimeoutError    a worker did not finish in time

``lenet_edge.cli`` prints the message and sets the exit status.
"""

from __future__ import annotations

from lenet_edge.extras import install_advice


class LenetEdgeError(Exception):
    """Base class of all errors of this package.

    The message is one line that says what is wrong and how to fix it.
    """


class UsageError(LenetEdgeError):
    """Arguments contradict each other; a command ends with exit status 2."""


class DataError(LenetEdgeError):
    """Images, labels or a data set are invalid."""


class ModelFileError(LenetEdgeError):
    """A model file, or the manifest beside it, is missing or invalid."""


class StaleManifestError(ModelFileError):
    """A manifest describes an earlier content of its file."""


class TargetError(LenetEdgeError):
    """A target cannot run on this machine, or cannot run this file."""


class MissingPackageError(TargetError):
    """A package that a command or a target needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; {install_advice(extra)}")


class WorkerError(LenetEdgeError):
    """A worker crashed or sent an invalid reply."""


class WorkerTimeoutError(WorkerError):
    """A worker did not finish in time."""


class BoardError(LenetEdgeError):
    """A board cannot be reached, or a step on it failed."""
