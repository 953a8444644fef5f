"""Results as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import MissingPackageError
from lenet_edge.results.result_file import ParityReport
from lenet_edge.support.files import atomic_write

_MOST_FLIPS = 48  # on the sheet


def training_curve(epochs: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs as a PNG.

    Args:
        epochs: the "epochs" of a history.json.
        title: what was trained.
        path: the file to write.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    figure = _figure_class()(figsize=(8, 4.5), layout="constrained")
    from matplotlib.ticker import LogLocator

    loss, accuracy = figure.subplots(1, 2)
    numbers = [one["epoch"] for one in epochs]
    loss.plot(numbers, [one["loss"] for one in epochs], color="tab:orange", marker=".")
    loss.set(title="training loss", xlabel="epoch", yscale="log")
    errors = [100 * (1 - one["accuracy"]) for one in epochs]
    accuracy.plot(numbers, errors, color="tab:blue", marker=".")
    accuracy.set(title="error on watched images, %", xlabel="epoch", yscale="log")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3, which="both")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # more labels would overlap
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
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


def parity_pictures(
    report: ParityReport,
    images: npt.NDArray[Any],
    errors: npt.NDArray[np.float32],
    class_names: Sequence[str],
    folder: Path,
) -> None:
    """Draw a parity report as PNG files: flipped images, confusion matrix, logit errors.

    A picture that there is nothing for, such as flips where none are, is not drawn.

    Args:
        report: of one file on one target; it names the pictures.
        images: all images, of shape (N, height, width, channels).
        errors: candidate minus reference logits, of shape (N, classes).
        class_names: in the order of the classes; their numbers if left out.
        folder: where the pictures go.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    names = list(class_names) or [str(number) for number in range(errors.shape[1])]
    title = f"{report.candidate} on {report.target}"
    stem = folder / f"{report.candidate}-{report.target}"
    for what, figure in (
        ("flips", _flips(report, images, names)),
        ("confusion", _confusion(report, names)),
        ("errors", _errors(errors)),
    ):
        if figure is None:
            continue
        figure.suptitle(title)
        with atomic_write(stem.with_name(f"{stem.name}-{what}.png")) as temporary:
            figure.savefig(temporary, dpi=120)


def _flips(report: ParityReport, images: npt.NDArray[Any], names: Sequence[str]) -> Any:
    if not report.flips or images.ndim != 4:
        return None
    shown = report.flips[:_MOST_FLIPS]
    columns = min(8, max(4, len(shown)))
    rows = -(-len(shown) // columns)
    figure = _figure_class()(figsize=(1.25 * columns, 1.75 * rows + 0.6), layout="constrained")
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in cells:
        axes.set_axis_off()
    for axes, flip in zip(cells, shown, strict=False):
        image = images[flip.index].astype(np.float32)
        image = (image - image.min()) / max(float(np.ptp(image)), 1e-9)
        axes.imshow(image[..., 0] if image.shape[-1] != 3 else image, cmap="gray")
        now = "NaN" if flip.now < 0 else names[flip.now]
        label = "" if flip.label is None else f"\nlabel {names[flip.label]}"
        right = flip.label is not None and flip.now == flip.label
        axes.set_title(
            f"#{flip.index}\n{names[flip.was]} → {now}{label}", fontsize=7,
            color="tab:green" if right else "tab:red",
        )  # fmt: skip
    return figure


def _confusion(report: ParityReport, names: Sequence[str]) -> Any:
    if not report.confusion:
        return None
    counts = np.array(report.confusion)
    size = max(5.0, 0.45 * len(counts) + 1.5)
    figure = _figure_class()(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    # Mistakes are few: on a linear scale only the diagonal would be seen.
    axes.imshow(np.log1p(counts), cmap="Blues")
    ticks = range(len(counts))
    axes.set_xticks(ticks, names[: len(counts)], rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(ticks, names[: len(counts)])
    axes.set(xlabel="answer", ylabel="label")
    if len(counts) <= 30:
        for label, row in enumerate(counts):
            for answer, count in enumerate(row):
                colour = "white" if np.log1p(count) > np.log1p(counts.max()) / 2 else "black"
                if count:
                    axes.text(answer, label, count, ha="center", va="center", fontsize=7,
                              color=colour)  # fmt: skip
    return figure


def _errors(errors: npt.NDArray[np.float32]) -> Any:
    finite = errors[np.isfinite(errors)]
    if not finite.size:
        return None
    figure = _figure_class()(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(finite, bins=101, color="tab:blue")
    axes.set(xlabel="logit error, candidate − reference", ylabel="logits", yscale="log")
    axes.grid(alpha=0.3)
    return figure
