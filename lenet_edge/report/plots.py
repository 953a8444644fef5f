"""Results as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_edge.artifact import atomic_write
from lenet_edge.errors import MissingPackageError


def training_curve(epochs: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs as a PNG.

    Args:
        epochs: the "epochs" of a history.json.
        title: what was trained.
        path: the file to write.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    figure_class = _figure_class()
    figure = figure_class(figsize=(8, 4.5), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    numbers = [one["epoch"] for one in epochs]
    loss.plot(numbers, [one["loss"] for one in epochs], color="tab:orange", marker=".")
    loss.set(title="training loss", xlabel="epoch", yscale="log")
    errors = [100 * (1 - one["accuracy"]) for one in epochs]
    accuracy.plot(numbers, errors, color="tab:blue", marker=".")
    accuracy.set(title="error on watched images, %", xlabel="epoch", yscale="log")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3, which="both")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _figure_class() -> Any:
    try:
        # The object and not pyplot: no window system is asked for, no state is left behind.
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("matplotlib", "report") from None
    return Figure
