"""Preprocessing: the facts that turn the pixels of an image into the input values of a model.

Training, calibration, verification, benchmarks, prediction and the board all use `apply` and
`to_input_values`. The layout and the size of an input stay with its `TensorSpec`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHANNELS = ("gray", "rgb", "bgr")
RESIZE_RULES = ("stretch", "crop", "letterbox")
FILTERS = ("bilinear", "bicubic", "nearest")
# Sources of a scale and offset, the most reliable first.
ORIGINS = ("said", "read", "inferred", "tested", "assumed")
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a gray value
_LARGEST = 1e9  # magnitude of a scale or an offset; float32 holds its product with a pixel
_SMALLEST = 1e-9  # magnitude of a scale; its inverse is finite
_TOLERANCE = 0.02  # of a range of input values, for rounding and for images without pure white


@dataclass(frozen=True)
class Preprocessing:
    """The rule that turns pixels of 0 to 255 into input values: ``pixel * scale + offset``.

    Attributes:
        scale: one factor for all channels, or one for each channel, in the order of `channels`.
        offset: one summand for all channels, or one for each channel.
        channels: "gray", "rgb" or "bgr"; None if no source names the order. Then images have the
            channels of the input tensor, in the order RGB.
        resize: "stretch" ignores the aspect ratio, "crop" cuts out the centre, and "letterbox"
            adds borders. None if no source names it: models of MNIST's digits then get the digit
            that `data.handwriting` cuts out, and other models stretched images.
        filter: "bilinear", "bicubic" or "nearest".
        origin: source of scale and offset. "said": the user. "read": the file or its manifest.
            "inferred": the range of a quantized input, or of float images. "tested": the accuracy
            on labelled images. "assumed": no source.
        detail: the source in a few words, for example "the TFLite metadata".
    """

    scale: tuple[float, ...] = (1 / 255,)
    offset: tuple[float, ...] = (0.0,)
    channels: str | None = None
    resize: str | None = None
    filter: str = "bilinear"
    origin: str = "read"
    detail: str = ""

    def __post_init__(self) -> None:
        for name in ("scale", "offset"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        values = (*self.scale, *self.offset)
        if not all(isinstance(value, (int, float)) for value in values):
            raise ValueError("a scale or an offset is not a number")
        is_finite = all(-_LARGEST < value < _LARGEST for value in values)
        if not is_finite or any(abs(value) < _SMALLEST for value in self.scale):
            raise ValueError("a scale or an offset is not finite, or a scale is 0")
        if not {len(self.scale), len(self.offset)} <= {1, 3}:
            raise ValueError("scale and offset have one value, or one for each of three channels")
        for name, choices in (
            ("channels", (None, *CHANNELS)),
            ("resize", (None, *RESIZE_RULES)),
            ("filter", FILTERS),
            ("origin", ORIGINS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r:.40}")

    @property
    def is_assumed(self) -> bool:
        """True if no source says the scale, so that each result that uses it is a question."""
        return self.origin == "assumed"

    @property
    def input_range(self) -> tuple[float, float]:
        """The lowest and the highest input value that a pixel can give."""
        ends = [pixel * s + o for s, o in self._by_channel() for pixel in (0, 255)]
        return min(ends), max(ends)

    def _by_channel(self) -> list[tuple[float, float]]:
        count = max(len(self.scale), len(self.offset))
        scales, offsets = ((values * count)[:count] for values in (self.scale, self.offset))
        return list(zip(scales, offsets, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Describe the input values in words: "pixels scaled to 0..1"."""
        order = {"bgr": ", channels in the order BGR", "gray": "", "rgb": "", None: ""}
        if len(set(self._by_channel())) == 1:
            low, high = self.input_range
            if self.scale[0] < 0:
                return f"inverted pixels scaled to {high:.4g}..{low:.4g}{order[self.channels]}"
            if (low, high) == (0, 255):
                return f"pixels of 0 to 255{order[self.channels]}"
            if not self.offset[0] or abs(low + high) < _TOLERANCE:
                return f"pixels scaled to {low:.4g}..{high:.4g}{order[self.channels]}"
        if set(self.scale) == {1}:
            means = ", ".join(f"{-offset:.4g}" for offset in self.offset)
            return f"pixels of 0 to 255 minus {means}{order[self.channels]}"
        count = 1 if len(set(self._by_channel())) == 1 else None
        mean, std = (values[:count] for values in self.mean_std)
        texts = (", ".join(f"{value:.4g}" for value in values) for values in (mean, std))
        return (
            "pixels scaled to 0..1, with mean {} and std {}".format(*texts) + order[self.channels]
        )

    def expression(self, pixel: str) -> str:
        """Return the computation of an input value as text: "p * 0.00784313725 - 1"."""
        pairs = self._by_channel()
        if len(set(pairs)) == 1:
            scale, offset = pairs[0]
            sign = "-" if offset < 0 else "+"
            return f"{pixel} * {scale:.9g}" + (f" {sign} {abs(offset):.9g}" if offset else "")
        scales, offsets = (
            ", ".join(f"{x:.9g}" for x in values) for values in zip(*pairs, strict=True)
        )
        return f"{pixel} * {{{scales}}}[channel] + {{{offsets}}}[channel]"

    @property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation on the scale of 0..1, as torchvision states them."""
        pairs = self._by_channel()
        return tuple(-o / (255 * s) for s, o in pairs), tuple(1 / (255 * s) for s, o in pairs)


def from_pixel_scale(
    scale: float | Sequence[float], offset: float | Sequence[float] = 0.0, **facts: Any
) -> Preprocessing:
    """Return the Preprocessing that computes ``pixel * scale + offset``.

    Args:
        scale: a factor, or one for each channel.
        offset: a summand, or one for each channel.
        facts: further fields of `Preprocessing`.

    Raises:
        ValueError: a value is impossible.
    """
    return Preprocessing(scale=_values(scale), offset=_values(offset), **facts)


def from_mean_std(
    mean: float | Sequence[float], std: float | Sequence[float], **facts: Any
) -> Preprocessing:
    """Return the Preprocessing that computes ``(pixel / 255 - mean) / std``.

    Args:
        mean: a mean on the scale of 0..1, or one for each channel, as torchvision states them.
        std: a standard deviation on the same scale, or one for each channel.
        facts: further fields of `Preprocessing`.

    Raises:
        ValueError: a value is impossible.
    """
    means, stds = _values(mean), _values(std)
    if 0 in stds:
        raise ValueError("a standard deviation is 0")
    count = max(len(means), len(stds))
    if not {len(means), len(stds)} <= {1, count}:
        raise ValueError("mean and std have different numbers of channels")
    means, stds = ((values * count)[:count] for values in (means, stds))
    return Preprocessing(
        scale=tuple(1 / (255 * s) for s in stds),
        offset=tuple(-m / s for m, s in zip(means, stds, strict=True)),
        **facts,
    )


def _values(values: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, values if isinstance(values, Sequence) else (values,)))


PIXELS = Preprocessing(scale=(1.0,))
UNIT = Preprocessing(scale=(1 / 255,))
SIGNED = Preprocessing(scale=(1 / 127.5,), offset=(-1.0,))
IMAGENET = from_mean_std((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MNIST = from_mean_std(0.1307, 0.3081)


def apply(images: npt.NDArray[Any], preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Turn pixels into input values.

    Args:
        images: pixels of 0 to 255, of shape (..., height, width, channels) with channels in the
            order RGB, or of any shape if all channels have the same scale.
        preprocessing: the rule.

    Returns:
        float32 of the same shape.

    Raises:
        ValueError: the rule has three channels, and the images do not.
    """
    import numpy as np

    per_channel = len(set(preprocessing._by_channel())) > 1
    swapped = preprocessing.channels == "bgr" and images.ndim > 2 and images.shape[-1] == 3
    if per_channel and (images.ndim < 3 or images.shape[-1] != 3):
        raise ValueError(f"it has a scale for each of 3 channels, and images are {images.shape}")
    values = images[..., ::-1] if swapped else images
    if preprocessing.channels == "gray" and images.ndim > 2 and images.shape[-1] == 3:
        values = np.repeat(images @ np.array(LUMA, np.float32), 3).reshape(images.shape)
    pairs = preprocessing._by_channel() if per_channel else preprocessing._by_channel()[:1]
    scales, offsets = np.array(pairs, np.float32).T
    # x / 255 and x * (1 / 255) differ in the last bit, and training frameworks divide.
    divisors = [round(2 / s) / 2 for s, _ in pairs]
    if all(d and 1 / d == s for d, (s, _) in zip(divisors, pairs, strict=True)):
        result = values / np.array(divisors, np.float32)
    else:
        result = values * scales
    if offsets.any():
        result = result + offsets
    return np.ascontiguousarray(result, np.float32)


def to_input_values(
    images: npt.NDArray[Any], preprocessing: Preprocessing
) -> npt.NDArray[np.float32]:
    """Turn integers or floats into input values.

    Integers are pixels. Floats are input values if their range fits the rule, or if the rule is
    only assumed. Otherwise they are pixels that somebody has scaled to 0..1 or -1..1, or float
    pixels. They are scaled back first.

    Args:
        images: all images of a set, because their common range decides.
        preprocessing: the rule.

    Returns:
        float32 of the same shape.
    """
    import numpy as np

    if images.dtype.kind != "f":
        return apply(images, preprocessing)
    scaling = None if preprocessing.is_assumed else float_scaling(images, preprocessing)
    if scaling is None:
        return np.ascontiguousarray(images, np.float32)
    scale, offset = scaling.scale[0], scaling.offset[0]
    return apply(
        (images.astype(np.float32) - np.float32(offset)) / np.float32(scale), preprocessing
    )


def recover_pixels(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """Return the pixels of integers, or of floats that were scaled; None if it is not known how."""
    import numpy as np

    if images.dtype.kind != "f":
        return images.astype(np.uint8)
    scaling = infer_from_floats(images)
    if scaling is None or len(scaling.scale) > 1:
        return None
    pixels = (images - scaling.offset[0]) / scaling.scale[0]
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def float_scaling(images: npt.NDArray[Any], preprocessing: Preprocessing) -> Preprocessing | None:
    """Return the scaling of float images that are no input values of a rule; None if they are."""
    low, high = float(images.min()), float(images.max())
    lowest, highest = preprocessing.input_range
    slack = _TOLERANCE * (highest - lowest)
    fits = lowest - slack <= low and high <= highest + slack
    if fits and (low < lowest / 10 < 0 or high - low > 0.6 * (highest - lowest)):
        return None
    scaling = infer_from_floats(images)
    same = scaling and (scaling.scale, scaling.offset) == (
        preprocessing.scale,
        preprocessing.offset,
    )
    return None if same else scaling


def infer_from_floats(images: npt.NDArray[Any]) -> Preprocessing | None:
    """Return the scaling of float images by their range; None if the range fits no usual one."""
    low, high = float(images.min()), float(images.max())
    detail = f"the images, floats of {low:.3g} to {high:.3g}"
    for scaling, lowest, highest in ((UNIT, 0, 1), (SIGNED, -1, 1), (PIXELS, 0, 255)):
        if lowest - 1e-3 <= low and high <= highest * 1.001:
            return dataclasses.replace(scaling, origin="inferred", detail=detail)
    for scaling in (MNIST, IMAGENET):  # both ends are specific, so both must fit
        black, white = scaling.input_range
        if abs(low - black) < _TOLERANCE and abs(high - white) < _TOLERANCE:
            return dataclasses.replace(scaling, origin="inferred", detail=detail)
    return None


def infer_from_tensor(
    dtype: str, scale: float | None, zero_point: int | None
) -> Preprocessing | None:
    """Return the scaling that the range of a quantized input tensor implies.

    A tensor of 0..1 can only hold scaled pixels, because all others would be clipped. The range may
    be slightly smaller or larger, as calibration images set it.

    Args:
        dtype: the type of the tensor.
        scale: its quantization scale.
        zero_point: its zero point.

    Returns:
        The scaling; None for float tensors and for ranges that fit no usual scaling.
    """
    limits = {"int8": (-128, 127), "uint8": (0, 255)}.get(dtype)
    if limits is None or not scale or zero_point is None or scale < 0:
        return None
    low, high = (scale * (limit - zero_point) for limit in limits)
    detail = f"the input tensor, which holds {low:.4g} to {high:.4g}"
    for scaling, smaller in ((UNIT, 0.2), (SIGNED, 0.2), (PIXELS, 0.2), (IMAGENET, 0), (MNIST, 0)):
        lowest, highest = scaling.input_range
        span = highest - lowest
        slack = 0.05 * span if smaller else _TOLERANCE * span
        if abs(low - lowest) <= slack and -smaller * span - slack <= high - highest <= slack:
            return dataclasses.replace(scaling, origin="inferred", detail=detail)
    return None
