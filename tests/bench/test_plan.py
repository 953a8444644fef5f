"""Which cells are measured, in which order, and what a cell that fails costs."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.artifact import Artifact, load_artifact, sha256_of, write_manifest
from lenet_edge.bench import plan
from lenet_edge.bench.timing import StopRule
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair

BATCH_SIZES = (1, 8, 32)


@pytest.fixture
def pairs(exported: Callable[[str], Artifact]) -> list[Pair]:
    return [
        Pair(exported(name), get_target(target))
        for name, target in (
            ("lenet_int8.tflite", "litert-xnnpack"),
            ("lenet_int8.tflite", "openvino-cpu"),
            ("lenet_float32.onnx", "onnxruntime-cpu"),
        )
    ]


def test_every_cell_comes_once(pairs: list[Pair]) -> None:
    cells = plan.expand(pairs, BATCH_SIZES, num_threads=2)
    found = Counter((c.pair.artifact.name, c.pair.target.name, c.batch_size) for c in cells)
    assert found == Counter(
        (pair.artifact.name, pair.target.name, batch) for pair in pairs for batch in BATCH_SIZES
    )
    assert {cell.num_threads for cell in cells} == {2}


def test_the_order_is_the_seeds(pairs: list[Pair]) -> None:
    orders = [plan.expand(pairs, BATCH_SIZES, 1, seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    in_order = [plan.Cell(pair, batch, 1) for pair in pairs for batch in BATCH_SIZES]
    assert orders[0] != in_order
    assert sorted(map(str, orders[0])) == sorted(map(str, in_order))


def test_a_fixed_batch_is_measured_at_that_one_only(pairs: list[Pair]) -> None:
    fixed = Pair(dataclasses.replace(pairs[0].artifact, batch_size=8), pairs[0].target)
    assert [cell.batch_size for cell in plan.expand([fixed], BATCH_SIZES, 1)] == [8]
    assert plan.expand([fixed], (1, 2), 1) == []


def test_a_cell_that_fails_costs_itself_and_nothing_else(pairs: list[Pair], tmp_path: Path) -> None:
    for name in ("lenet_int8.tflite", "lenet_int8.tflite.json"):
        shutil.copy(pairs[0].artifact.path.with_name(name), tmp_path)
    path = tmp_path / "lenet_int8.tflite"
    path.write_bytes(path.read_bytes()[:1000])
    broken = dataclasses.replace(pairs[0].artifact, path=path, sha256=sha256_of(path))
    write_manifest(broken)
    cells = plan.expand([Pair(load_artifact(path), pairs[0].target), pairs[2]], (1, 4), 1)
    said: list[str] = []
    measurements, skipped = plan.run(cells, StopRule(0, 1, 1e9), report=said.append)
    assert [(one.artifact, one.batch_size) for one in measurements] == [
        ("lenet_float32.onnx", 1),
        ("lenet_float32.onnx", 4),
    ]
    (reason,) = skipped  # the same reason at both batches is told once
    assert (reason.artifact, reason.target) == ("lenet_int8.tflite", "litert-xnnpack")
    assert reason.reason
    assert len(said) == len(cells)
