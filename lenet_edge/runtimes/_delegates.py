"""External TFLite delegates: lookup of the library, loading, and causes of failure."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lenet_edge.errors import TargetError
from lenet_edge.machine.elf import elf_architecture, python_architecture
from lenet_edge.target import Target

# Common names of delegates. The dynamic linker finds the library.
SHORTCUTS = {
    "armnn": "libarmnnDelegate.so",
    "edgetpu": "libedgetpu.so.1",
    "ethosu": "libethosu_delegate.so",
    "qnn": "libQnnTFLiteDelegate.so",
    "teflon": "libteflon.so",
    "vx": "libvx_delegate.so",
}

_ENTRY = "tflite_plugin_create_delegate"


def find_library(name: str) -> str:
    """Return the path or file name of a delegate's library.

    Args:
        name: a key of `SHORTCUTS`, or the path of a library.

    Raises:
        TargetError: there is no such file, or it is not a shared library for this machine.
    """
    if name in SHORTCUTS:  # from the folders of the system, never from the current folder
        return SHORTCUTS[name]
    path = Path(name)
    if not path.is_file():
        raise TargetError(
            f"{name}: no such file; --delegate takes a TFLite delegate's .so file, or one of"
            f" {', '.join(SHORTCUTS)}"
        )
    _check_machine(path)
    return str(path.resolve())


def _check_machine(path: Path) -> None:
    """Raise a `TargetError` for a library of another architecture.

    The linker would only report that the file does not exist.
    """
    library, python = elf_architecture(path), python_architecture()
    if library is None:
        raise TargetError(f"{path} is not a shared library; give a TFLite delegate's .so file")
    if library != python:
        raise TargetError(f"{path} is built for {library}, and this Python is for {python};"
                          " get the library for this machine")  # fmt: skip


def load(target: Target, load_delegate: Callable[..., Any]) -> list[Any]:
    """Load the external delegate of a target and return it in a list, empty without a delegate.

    Args:
        target: the target; its `library` is the delegate.
        load_delegate: the function of the interpreter's package that loads a delegate.

    Raises:
        TargetError: the library cannot be loaded, is not a delegate, or finds no device.
    """
    if target.library is None:
        return []
    name = Path(target.library).name
    try:
        if not hasattr(ctypes.CDLL(target.library), _ENTRY):
            raise TargetError(
                f"{name} is a library but not a TFLite delegate: it lacks {_ENTRY}; give the"
                " delegate's own .so file"
            )
        return [load_delegate(target.library, dict(target.options))]
    except OSError as error:  # its message names the missing library
        raise TargetError(
            f"the delegate {name} cannot be loaded: {_one_line(error)}; install it, or the library"
            " that it needs"
        ) from error
    except ValueError as error:
        reason = _one_line(error).removeprefix(f"Failed to load delegate from {target.library}")
        raise TargetError(
            f"the delegate {name} found no device, or cannot use it:"
            f" {reason.strip() or 'it gives no reason'}; check the device, its driver and its"
            " permissions"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
