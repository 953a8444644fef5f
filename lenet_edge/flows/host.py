"""Packages of the host, which a board does not have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lenet_edge.errors import LenetEdgeError, MissingPackageError

# Imported at the start of a training or an export.
HOST_PACKAGES = ("tensorflow", "keras", "onnx", "onnxruntime", "tf2onnx")


@contextlib.contextmanager
def host_packages() -> Iterator[None]:
    """Turn the failed import of a package of the host into an error that names the pip line.

    Raises:
        MissingPackageError: a package of the host is not installed.
        LenetEdgeError: this is a bundle for a board, without the modules of the host.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == "lenet_edge":  # a bundle for a board leaves out the modules of the host
            raise LenetEdgeError(
                "a bundle for a board cannot train or export; use the machine that made the bundle"
            ) from error
        if package not in HOST_PACKAGES:
            raise
        raise MissingPackageError(package, "host") from error
