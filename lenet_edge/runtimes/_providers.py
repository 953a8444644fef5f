"""ONNX Runtime's execution providers: those built into the package, and those that plug in.

Plug-ins are packages with a shared library and two functions that say where it lies and what its
provider is called: https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries
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


@dataclass(frozen=True)
class Provider:
    """One execution provider: its name, its device, and the packages that bring it.

    `plugin` is the module of its plug-in, and `package` the build of onnxruntime that holds it
    already, each where there is one. `options` are what makes it right.
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
    # Its backend is a library of its own; on x86 that emulates the NPU.
    "qnn": Provider(
        "QNNExecutionProvider", "npu", "onnxruntime_qnn", "onnxruntime-qnn",
        {"backend_path": "libQnnHtp.so"},
    ),
    "rknpu": Provider("RknpuExecutionProvider", "npu"),
    "tensorrt": Provider("TensorrtExecutionProvider", "gpu", package="onnxruntime-gpu"),
    "vitisai": Provider("VitisAIExecutionProvider", "npu", package="onnxruntime-vitisai"),
    "vsinpu": Provider("VSINPUExecutionProvider", "npu"),
    # Its own choice, NHWC, is wrong: logits are off by 12 (0.4.0, exported/lenet_float32.onnx).
    "webgpu": Provider(
        "WebGpuExecutionProvider", "gpu", "onnxruntime_ep_webgpu", "onnxruntime-webgpu",
        {"preferredLayout": "NCHW"},
    ),
    "xnnpack": Provider("XnnpackExecutionProvider", "cpu"),
}  # fmt: skip


def all_providers() -> dict[str, Provider]:
    """Return the known providers and every other plug-in that is installed, by short name."""
    known = {one.plugin for one in PROVIDERS.values()}
    prefix = "onnxruntime_ep_"
    others = {
        module.name.removeprefix(prefix).replace("_", "-"): Provider("", "unknown", module.name)
        for module in pkgutil.iter_modules()
        if module.name.startswith(prefix) and module.name not in known
    }
    return {**others, **PROVIDERS}


def is_plugged_in(provider: Provider) -> bool:
    """Tell whether the provider's plug-in is installed."""
    return provider.plugin is not None and importlib.util.find_spec(provider.plugin) is not None


def absence(provider: Provider) -> str | None:
    """Return why ONNX Runtime has no such provider here; None where it has."""
    import onnxruntime

    if is_plugged_in(provider) or provider.name in onnxruntime.get_available_providers():
        return None
    packages = {
        one.replace("_", "-") for one in (provider.plugin, provider.package) if one is not None
    }
    get = "it takes a build of ONNX Runtime with it"
    if packages:
        get = f"pip install {' or '.join(sorted(packages))}"
    return f"onnxruntime has no {provider.name}; {get}"


def add(
    options: Any, provider: Provider, theirs: Iterable[tuple[str, str]], num_threads: int
) -> tuple[str | None, bool]:
    """Add a provider to `SessionOptions`.

    Args:
        options: the session's options.
        provider: what to add.
        theirs: the user's options for it, which go before ours.
        num_threads: for a provider that computes on the CPU.

    Returns:
        The name of its device, as far as it tells, and whether that is a CPU in disguise: a
        software GPU, or an emulated NPU.

    Raises:
        TargetError: it is not installed, or finds no device.
    """
    reason = absence(provider)
    if reason:
        raise TargetError(reason)
    settings = {**provider.options, **dict(theirs)}
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
    if "backend_path" in settings:  # a path of the user's own stays as it is
        settings["backend_path"] = str(folder / settings["backend_path"])
    # A GPU in software is a device too; it is labelled as what it is.
    os.environ.setdefault("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "1")
    if name not in {device.ep_name for device in onnxruntime.get_ep_devices()}:
        onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise TargetError(
            f"{name} finds no device here; install the device's driver (for WebGPU: libvulkan1"
            " and a Vulkan driver)"
        )
    # The accelerator before the CPU, where it offers both.
    devices.sort(key=lambda one: _kind(one) == "CPU")
    options.add_provider_for_devices(devices[:1], settings)
    kind = _kind(devices[0])
    vendor = devices[0].device.vendor or devices[0].ep_vendor
    return f"{vendor} {kind}", kind == "CPU" and provider.device != "cpu"


def _kind(device: Any) -> str:
    """Return the kind of an `OrtEpDevice`: CPU, GPU or NPU."""
    return str(device.device.type).rsplit(".", 1)[-1]
