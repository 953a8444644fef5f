"""Layer times for other programs: CSV, and node data for Google's Model Explorer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lenet_edge.report.csv_and_pytest import rows_to_csv, write_text
from lenet_edge.results.layer_times import LayerTimes
from lenet_edge.results.result_file import BenchRun

NODE_DATA_SUFFIX = "-layers.json"  # `bench --node-data` checks it
# From the least to the most time; the colors of the nodes in Model Explorer.
_GRADIENT = ({"stop": 0, "bgColor": "#fff7ec"}, {"stop": 1, "bgColor": "#d7301f"})


def write_layer_files(run: BenchRun, csv_file: Path | None, folder: Path | None) -> None:
    """Write the layer times of a run as CSV, and as node data; None leaves a form out."""
    if csv_file is not None:
        write_text(csv_file, layers_to_csv(run))
    if folder is not None:
        write_node_data(run, folder)


def layers_to_csv(run: BenchRun) -> str:
    """Return a header and one row for each layer of each pair; the rest has rows of its own."""
    return rows_to_csv([row for times in run.layer_times for row in _rows(times)], "artifact")


def _rows(times: LayerTimes) -> list[dict[str, Any]]:
    return [
        {
            "artifact": times.artifact,
            "artifact_sha256": times.artifact_sha256,
            "target": times.target,
            "batch_size": times.batch_size,
            "num_threads": times.num_threads,
            "method": times.method,
            "layer": layer.name,
            "operator": layer.operator,
            "time_s": layer.time_s,
            "share": times.share(layer.time_s),
            "macs": layer.macs,
            "parameters": layer.parameters,
            "parameter_bytes": layer.parameter_bytes,
            "sqnr_db": layer.sqnr_db,
            "lost_db": layer.lost_db,
            "layers": "; ".join(layer.layers),
            "tensor": layer.tensor,
        }
        for layer in times.parts
    ]


def to_node_data(times: LayerTimes) -> dict[str, Any]:
    """Return the node data of one graph: microseconds by the name of an output tensor.

    Model Explorer and Netron show these names. A step without a tensor of the file is left out.
    """
    results: dict[str, dict[str, float]] = {}
    for layer in times.layers:
        if layer.tensor is not None:
            known = results.setdefault(layer.tensor, {"value": 0.0})
            known["value"] = round(known["value"] + layer.time_s * 1e6, 3)
    return {"results": results, "gradient": list(_GRADIENT)}


def write_node_data(run: BenchRun, folder: Path) -> list[Path]:
    """Write one file of node data for each pair whose layers have tensors; return the paths."""
    paths = []
    for times in run.layer_times:
        data = to_node_data(times)
        if data["results"]:
            stem = re.sub(r"[^\w.-]", "_", f"{times.artifact}-{times.target}")
            paths.append(folder / f"{stem}{NODE_DATA_SUFFIX}")
            write_text(paths[-1], json.dumps(data, indent=1) + "\n")
    return paths
