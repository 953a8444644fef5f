"""Windows of convolutions and pools: strides, dilations and padding."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_edge.export.onnx_operators.node import Node, Unsupported


def geometry(node: Node, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the strides and the dilations of a node."""
    spatial = len(kernel)
    strides = list(node.attribute("strides", [1] * spatial))
    return strides, list(node.attribute("dilations", [1] * spatial))


def padding_of(
    node: Node,
    sizes: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[str, list[tuple[int, int]]]:
    """Return the padding of a convolution or a pool: TensorFlow's name of it, and its sizes.

    What no window reads is left out. "SAME" and "VALID" need no padding of their own.
    """
    spatial = len(kernel)
    kind = node.attribute("auto_pad", "NOTSET")
    stated = list(node.attribute("pads", [0] * 2 * spatial))
    pads, same = [], []
    for axis in range(spatial):
        size, step = sizes[axis], strides[axis]
        if size is None:
            raise Unsupported("the size of its input is not fixed")
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        if kind == "SAME_UPPER":
            pad = (total // 2, total - total // 2)
        elif kind == "SAME_LOWER":
            pad = (total - total // 2, total // 2)
        else:
            pad = (0, 0) if kind == "VALID" else (stated[axis], stated[axis + spatial])
            room = size + sum(pad) - reach
            count = (-(-room // step) if node.attribute("ceil_mode", 0) else room // step) + 1
            if node.attribute("ceil_mode", 0) and (count - 1) * step >= size + pad[0]:
                count -= 1  # no window starts in the padding behind the values
            pad = (pad[0], max((count - 1) * step + reach - size - pad[0], 0))
        pads.append(pad)
        same.append((total // 2, total - total // 2))
    if not any(map(any, pads)):
        return "VALID", pads
    return ("SAME" if pads == same else "EXPLICIT"), pads


def around(pads: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the padding of all axes from that of the spatial axes."""
    return [(0, 0), *pads, (0, 0)]
