"""The sum of the times of layers against the whole call: python -m benchmarks.layers [PROCESSES]

Measures the layers of files in exported/ in several fresh processes each (3 if left out). Adds the
times of the layers and of the call of the runtime, and compares the sum with the whole call, which
is measured in turn. Then it slows one step of a C file by half of the whole call, and counts how
often `bench` names this step first. Exits with 1 if the median of a difference is over 10 %, or if
`bench` named another step.
Writes benchmarks/results/<machine>/<time>-<commit>-layers.json.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.record import EXPORTED, ROOT, keep
from lenet_edge import worker
from lenet_edge.bench.layers import measure_layers
from lenet_edge.results.layer_times import AGREES_WITHIN, LayerTimes
from lenet_edge.runtimes import get_target
from lenet_edge.selection import load_artifacts
from lenet_edge.support.temporary import temporary_folder

PAIRS = (
    ("lenet_float32.tflite", "litert-xnnpack"),
    ("lenet_int8.tflite", "litert-xnnpack"),
    ("lenet_float32.onnx", "onnxruntime-cpu"),
    ("lenet_int8.onnx", "onnxruntime-cpu"),
    ("lenet_float32.onnx", "openvino-cpu"),
    ("lenet_int8.onnx", "openvino-cpu"),
    ("lenet_native_float32.c", "native-cpu"),
    ("lenet_native_int8.c", "native-cpu"),
)
BATCH_SIZES = (1, 32)
SLOWED = "lenet_1/dense2_1/MatMul"
DELAY = """
#include <time.h>
static int delay(void) {
  struct timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do
    clock_gettime(CLOCK_MONOTONIC, &now);
  while ((now.tv_sec - begin.tv_sec) * 1000000000LL + now.tv_nsec - begin.tv_nsec < %d);
  return 0;
}
"""


def measure(path: Path, target: str, batch_size: int) -> LayerTimes:
    (artifact,) = load_artifacts([path], path.parent)
    call = measure_layers.bind(
        artifact.to_json(), dataclasses.asdict(get_target(target)), batch_size, 1
    )
    return LayerTimes.from_json(worker.run(call))


def main() -> int:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows: list[dict[str, Any]] = []
    print(f"{'file on target, batch':48} {'whole µs':>9} {'layers':>7} {'call':>6} {'rest':>7}")
    for name, target in PAIRS:
        for batch_size in BATCH_SIZES:
            runs = [measure(EXPORTED / name, target, batch_size) for _ in range(processes)]
            row: dict[str, Any] = {
                "file": name,
                "target": target,
                "batch_size": batch_size,
                "method": runs[0].method,
                "whole_s": statistics.median(run.whole_s for run in runs),
                "layers": statistics.median(run.share(run.sum_s) for run in runs),
                "call": statistics.median(run.share(run.call_s or 0.0) for run in runs),
                "rest": statistics.median(run.share(run.rest_s) for run in runs),
                "largest": [run.largest.name if run.largest else None for run in runs],
            }
            rows.append(row)
            print(f"{f'{name} on {target}, {batch_size}':48} {row['whole_s'] * 1e6:9.1f}"
                  f" {row['layers']:7.1%} {row['call']:6.1%} {row['rest']:+7.1%}"
                  f"  {row['method']}")  # fmt: skip
    named = slowed_step(processes)
    print(f"The slowed step of the C file was named first in {named} of {processes}.")
    path = keep("layers", {"processes": processes, "rows": rows, "slowed_named": named})
    print(f"Kept in {path.relative_to(ROOT)}")
    off = [row for row in rows if abs(row["rest"]) > AGREES_WITHIN]
    return 1 if off or named < processes else 0


def slowed_step(processes: int) -> int:
    """Return how often a step is named first that takes as long as half of a call."""
    name = "lenet_native_int8.c"
    whole_s = measure(EXPORTED / name, "native-cpu", 1).whole_s
    source = (EXPORTED / name).read_text(encoding="utf-8")
    source = source.replace("arena + 112);", "arena + 112 + delay());")
    delay = DELAY % (whole_s * 5e8)
    source = source.replace("#include <string.h>\n", f"#include <string.h>\n{delay}", 1)
    with temporary_folder() as folder:
        path = folder / "slowed.c"
        path.write_text(source, encoding="utf-8")
        runs = [measure(path, "native-cpu", 1) for _ in range(processes)]
    return sum(run.largest is not None and run.largest.name == SLOWED for run in runs)


if __name__ == "__main__":
    sys.exit(main())
