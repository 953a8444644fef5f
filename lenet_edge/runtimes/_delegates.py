"""External TFLite delegates: finding one, loading it, and saying why it cannot be."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lenet_edge.errors import TargetError
from lenet_edge.machine.elf import elf_architecture, python_architecture
from lenet_edge.target import Target

# By the name that people give them; each is found where the dynamic linker looks.
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
    """Return the library that `name`, a shortcut or a path, stands for.

    Raises:
        TargetError: there is no such file, it is built for another machine, or is no delegate.
    """
    library = SHORTCUTS.get(name, name)
    path = Path(library)
    if path.is_file():
        library = str(path.resolve())
        _check_machine(path)
    elif name not in SHORTCUTS:
        raise TargetError(
            f"{name}: no such file; --delegate takes a TFLite delegate's .so file, or one of"
            f" {', '.join(SHORTCUTS)}"
        )
    return library


def _check_machine(path: Path) -> None:
    """Tell a library of another architecture, of which the linker says that it does not exist."""
    built_for, wanted = elf_architecture(path), python_architecture()
    if built_for is None:
        raise TargetError(f"{path} is no shared library; give a TFLite delegate's .so file")
    if built_for != wanted:
        raise TargetError(f"{path} is built for {built_for}, and this Python is for {wanted};"
                          " get the library for this machine")  # fmt: skip


def load(target: Target, load_delegate: Callable[..., Any]) -> list[Any]:
    """Return the external delegate that a target names, loaded; an empty list where it names none.

    Raises:
        TargetError: the library cannot be loaded, is no delegate, or finds no device.
    """
    if target.library is None:
        return []
    name = Path(target.library).name
    try:
        if not hasattr(ctypes.CDLL(target.library), _ENTRY):
            raise TargetError(
                f"{name} is a library but no TFLite delegate: it lacks {_ENTRY}; give the"
                " delegate's own .so file"
            )
        return [load_delegate(target.library, dict(target.options))]
    except OSError as error:  # the linker's own words name what is missing
        raise TargetError(
            f"the delegate {name} cannot be loaded: {_one_line(error)}; install it, or what it"
            " needs"
        ) from error
    except ValueError as error:
        said = _one_line(error).removeprefix(f"Failed to load delegate from {target.library}")
        raise TargetError(
            f"the delegate {name} found no device, or cannot use it:"
            f" {said.strip() or 'it gives no reason'}; check the device, its driver and its"
            " permissions"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
