"""Networks as C: ``python -m benchmarks.native [PART ...]``

    host         LeNet in C against every runtime of this machine
    x86          int8 against float32 for each instruction set of this machine; threads
    mlperf-tiny  four int8 networks in C against LiteRT XNNPACK on this machine
    arm64        instructions and exactness on 64-bit Arm, in QEMU
    cortex-m     instructions, flash, stack and exactness on Cortex-M, in QEMU

Each part prints a table. Without arguments, all parts run. The results are kept in
benchmarks/results/<machine>/<time>-<commit>-native.json.
"""

import sys
from typing import Any

from benchmarks.native import arm64, cortex_m, host, mlperf_tiny, x86
from benchmarks.record import ROOT, keep

# Each part is a module: measure() returns facts for the results file, and show(facts) prints them.
PARTS: dict[str, Any] = {
    "host": host,
    "x86": x86,
    "mlperf-tiny": mlperf_tiny,
    "arm64": arm64,
    "cortex-m": cortex_m,
}


def main() -> None:
    facts = {}
    for name in sys.argv[1:] or list(PARTS):
        if name not in PARTS:
            raise SystemExit(f"there is no part {name}; choose from {', '.join(PARTS)}")
        facts[name] = PARTS[name].measure()
        PARTS[name].show(facts[name])
    path = keep("native", facts)
    print(f"Kept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
