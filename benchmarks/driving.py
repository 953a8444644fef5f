"""Our sessions against the usual way to call a runtime: ``python -m benchmarks.driving``

OpenVINO: an inference request of a fixed batch on a shared tensor, against `infer([images])` of the
file as it is. ONNX Runtime: a bound session, against `run`. Both sides use one thread and float32.
Several processes interleave the calls of both sides. Writes benchmarks/results/<machine>/.
"""

from dataclasses import asdict
from pathlib import Path

from benchmarks.record import EXPORTED, keep
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench.interleave import compare
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair

FILE = "lenet_float32.onnx"
# The usual way, ours, and the largest allowed ratio of ours at batch 1.
WAYS = (
    ("openvino-cpu-infer", "openvino-cpu", 0.35),
    ("onnxruntime-cpu-run", "onnxruntime-cpu", 0.85),
)


def main() -> None:
    artifact = load_artifact(Path(EXPORTED) / FILE)
    rows = []
    for plain, ours, bar in WAYS:
        for batch_size in (1, 32):
            pairs = [Pair(artifact, get_target(name)) for name in (plain, ours)]
            base, ratio = compare(pairs, batch_size)
            rows.append(
                {
                    "plain": plain, "plain_us": base.p50_s * 1e6, "ours": ours,
                    "batch_size": batch_size, **asdict(ratio),
                    "bar": bar if batch_size == 1 else None,
                }
            )  # fmt: skip
            verdict = ""
            if batch_size == 1:
                verdict = f", {'met' if ratio.median <= bar else 'NOT met'}: {bar}"
            print(
                f"{ours} b{batch_size}: {ratio.p50_s * 1e6:.1f} us, {plain}"
                f" {base.p50_s * 1e6:.1f} us, ratio {ratio.median:.3f}"
                f" [{ratio.low:.3f}, {ratio.high:.3f}]{verdict}"
            )
    print(f"Kept in {keep('driving', {'file': FILE, 'rows': rows})}")


if __name__ == "__main__":
    main()
