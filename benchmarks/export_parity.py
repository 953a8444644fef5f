"""Accuracy of every precision over five trainings: python -m benchmarks.export_parity

Five models differ only in their seed. Each is trained and exported, and each file is verified on
the 10,000 test images. Writes benchmarks/results/<machine>/<time>-<commit>-parity.json.
"""

import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.record import ROOT, keep
from lenet_edge.cli._terminal import progress_bar
from lenet_edge.data import mnist
from lenet_edge.export import exporter
from lenet_edge.selection import load_artifacts, pair_up
from lenet_edge.train import loop
from lenet_edge.train.recipe import DEFAULT
from lenet_edge.train.saved_state import TrainingSettings
from lenet_edge.verify.verify import verify

SEEDS = (1, 2, 3, 4, 5)
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
TARGETS = ("litert-xnnpack", "onnxruntime-cpu")


def main() -> None:
    training, test = mnist.load("train"), mnist.load("test")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, progress_bar("Seed", len(SEEDS)) as step:
        for seed in SEEDS:
            folder = Path(name, str(seed))
            model, history = loop.train(training, test, TrainingSettings(DEFAULT, seed))
            checkpoint = loop.save_checkpoint(model, folder / "lenet.keras", training.class_names)
            artifacts = exporter.export(
                checkpoint.path,
                folder,
                training,
                test,
                precisions=PRECISIONS,
                options=exporter.Options(cpu="x86"),
            )
            files = load_artifacts([artifact.path for artifact in artifacts], folder)
            for report in verify(pair_up(files, TARGETS)[0])[0]:
                rows.append(
                    {
                        "seed": seed,
                        "file": report.candidate,
                        "accuracy": report.candidate_accuracy,
                        "accuracy_drop": report.accuracy_drop,
                        "top1_agreement": report.top1_agreement,
                    }
                )
            step(f"{seed}: {history.test_accuracy:.2%}")
    for file in dict.fromkeys(row["file"] for row in rows):
        own = [row for row in rows if row["file"] == file]
        drops = [row["accuracy_drop"] for row in own]
        least = min(row["top1_agreement"] for row in own)
        click.echo(
            f"{file:24} drop {min(drops):+.2f} to {max(drops):+.2f} points,"
            f" agreement at least {least:.2%}"
        )
    path = keep("parity", {"recipe": DEFAULT.name, "rows": rows})
    click.echo(f"Kept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
