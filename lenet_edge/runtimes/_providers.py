"""Execution providers of ONNX Runtime: built into the package, or installed as plug-ins.

A plug-in is a package with a shared library, and two functions that return the library's path and
the provider's name. Source: https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lenet_edge.errors import TargetError
from lenet_edge.extras import pip_command


@dataclass(frozen=True)
class Provider:
    """Execution provider: its name, its device, and the packages that contain it.

    `plugin` is the module of its plug-in. `package` is the build of onnxruntime that contains it.
    Each is None if there is none. `options` are needed for right results.
    """

    name: str
    device: str
    plugin: str | None = None
    package: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


PROVIDERS = {
    "acl": Provider("ACLExecutionProvider", "cpu"),
    "armnn": Provider("ArmNNExecutionProvider", "cpu"),
    "cann": Provider("CANNExecutionProvider", "npu", package="onnxruntime-cann"),
    "coreml": Provider("CoreMLExecutionProvider", "npu"),
    "cuda": Provider("CUDAExecutionProvider", "gpu", "onnxruntime_ep_cuda", "onnxruntime-gpu"),
    "dml": Provider("DmlExecutionProvider", "gpu", package="onnxruntime-directml"),
    "dnnl": Provider("DnnlExecutionProvider", "cpu"),
    "migraphx": Provider(
        "MIGraphXExecutionProvider", "gpu", "onnxruntime_ep_migraphx", "onnxruntime-migraphx"
    ),
    "nnapi": Provider("NnapiExecutionProvider", "npu"),
    "nv-tensorrt-rtx": Provider(
        "NvTensorRTRTXExecutionProvider", "gpu", "onnxruntime_ep_nv_tensorrt_rtx"
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider", "cpu", "onnxruntime_ep_openvino", "onnxruntime-openvino"
    ),
    # Its backend is a separate library, which emulates the NPU on x86.
    "qnn": Provider(
        "QNNExecutionProvider", "npu", "onnxruntime_qnn", "onnxruntime-qnn",
        {"backend_path": "libQnnHtp.so"},
    ),
    "rknpu": Provider("RknpuExecutionProvider", "npu"),
    "tensorrt": Provider("TensorrtExecutionProvider", "gpu", package="onnxruntime-gpu"),
    "vitisai": Provider("VitisAIExecutionProvider", "npu", package="onnxruntime-vitisai"),
    "vsinpu": Provider("VSINPUExecutionProvider", "npu"),
    # Its default layout, NHWC, is wrong by up to 12 (0.4.0, logits of exported/lenet_float32.onnx).
    "webgpu": Provider(
        "WebGpuExecutionProvider", "gpu", "onnxruntime_ep_webgpu", "onnxruntime-webgpu",
        {"preferredLayout": "NCHW"},
    ),
    "xnnpack": Provider("XnnpackExecutionProvider", "cpu"),
}  # fmt: skip


def all_providers() -> dict[str, Provider]:
    """Return the known providers and every other installed plug-in, by short name."""
    known = {provider.plugin for provider in PROVIDERS.values()}
    prefix = "onnxruntime_ep_"
    others = {
        module.name.removeprefix(prefix).replace("_", "-"): Provider("", "unknown", module.name)
        for module in pkgutil.iter_modules()
        if module.name.startswith(prefix) and module.name not in known
    }
    return {**others, **PROVIDERS}


def get_provider(name: str) -> Provider:
    """Return the provider of this short name. Only an unknown one is looked for in packages."""
    return PROVIDERS.get(name) or all_providers()[name]


def is_plugged_in(provider: Provider) -> bool:
    """Return whether the plug-in of the provider is installed."""
    return provider.plugin is not None and importlib.util.find_spec(provider.plugin) is not None


def absence(provider: Provider) -> str | None:
    """Return why ONNX Runtime lacks the provider, or None if it has it."""
    import onnxruntime

    if is_plugged_in(provider) or provider.name in onnxruntime.get_available_providers():
        return None
    packages = {
        name.replace("_", "-") for name in (provider.plugin, provider.package) if name is not None
    }
    if not packages:
        return f"onnxruntime has no {provider.name}; it needs a build that contains it"
    return f"onnxruntime has no {provider.name}; {pip_command(' or '.join(sorted(packages)))}"


def add(
    options: Any, provider: Provider, user_options: Iterable[tuple[str, str]], num_threads: int
) -> tuple[str | None, bool]:
    """Add a provider to `SessionOptions`.

    Args:
        options: the options of the session.
        provider: the provider to add.
        user_options: the user's options of the provider. They override ours.
        num_threads: the number of threads of a provider that computes on the CPU.

    Returns:
        The name of the device, if the provider states it, and whether the device is emulated: a
        software GPU or an emulated NPU.

    Raises:
        TargetError: the provider is not installed, or finds no device.
    """
    reason = absence(provider)
    if reason:
        raise TargetError(reason)
    settings = {**provider.options, **dict(user_options)}
    if not is_plugged_in(provider):
        if provider.name == "XnnpackExecutionProvider":
            settings["intra_op_num_threads"] = str(num_threads)
        options.add_provider(provider.name, settings)
        return None, False
    import onnxruntime

    assert provider.plugin
    plugin = importlib.import_module(provider.plugin)
    folder = Path(plugin.get_library_path()).parent
    name = plugin.get_ep_name()
    if "backend_path" in settings:  # joining keeps an absolute path of the user
        settings["backend_path"] = str(folder / settings["backend_path"])
    # Accept a software GPU. The result is labelled as emulated.
    os.environ.setdefault("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "1")
    if name not in {device.ep_name for device in onnxruntime.get_ep_devices()}:
        onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise TargetError(
            f"{name} finds no device; install the driver of the device (for WebGPU: libvulkan1 and"
            " a Vulkan driver)"
        )
    # If the provider offers both, use the accelerator rather than the CPU.
    devices.sort(key=lambda device: _kind(device) == "CPU")
    options.add_provider_for_devices(devices[:1], settings)
    kind = _kind(devices[0])
    vendor = devices[0].device.vendor or devices[0].ep_vendor
    return f"{vendor} {kind}", kind == "CPU" and provider.device != "cpu"


def _kind(device: Any) -> str:
    """Return the kind of an `OrtEpDevice`: CPU, GPU or NPU."""
    return str(device.device.type).rsplit(".", 1)[-1]
