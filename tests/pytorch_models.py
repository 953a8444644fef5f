"""Small PyTorch networks, their training on MNIST's digits, and their export by both exporters.

`python -m tests.pytorch_models FOLDER` makes the files of tests/golden/onnx again, in five minutes.
It needs the packages torch, onnx and onnxscript. tests/golden/onnx/README.md names the versions.
The weights differ a little between processors.
"""
# mypy: allow-subclassing-any, allow-untyped-calls

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests import onnx_models
from tests.onnx_models import OnnxModel


class LeNet(nn.Module):
    """The LeNet of this package, with the flattening of many tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 16, 3)
        self.dense1, self.dense2 = nn.Linear(400, 120), nn.Linear(120, 84)
        self.logits = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(nn.functional.max_pool2d(self.conv1(x), 2))
        x = torch.relu(nn.functional.max_pool2d(self.conv2(x), 2))
        x = x.view(x.size(0), -1)
        return self.logits(torch.relu(self.dense2(torch.relu(self.dense1(x)))))


def conv_bn(
    inputs: int, outputs: int, kernel: Any = 3, stride: Any = 1, groups: int = 1, act: Any = nn.ReLU
) -> nn.Sequential:
    """Return a convolution with BatchNorm and an activation."""
    padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), act())


def classify(channels: int) -> list[nn.Module]:
    """Return the last layers of a classifier of digits."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


class Residual(nn.Module):
    """The block of ResNet-8."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3, stride)
        self.second = conv_bn(outputs, outputs, act=nn.Identity)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """The block of MobileNetV2."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [conv_bn(inputs, hidden, 1, act=nn.ReLU6)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            conv_bn(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6),
            conv_bn(hidden, outputs, 1, act=nn.Identity),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class UNet(nn.Module):
    """Two steps down, two up, with a concatenation at each; optionally with logits of the digit."""

    def __init__(self, classes: bool) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv_bn(3, 8), conv_bn(8, 16), conv_bn(16, 32)
        self.up2, self.up1 = conv_bn(48, 16), conv_bn(24, 8)
        self.pool, self.mask = nn.MaxPool2d(2), nn.Conv2d(8, 1, 1)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.classes = nn.Sequential(*classify(32)) if classes else None

    def forward(self, x: Tensor) -> Any:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        bottom = self.bottom(self.pool(second))
        x = self.up2(torch.cat([self.grow(bottom), second], 1))
        x = self.mask(self.up1(torch.cat([self.grow(x), first], 1)))
        return (self.classes(bottom), x) if self.classes else x


def resnet8() -> nn.Module:
    """Return ResNet-8 of MLPerf Tiny, with half the channels."""
    return nn.Sequential(
        conv_bn(3, 8), Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 32, 2), *classify(32)
    )


def mobilenet() -> nn.Module:
    """Return MobileNetV2 of width 0.15, for images of 32 x 32."""
    blocks: list[nn.Module] = [conv_bn(3, 8, 3, 2, act=nn.ReLU6)]
    inputs = 8
    plan = ((1, 8, 1, 1), (6, 8, 2, 1), (6, 8, 2, 2), (6, 16, 2, 2), (6, 24, 2, 1), (6, 32, 1, 1))
    for expansion, outputs, repeats, stride in plan:
        for i in range(repeats):
            blocks.append(InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(*blocks, conv_bn(32, 128, 1, act=nn.ReLU6), *classify(128))


def ds_cnn() -> nn.Module:
    """Return the keyword spotter DS-CNN of MLPerf Tiny, with 32 of its 64 channels."""
    blocks: list[nn.Module] = [conv_bn(1, 32, (10, 4), (2, 2))]
    for _ in range(4):
        blocks += [conv_bn(32, 32, 3, groups=32), conv_bn(32, 32, 1)]
    return nn.Sequential(*blocks, *classify(32))


NETWORKS = {
    "lenet": LeNet,
    "resnet8": resnet8,
    "mobilenetv2": mobilenet,
    "ds_cnn": ds_cnn,
    "unet": lambda: UNet(classes=False),
    "unet_two_outputs": lambda: UNet(classes=True),
}


def train(model: OnnxModel) -> nn.Module:
    """Train a network on digits, and return it for inference."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    epochs, count = (8, 60000) if model is onnx_models.LENET else (3, 16000)
    network: nn.Module = NETWORKS[model.name]()
    images, labels = model.data("train", count)
    digits = torch.from_numpy(labels.astype(np.int64))
    masks = torch.from_numpy(onnx_models.masks(onnx_models.LENET.data("train", count)[0]))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    steps = epochs * len(images) // 100
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(100)[: steps // epochs]:
            outputs = network(torch.from_numpy(model.values(images[batch.numpy()])))
            loss = torch.zeros(())
            for output in outputs if isinstance(outputs, tuple) else (outputs,):
                if output.ndim == 2:
                    loss = loss + nn.functional.cross_entropy(output, digits[batch])
                else:
                    expected = masks[batch]
                    loss = loss + nn.functional.binary_cross_entropy_with_logits(output, expected)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
    return network.eval()


def output_names(model: OnnxModel) -> list[str]:
    """Return the names of a network's outputs."""
    if model is onnx_models.TWO_OUTPUTS:
        return ["logits", "mask"]
    return ["logits"] if model.is_classifier else ["mask"]


def write(model: OnnxModel, network: nn.Module, path: Path) -> None:
    """Write a network as the name of the file says: exporter, operator set, folding."""
    _, options = path.stem.removesuffix("_unfolded").rsplit("_", 1)
    exporter, opset = options[:6], int(options[6:])
    fold = not path.stem.endswith("_unfolded")
    images, _ = model.data("test", 2)
    common: dict[str, Any] = {
        "opset_version": opset,
        "input_names": ["image"],
        "output_names": output_names(model),
        "verbose": False,
    }
    if exporter == "script":
        names = ("image", *output_names(model))
        common |= {
            "dynamo": False,
            "do_constant_folding": fold,
            "dynamic_axes": {name: {0: "N"} for name in names},
        }
    else:
        common |= {
            "dynamo": True,
            "optimize": fold,
            "external_data": False,
            "dynamic_shapes": ({0: torch.export.Dim("N")},),
        }
    torch.onnx.export(network, (torch.from_numpy(model.values(images)),), str(path), **common)


def write_litert(folder: Path) -> None:
    """Convert the LeNet of the .onnx files by litert-torch, which needs an environment of its own.

    `python -c "from tests.pytorch_models import *; write_litert(Path('tests/golden/onnx'))"`
    """
    import litert_torch
    import onnx

    graph = onnx.load(folder / "lenet_script17.onnx").graph
    weights = {w.name: torch.tensor(onnx.numpy_helper.to_array(w)) for w in graph.initializer}
    network = LeNet()
    network.load_state_dict(weights, strict=True)
    example = torch.zeros(1, 1, 28, 28)
    file = litert_torch.convert(network.eval(), (example,))
    file.export(str(folder / "lenet_litert_torch.tflite"))


def main(folder: Path, models: Iterable[OnnxModel] = onnx_models.MODELS) -> None:
    """Train all networks, and write their files."""
    for model in models:
        network = train(model)
        images, labels = model.data("test", 2000)
        with torch.no_grad():
            outputs = network(torch.from_numpy(model.values(images)))
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            if output.ndim == 2:
                right = (output.argmax(1).numpy() == labels).mean()
                print(f"{model.name}: accuracy {right:.4f}", flush=True)
        for file in model.files:
            write(model, network, folder / file)


if __name__ == "__main__":
    chosen = [m for m in onnx_models.MODELS if m.name in sys.argv[2:] or not sys.argv[2:]]
    main(Path(sys.argv[1]), chosen)
