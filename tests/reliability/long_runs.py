"""Test of long sessions: ``python -m tests.reliability.long_runs [--count N] [TARGET...]``

Each target that works here runs 16 images in turn in a separate process. The logits of an image
must always be bit-identical, and must give the float model's digit. Memory is measured after a
tenth of the run and at its end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.reference import reference_for
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data.mnist import load
from lenet_edge.runtimes import absence, all_targets, get_target, open_session
from lenet_edge.target import Target
from tests.reliability.jobs import EXPORTED, ROOT

COUNT = 100_000
MAX_GROWTH_BYTES = 4 * 2**20  # 90,000 inferences that lose 48 bytes each
_IMAGES = 16
_TIMEOUT_S = 7200  # TensorFlow's eager mode takes milliseconds a call


def targets() -> Iterator[Target]:
    """Yield the targets that can run on this machine."""
    for target in all_targets():
        if target.runtime not in ("null", "cortex-m", "executorch") and absence(target) is None:
            yield target


# Files that are not in exported/.
MADE = {"native": "lenet_native_float32.c", "ncnn": "lenet_ncnn_float32.param"}


def file_for(target: Target, folder: Path) -> Path:
    """Return the smallest file for a target. One of `MADE` is exported to `folder`."""
    format = target.formats[0]
    if format not in MADE:
        names = {"keras": "lenet.keras", "wasm": "lenet_dynamic.wasm"}
        return EXPORTED / names.get(format, f"lenet_int8.{format}")
    path = folder / MADE[format]
    if not path.exists():
        from lenet_edge.export.exporter import export

        training, test = load("train"), load("test")
        export(EXPORTED / "lenet.keras", folder, training, test, (format,))
    return path


def run(path: Path, target: Target, count: int) -> dict[str, Any]:
    """Run one target in a new process, and return the result of `run_here`."""
    command = [sys.executable, "-m", "tests.reliability.long_runs", "--one", str(path)]
    try:
        done = subprocess.run(
            [*command, "--count", str(count), target.name],
            capture_output=True, text=True, cwd=ROOT, check=False, timeout=_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"target": target.name, "failed": f"it did not end within {_TIMEOUT_S} s"}
    if done.returncode:
        return {"target": target.name, "failed": (done.stderr or "?").splitlines()[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_here(path: Path, target: Target, count: int) -> dict[str, Any]:
    """Run the inferences in this process; return the number of wrong ones and the memory growth."""
    artifact = load_artifact(path)
    digits = reference_for(artifact).logits[:_IMAGES].argmax(axis=-1)
    images = to_model_input(load("test").images[:_IMAGES], artifact)
    wrong = 0
    first: list[Any] = []
    with closing(open_session(artifact, target)) as session:
        started = time.perf_counter()
        for number in range(count):
            index = number % _IMAGES
            session.prepare(images[index : index + 1])
            session.infer()
            logits = session.logits()
            if number < _IMAGES:
                first.append(logits.copy())
            else:
                wrong += not np.array_equal(logits, first[index])
            if number == count // 10:
                before = _resident_bytes()
        after, seconds = _resident_bytes(), time.perf_counter() - started
    return {
        "target": target.name, "count": count, "seconds": seconds, "wrong": wrong,
        "right_digits": bool((np.concatenate(first).argmax(axis=-1) == digits).all()),
        "resident_bytes": after, "growth_bytes": after - before,
    }  # fmt: skip


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def failure(result: dict[str, Any]) -> str | None:
    """Return the fault in the result of a target, or None."""
    if "failed" in result:
        return str(result["failed"])
    if result["wrong"] or not result["right_digits"]:
        return f"{result['wrong']} results differ from the first, or the digits are wrong"
    if result["growth_bytes"] > MAX_GROWTH_BYTES:
        return f"memory grew by {result['growth_bytes']:,} bytes"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: every target")
    parser.add_argument("--count", type=int, default=COUNT, help="inferences (%(default)s)")
    parser.add_argument("--one", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_here(options.one, get_target(options.targets[0]), options.count)))
        return
    print(f"{'':22}inferences  wrong  grew, kB  of, MB     s")
    failed = False
    with tempfile.TemporaryDirectory() as name:
        for target in targets():
            if target.name in (options.targets or [target.name]):
                result = run(file_for(target, Path(name)), target, options.count)
                reason = failure(result)
                failed |= reason is not None
                if "failed" in result:
                    print(f"{target.name:22}{reason}", flush=True)
                    continue
                print(f"{target.name:22}{result['count']:10,}{result['wrong']:7}"
                      f"{result['growth_bytes'] / 1000:10,.0f}"
                      f"{result['resident_bytes'] / 1e6:8,.0f}{result['seconds']:6.0f}"
                      f"  {reason or ''}", flush=True)  # fmt: skip
    sys.exit(failed)


if __name__ == "__main__":
    main()
