"""Detection of the Vulkan loader and of a GPU driver for it."""

from __future__ import annotations

import ctypes.util
import os
from pathlib import Path

# Source: the Vulkan loader's "Driver Discovery on Linux".
_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES")
_FOLDERS = ("/etc", "/usr/local/etc", "/usr/local/share", "/usr/share", "~/.local/share")


def absence() -> str | None:
    """Return why Vulkan cannot work on this machine, or None if that needs a trial."""
    if not ctypes.util.find_library("vulkan"):
        return "there is no Vulkan loader; install libvulkan1 and the GPU's Vulkan driver"
    is_configured = any(os.environ.get(name) for name in _VARIABLES)
    folders = (Path(os.path.expanduser(folder)) / "vulkan" / "icd.d" for folder in _FOLDERS)
    if not is_configured and not any(list(folder.glob("*.json")) for folder in folders):
        return "there is no Vulkan driver; install the GPU's driver (Debian: mesa-vulkan-drivers)"
    return None
