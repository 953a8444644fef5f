"""The commands in advice, so that they work where they are printed: on a host, or on a board.

The commands that install what an extra brings name the packages themselves. The name of an extra
would need lenet-edge on a package index, where it is not yet, and a bundle on a board is no
installed package.
"""

from __future__ import annotations

import platform
import struct
import sys
import sysconfig
from pathlib import Path

# The arguments of pip for each extra of pyproject.toml. A version stands where the newest does not
# work, or where an older one may be installed. A test compares both.
PACKAGES = {
    "litert": "ai-edge-litert",
    "tflite": "tflite-runtime 'numpy<2'",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "opencv": "'opencv-python-headless>=5'",
    "executorch": "executorch torch",
    "ncnn": "ncnn",
    "webgpu": "'onnxruntime>=1.24' onnxruntime-ep-webgpu",
    "npu": "'ai-edge-litert>=2.3' 'openvino>=2026.3.1,<2026.4'",
    "wasm": "wasmtime",
    "micro": "tflite-micro",
    "ethos-u": "ethos-u-vela",
    "predict": "pillow",
    "serve": "pillow tornado",
    "fleet": "cryptography distributed tomli",
    "host": (
        "ai-edge-litert flatbuffers litert-quantizer onnx onnxruntime tensorboard tensorflow"
        " tf2onnx"
    ),
    "search": "optuna",
    "mlflow": "'mlflow-skinny>=3.17' alembic sqlalchemy",
    "report": "jinja2 matplotlib pillow",
}


# Debian has all packages of these extras. It lacks at least one package of each other extra.
_DEBIAN = {
    "predict": "python3-pil",
    "serve": "python3-pil python3-tornado",
    "report": "python3-jinja2 python3-matplotlib python3-pil",
}
# Extras that are runtimes for boards, which deploy installs. A test compares them.
_DEPLOYABLE = ("litert", "tflite", "onnx", "opencv", "ncnn")
_PACKAGE = Path(__file__).parent


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra into this environment.

    Where pip cannot do that, the command is for apt, a virtual environment, or the host.
    """
    if extra in _DEPLOYABLE and _is_made_by_deploy():
        return f"lenet-edge deploy HOST --runtime {extra}, on the host"
    return pip_command(PACKAGES[extra], _DEBIAN.get(extra))


def install_advice(extra: str) -> str:
    """Return the half of a message that says how to install the missing package of an extra."""
    if extra == "tflite" and sys.version_info >= (3, 12):
        successor = install_command("litert")
        return f"its last release is for Python 3.11; install its successor: {successor}"
    return f"install it with: {install_command(extra)}"


def pip_command(packages: str, debian: str | None = None) -> str:
    """Return the command that installs packages into this environment.

    Args:
        packages: the arguments of pip.
        debian: the arguments of apt for the same packages of Debian; None if it lacks one.
    """
    if Path(sys.prefix, "pipx_metadata.json").exists():
        return f"pipx inject lenet-edge {packages}"
    is_32_bit_arm = struct.calcsize("P") == 4 and platform.machine().startswith(("arm", "aarch"))
    has_pip = not (_pip_is_refused() or _is_made_by_deploy())
    if debian and _sees_debian_packages() and (is_32_bit_arm or not has_pip):
        return f"sudo apt install {debian}"
    return f"{'' if has_pip else 'python3 -m venv ENV && ENV/bin/'}pip install {packages}"


def host_command(command: str) -> str:
    """Return a command that only a host has; on a board, say so."""
    return command if (_PACKAGE / "export").exists() else f"{command}, on the host"


def _sees_debian_packages() -> bool:
    """Return True if this environment uses Python packages of Debian."""
    if sys.base_prefix != "/usr" or not Path("/etc/debian_version").exists():
        return False
    return any(Path(folder) == Path("/usr/lib/python3/dist-packages") for folder in sys.path)


def _pip_is_refused() -> bool:
    """Return True if the system keeps pip from installing into this environment (PEP 668)."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return sys.prefix == sys.base_prefix and marker.exists()


def _is_made_by_deploy() -> bool:
    """Return True if deploy/install.sh made this environment, which has no pip."""
    return Path(sys.prefix, "complete").exists()
