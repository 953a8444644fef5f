"""Summary of a data set for a person: classes, numbers of images, sizes and losses of detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lenet_edge.data.dataset import Dataset, FileFacts

_MAX_CLASSES = 8  # with their numbers of images in one line


@dataclass(frozen=True)
class DataSummary:
    """Summary of the training part and the test part of a data set.

    Attributes:
        classes: the numbers of training and test images of each class.
        image_shape: height, width and channels of the images in the model.
        files: facts about the image files.
    """

    classes: dict[str, tuple[int, int]]
    image_shape: tuple[int, int, int]
    files: FileFacts

    @classmethod
    def of(cls, training: Dataset, test: Dataset) -> DataSummary:
        """Summarize the two parts of a data set."""
        length = len(training.class_names)
        counts = [np.bincount(part.labels, minlength=length) for part in (training, test)]
        by_class = zip(training.class_names, *(part.tolist() for part in counts), strict=True)
        classes = {name: (num_training, num_test) for name, num_training, num_test in by_class}
        return cls(classes, training.image_shape, training.files)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values; sizes are width and height in pixels."""
        smallest, largest = self.files.sizes or (None, None)
        return {
            "training_images": sum(training for training, _ in self.classes.values()),
            "test_images": sum(test for _, test in self.classes.values()),
            "classes": {
                name: {"training": training, "test": test}
                for name, (training, test) in self.classes.items()
            },
            "image_shape": self.image_shape,
            "smallest_file": smallest,
            "largest_file": largest,
            "remarks": self.files.remarks,
        }

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        training, test = (sum(column) for column in zip(*self.classes.values(), strict=True))
        lines = [
            f"{len(self.classes)} classes, {training:,} training images and {test:,} test images",
            self._class_line(),
            self._size_line(),
        ]
        if empty := [name for name, (count, _) in self.classes.items() if not count]:
            more = f" and {len(empty) - _MAX_CLASSES} more" if len(empty) > _MAX_CLASSES else ""
            lines.append(
                f"Classes without training images: {', '.join(empty[:_MAX_CLASSES])}{more}"
            )
        return [*lines, *self.files.remarks]

    def _class_line(self) -> str:
        if len(self.classes) <= _MAX_CLASSES:
            counts = (f"{name} {a:,} + {b:,}" for name, (a, b) in self.classes.items())
            return f"Training + test images of each class: {', '.join(counts)}"
        ordered = sorted(self.classes.items(), key=lambda item: item[1])
        (rare, (fewest, _)), (common, (most, _)) = ordered[0], ordered[-1]
        if fewest == most:
            return f"Training images of each class: {fewest:,}"
        return f"Training images of each class: {fewest:,} ({rare}) to {most:,} ({common})"

    def _size_line(self) -> str:
        height, width, channels = self.image_shape
        colour = "grey" if channels == 1 else "in colour"
        if self.files.sizes in (None, ((width, height), (width, height))):
            return f"Images: {width} x {height} pixels, {colour}"
        smallest, largest = self.files.sizes
        sizes = " to ".join(f"{w:,} x {h:,}" for w, h in dict.fromkeys(self.files.sizes))
        line = f"Images of {sizes} pixels become {width} x {height} pixels, {colour}"
        across, down = largest[0] / width, largest[1] / height
        if max(across, down) > 1:
            line += (
                f". Details are lost: in the largest, {across:.3g} x {down:.3g} pixels become one"
            )
        if any(w * height != h * width for w, h in (smallest, largest)):
            line += ". The sides are scaled separately, which changes the proportions"
        return line
