"""Models of the Raspberry Pi: the text of /proc/cpuinfo and the files of /sys that describe them.

The values are those of real boards. XNNPACK and ONNX Runtime choose their kernels by them, and
crash if an Arm program reads an x86 processor in /proc/cpuinfo.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CORES = range(4)


@dataclass(frozen=True)
class PiModel:
    """A model of the Raspberry Pi.

    `cpu` is the name that QEMU uses; `part`, `variant` and `stepping` name the Arm core as in
    /proc/cpuinfo.
    """

    model: str
    compatible: tuple[str, str]
    revision: str
    cpu: str
    features: str
    kilohertz: int
    part: str
    variant: str
    stepping: int

    def write(self, root: Path) -> None:
        """Write the files of /sys under `root`, and the text of /proc/cpuinfo to `root`/cpuinfo."""
        core = (
            "processor\t: {}\nBogoMIPS\t: 108.00\n"
            f"Features\t: {self.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            f"CPU variant\t: {self.variant}\nCPU part\t: {self.part}\n"
            f"CPU revision\t: {self.stepping}\n\n"
        )
        files = {
            "cpuinfo": "".join(map(core.format, _CORES))
            + f"Revision\t: {self.revision}\nModel\t\t: {self.model}\n",
            "sys/firmware/devicetree/base/model": f"{self.model}\0",
            "sys/firmware/devicetree/base/compatible": "".join(f"{s}\0" for s in self.compatible),
            "sys/class/thermal/thermal_zone0/temp": "45000\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/devices/system/cpu/kernel_max": "255\n",
        }
        for name in ("possible", "present", "online"):
            files[f"sys/devices/system/cpu/{name}"] = "0-3\n"
        for core_id in _CORES:
            cpu = f"sys/devices/system/cpu/cpu{core_id}"
            files |= {
                f"{cpu}/topology/core_id": f"{core_id}\n",
                f"{cpu}/topology/physical_package_id": "0\n",
                f"{cpu}/topology/core_siblings": "f\n",
                f"{cpu}/topology/core_siblings_list": "0-3\n",
                f"{cpu}/topology/thread_siblings": f"{1 << core_id:x}\n",
                f"{cpu}/topology/thread_siblings_list": f"{core_id}\n",
                f"{cpu}/cpufreq/cpuinfo_max_freq": f"{self.kilohertz}\n",
                f"{cpu}/cpufreq/cpuinfo_min_freq": "600000\n",
                f"{cpu}/cpufreq/scaling_cur_freq": f"{self.kilohertz}\n",
                f"{cpu}/cpufreq/scaling_governor": "ondemand\n",
            }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)


PI_MODELS = {
    "pi4": PiModel(
        "Raspberry Pi 4 Model B Rev 1.4", ("raspberrypi,4-model-b", "brcm,bcm2711"), "c03114",
        "cortex-a72", "fp asimd evtstrm crc32 cpuid", 1_800_000, "0xd08", "0x0", 3,
    ),
    "pi5": PiModel(
        "Raspberry Pi 5 Model B Rev 1.0", ("raspberrypi,5-model-b", "brcm,bcm2712"), "c04170",
        "cortex-a76", "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid "
        "asimdrdm lrcpc dcpop asimddp", 2_400_000, "0xd0b", "0x4", 1,
    ),
    "zero2w": PiModel(
        "Raspberry Pi Zero 2 W Rev 1.0", ("raspberrypi,model-zero-2-w", "brcm,bcm2837"), "902120",
        "cortex-a53", "fp asimd evtstrm crc32 cpuid", 1_000_000, "0xd03", "0x0", 4,
    ),
}  # fmt: skip
