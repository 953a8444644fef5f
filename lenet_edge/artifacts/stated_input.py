"""Facts about a model's input that the user states, with options or in Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import Artifact, batch_size_of
from lenet_edge.artifacts.labels import read_labels
from lenet_edge.artifacts.preprocessing import (
    Preprocessing,
    from_mean_std,
    from_pixel_scale,
)
from lenet_edge.errors import DataError, UsageError
from lenet_edge.support.printable import make_printable

OPTIONS = "--pixel-scale, or --mean and --std"
_EXAMPLES = {"pixel_scale": "1/255", "pixel_offset": "-1", "mean": "0.485,0.456,0.406",
             "std": "0.229,0.224,0.225"}  # fmt: skip


@dataclass(frozen=True)
class StatedInput:
    """The facts that the user states; None for each fact that the user leaves open.

    Attributes:
        pixel_scale: factors of pixels of 0 to 255.
        pixel_offset: summands after the factors.
        mean: means of the input, on the scale of 0..1, or on that of 0..255 if a mean or a standard
            deviation is over 1.
        std: standard deviations, on the same scale.
        channels: "rgb", "bgr" or "gray".
        resize: "stretch", "crop" or "letterbox".
        labels: the class names, in the order of the outputs; empty if not stated.
        input_shapes: shapes of inputs by name, which settle their free sizes.

    Raises:
        UsageError: facts contradict each other, or a value is impossible.
    """

    pixel_scale: tuple[float, ...] | None = None
    pixel_offset: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None
    resize: str | None = None
    labels: tuple[str, ...] = ()
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        if self.pixel_offset is not None and self.pixel_scale is None:
            raise UsageError("--pixel-offset needs --pixel-scale, the factor of the pixels")
        if self.pixel_scale is not None and (self.mean, self.std) != (None, None):
            raise UsageError("--pixel-scale and --mean or --std are two ways to say it; give one")
        self.change(Preprocessing())  # checks the values

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> StatedInput:
        """Return the facts in options or in a mapping of Python.

        Args:
            facts: values by the name of an attribute: numbers, sequences of numbers or texts such
                as "1/255" and "0.5,0.5,0.5"; for "labels" a file or a sequence of names. None
                counts as not stated.

        Raises:
            UsageError: a name or a value is wrong.
            DataError: the file of the labels cannot be used.
        """
        known = {name: value for name, value in facts.items() if value is not None}
        unknown = known.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise UsageError(
                f"{min(unknown)} is no fact about an input; give"
                f" {', '.join(cls.__dataclass_fields__)}"
            )
        numbers = {name: _numbers(name, known[name]) for name in _EXAMPLES if name in known}
        labels = known.get("labels", ())
        if isinstance(labels, (str, Path)):
            labels = read_labels(Path(labels))
        shapes = known.get("input_shapes", ())
        shapes = shapes.items() if isinstance(shapes, Mapping) else map(_shape, shapes)
        shapes = tuple((name, tuple(map(int, shape))) for name, shape in shapes)
        return cls(**{**known, **numbers, "labels": tuple(labels), "input_shapes": shapes})

    @property
    def states_values(self) -> bool:
        """True if the user states the input values, not only their order or the labels."""
        return (self.pixel_scale, self.mean, self.std) != (None, None, None)

    def change(self, rule: Preprocessing) -> Preprocessing:
        """Return a preprocessing with the stated facts in place of its own."""
        changes: dict[str, Any] = {
            name: value
            for name, value in (("channels", self.channels), ("resize", self.resize))
            if value is not None
        }
        try:
            if self.states_values:
                stated = self._scale_and_offset()
                changes |= {"scale": stated.scale, "offset": stated.offset, "origin": "said"}
                changes["detail"] = ""
            return replace(rule, **changes)
        except ValueError as error:
            raise UsageError(f"the input cannot be as stated: {error}; check {OPTIONS}") from error

    def _scale_and_offset(self) -> Preprocessing:
        if self.pixel_scale is not None:
            return from_pixel_scale(self.pixel_scale, self.pixel_offset or 0.0)
        mean, std = self.mean or (0.0,), self.std
        if max(map(abs, (*mean, *(std or ())))) > 1:
            std = std or (1.0,)
            rule = from_mean_std(mean, std)
            return from_pixel_scale([scale * 255 for scale in rule.scale], rule.offset)
        return from_mean_std(mean, std or (1.0,))

    def describe(self, artifact: Artifact) -> Artifact:
        """Return an artifact with the stated facts in place of its own.

        Raises:
            UsageError: the facts do not fit the shape of its input.
            DataError: it has another number of classes than labels.
        """
        artifact = self._with_shapes(artifact)
        rule = self.change(artifact.preprocessing)
        shape = artifact.inputs[0].image_shape if artifact.inputs else None
        channels = shape[-1] if shape else None
        three = max(len(rule.scale), len(rule.offset)) == 3 or rule.channels in ("rgb", "bgr")
        if self != StatedInput() and three and channels not in (3, None):
            raise UsageError(
                f"{artifact.name} takes images of {channels} channel(s), and values for three"
                " channels are stated; give one value"
            )
        outputs = artifact.outputs[0].shape[1:] if artifact.outputs else ()
        classes = max((size for size in outputs if size is not None), default=None)
        counts = (1, 2) if classes == 1 else (classes,)  # one label can name the second of two
        if self.labels and classes is not None and len(self.labels) not in counts:
            raise DataError(
                f"{artifact.name} has {classes} outputs, and --labels names {len(self.labels)}"
                " classes; give one name for each"
            )
        return replace(artifact, preprocessing=rule, labels=self.labels or artifact.labels)

    def _with_shapes(self, artifact: Artifact) -> Artifact:
        """Return an artifact whose inputs have the stated shapes.

        A name may be an input of another of several files. So a name that fits no input is an error
        only for a file that needs a shape.
        """
        stated = dict(self.input_shapes)
        names = [spec.name for spec in artifact.inputs]
        if not stated.keys() & set(names):
            if stated and any(None in spec.shape[1:] for spec in artifact.inputs):
                raise UsageError(
                    f"--input-shape {make_printable(min(stated))}: {artifact.name} has the inputs"
                    f" {', '.join(map(make_printable, names))}; name one of them"
                )
            return artifact
        inputs = []
        for spec in artifact.inputs:
            shape = stated.get(spec.name, spec.shape)
            if len(shape) != len(spec.shape) or any(
                known not in (None, size) for known, size in zip(spec.shape, shape, strict=True)
            ):
                sizes = ",".join("any" if size is None else str(size) for size in spec.shape)
                raise UsageError(
                    f"--input-shape {make_printable(spec.name)}={','.join(map(str, shape))}: the"
                    f" input takes {sizes or 'a scalar'}; give a size for each axis"
                )
            inputs.append(replace(spec, shape=shape))
        return replace(artifact, inputs=tuple(inputs), batch_size=batch_size_of(inputs))


NOTHING_STATED = StatedInput()


def question(artifact: Artifact) -> str:
    """Return the line that names an assumption and the options that replace it."""
    return (
        f"{artifact.name} does not say what it takes; fed {artifact.preprocessing} (say otherwise"
        " with --pixel-scale, --mean and --std)"
    )


def _shape(text: str) -> tuple[str, list[int]]:
    """Return the name and the sizes of a text such as "x=1,3,48,192"."""
    name, _, sizes = text.rpartition("=")
    shape = [int(size) if size.isdecimal() else 0 for size in sizes.split(",")]
    if not name or min(shape) < 1:
        raise UsageError(
            f"--input-shape: {make_printable(text[:60])!r} is not a name and its sizes, such as"
            " x=1,3,48,192"
        )
    return name, shape


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, Iterable) else [parts]
    try:
        return tuple(map(_number, parts))
    except (ValueError, TypeError, ZeroDivisionError):
        raise UsageError(
            f"--{name.replace('_', '-')}: {str(value)[:60]!r} is not a number or a list of three,"
            f" such as {_EXAMPLES[name]}"
        ) from None


def _number(value: Any) -> float:
    if isinstance(value, str) and "/" in value:
        numerator, _, denominator = value.partition("/")
        return float(numerator) / float(denominator)
    return float(value)
