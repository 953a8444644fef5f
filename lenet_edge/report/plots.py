"""Plots as PNG files: training, parity reports and tuning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.head import Head, num_classes
from lenet_edge.artifacts.head import class_names as names_of_classes
from lenet_edge.report.charts import svg
from lenet_edge.results.result_file import ParityReport
from lenet_edge.support.files import atomic_write

_MAX_FLIPS = 48


@svg.default_style()
def plot_training(epochs: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Plot loss and error against the epochs as a PNG file.

    Args:
        epochs: the "epochs" of a history.json.
        title: title of the plot.
        path: the file to write.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    figure = svg.figure(8, 4.5)
    from matplotlib.ticker import LogLocator, MaxNLocator

    loss, accuracy = figure.subplots(1, 2)
    numbers = [epoch["epoch"] for epoch in epochs]
    loss.plot(numbers, [epoch["loss"] for epoch in epochs], color="tab:orange", marker=".")
    loss.set(title="training loss", xlabel="epoch")
    errors = [100 * (1 - epoch["accuracy"]) for epoch in epochs]
    accuracy.plot(numbers, errors, color="tab:blue", marker=".")
    accuracy.set(title="error on the monitored images, %", xlabel="epoch")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3, which="both")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if max(axes.lines[0].get_ydata()) > 0:  # a logarithmic axis shows no zeros
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # more labels would overlap
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
    figure.suptitle(title, parse_math=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG file.

    Names of data sets and classes may contain characters that matplotlib's font lacks. It would
    print a warning for each.
    """
    with atomic_write(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, dpi=120)


@svg.default_style()
def plot_parity(
    report: ParityReport,
    images: npt.NDArray[Any],
    errors: npt.NDArray[np.float32],
    class_names: Sequence[str],
    folder: Path,
) -> None:
    """Plot a parity report as PNG files: flipped images, confusion matrix, logit errors.

    A plot without data, such as one of no flips, is left out.

    Args:
        report: parity report of one pair; it names the files.
        images: all images, of shape (N, height, width, channels).
        errors: candidate minus reference logits, of shape (N, classes).
        class_names: names in the order of the classes; their numbers if it is empty.
        folder: folder of the files.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    head = Head.LOGITS if report.head is None else Head(report.head)
    names = names_of_classes(class_names, head, num_classes(head, errors.shape[1]))
    title = f"{report.candidate} on {report.target}"
    stem = folder / f"{report.candidate}-{report.target}"
    for suffix, figure in (
        ("flips", _flips(report, images, names)),
        ("confusion", _confusion(report, names)),
        ("errors", _errors(errors)),
    ):
        if figure is None:
            continue
        figure.suptitle(title, parse_math=False)
        _save(figure, stem.with_name(f"{stem.name}-{suffix}.png"))


def _flips(report: ParityReport, images: npt.NDArray[Any], names: Sequence[str]) -> Any:
    if not report.flips or images.ndim != 4:
        return None
    shown = report.flips[:_MAX_FLIPS]
    columns = min(8, max(4, len(shown)))
    rows = -(-len(shown) // columns)
    figure = svg.figure(1.25 * columns, 1.75 * rows + 0.6)
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in cells:
        axes.set_axis_off()
    for axes, flip in zip(cells, shown, strict=False):
        image = images[flip.index].astype(np.float32)
        image = (image - image.min()) / max(float(np.ptp(image)), 1e-9)
        axes.imshow(image[..., 0] if image.shape[-1] != 3 else image, cmap="gray")
        prediction = "NaN" if flip.now < 0 else names[flip.now]
        label = "" if flip.label is None else f"\nlabel {names[flip.label]}"
        right = flip.label is not None and flip.now == flip.label
        axes.set_title(
            f"#{flip.index}\n{names[flip.was]} → {prediction}{label}", fontsize=7,
            color="tab:green" if right else "tab:red", parse_math=False,
        )  # fmt: skip
    return figure


def _confusion(report: ParityReport, names: Sequence[str]) -> Any:
    if not report.confusion:
        return None
    counts = np.array(report.confusion)
    size = max(5.0, 0.45 * len(counts) + 1.5)
    figure = svg.figure(size, size)
    axes = figure.subplots()
    # Mistakes are rare: a linear scale would show only the diagonal.
    axes.imshow(np.log1p(counts), cmap="Blues")
    ticks = range(len(counts))
    axes.set_xticks(
        ticks,
        names[: len(counts)],
        rotation=90 if max(map(len, names)) > 2 else 0,
        parse_math=False,
    )
    axes.set_yticks(ticks, names[: len(counts)], parse_math=False)
    axes.set(xlabel="prediction", ylabel="label")
    if len(counts) <= 30:
        for label, row in enumerate(counts):
            for prediction, count in enumerate(row):
                color = "white" if np.log1p(count) > np.log1p(counts.max()) / 2 else "black"
                if count:
                    axes.text(prediction, label, count, ha="center", va="center", fontsize=7,
                              color=color)  # fmt: skip
    return figure


def _errors(errors: npt.NDArray[np.float32]) -> Any:
    finite = errors[np.isfinite(errors)]
    if not finite.size:
        return None
    figure = svg.figure(7, 4)
    axes = figure.subplots()
    axes.hist(finite, bins=101, color="tab:blue")
    axes.set(xlabel="logit error, candidate − reference", ylabel="logits", yscale="log")
    axes.grid(alpha=0.3)
    return figure


@svg.default_style()
def plot_tuning(facts: dict[str, Any], path: Path) -> None:
    """Plot accuracy against latency of all candidates as a PNG file; color shows the file size.

    Args:
        facts: JSON object that `Tuned.to_json` returns.
        path: the file to write.

    Raises:
        MissingPackageError: matplotlib is not installed.
        LenetEdgeError: the file cannot be written.
    """
    candidates = facts["candidates"]
    figure = svg.figure(8, 5)
    axes = figure.add_subplot()
    latencies_us = [candidate["ratio_to_float32"]["p50_s"] * 1e6 for candidate in candidates]
    changes = [-candidate["accuracy_drop"] for candidate in candidates]
    kilobytes = [candidate["size_bytes"] / 1000 for candidate in candidates]
    marks = axes.scatter(latencies_us, changes, c=kilobytes, cmap="viridis", zorder=2)
    figure.colorbar(marks, label="file size, kB")
    for candidate, latency_us, change in zip(candidates, latencies_us, changes, strict=True):
        if candidate["on_front"]:
            _ring(axes, (latency_us, change))
        is_float32 = candidate is candidates[0]
        if candidate["name"] == facts["winner"]["candidate"] or is_float32:
            label = "float32" if is_float32 else "winner"
            _label(axes, label, (latency_us, change))
    axes.set_xlabel(f"median latency at batch 1, one thread, {facts['target']}, µs")
    axes.set_ylabel(f"accuracy change on {facts['num_held_out']:,} held-out images, points")
    axes.set_title(f"{facts['num_tried']} mixes tried; rings mark the Pareto front")
    axes.grid(alpha=0.3)
    _save(figure, path)


def plot_search(facts: dict[str, Any], path: Path) -> None:
    """Plot accuracy against bytes of all networks of a search; color shows the instructions.

    Args:
        facts: JSON object that `flows.search.search` returns.
        path: the file to write.

    Raises:
        MissingPackageError: matplotlib is not installed.
        LenetEdgeError: the file cannot be written.
    """
    figure = svg.figure(8, 5)
    axes = figure.add_subplot()
    points, stopped = facts["points"], facts["stopped"]
    axes.scatter(
        [each["weight_bytes"] for each in stopped],
        [100 * each["held_out_accuracy"] for each in stopped],
        c="lightgray", label="stopped early",
    )  # fmt: skip
    marks = axes.scatter(
        [each["weight_bytes"] for each in points],
        [100 * each["held_out_accuracy"] for each in points],
        c=[(each["instructions"] or each["estimated_instructions"]) / 1000 for each in points],
        cmap="viridis", zorder=2,
    )  # fmt: skip
    figure.colorbar(marks, label="instructions on a Cortex-M4, thousands")
    for number, each in enumerate(points):
        place = each["weight_bytes"], 100 * each["held_out_accuracy"]
        if each["on_front"]:
            _ring(axes, place)
        # Neighbours have about the same size, so that their labels would overlap.
        _label(axes, each["name"], place, is_above=number % 2 == 0)
    axes.margins(x=0.15, y=0.1)  # room for the labels
    axes.set_xlabel("bytes of weights and biases")
    axes.set_ylabel(f"accuracy on {facts['num_held_out']:,} held-out images, %")
    axes.set_title(f"{facts['num_tried']} networks tried; rings mark the Pareto front")
    axes.grid(alpha=0.3)
    _save(figure, path)


def _ring(axes: Any, place: tuple[float, float]) -> None:
    """Draw a ring around a mark of the Pareto front."""
    axes.scatter(*place, s=120, facecolors="none", edgecolors="black", zorder=3)


def _label(axes: Any, text: str, place: tuple[float, float], is_above: bool = True) -> None:
    offset, side = (10, "bottom") if is_above else (-10, "top")
    axes.annotate(text, place, xytext=(0, offset), textcoords="offset points", ha="center", va=side)
