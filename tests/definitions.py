"""Published networks in plain PyTorch, from the tables of their papers.

Modules are named as torchvision names them, so that a checkpoint of one loads into the other.
"""

import torch
from torch import nn


def conv_bn(
    inputs: int,
    outputs: int,
    size: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = None,
    **norm: float,
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, **norm), *([act()] if act else []))


class Classifier(nn.Module):
    """Features, their mean over the image, and layers on top."""

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class Gate(nn.Module):
    """Squeeze-and-excitation (Hu et al., arXiv 1709.01507)."""

    def __init__(self, channels: int, hidden: int, act: nn.Module, squash: nn.Module):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.between = (act, squash)

    def forward(self, x):
        act, squash = self.between
        return x * squash(self.fc2(act(self.fc1(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """Adds its input where shapes agree; the layers have a name of the architecture's choice."""

    def __init__(self, name: str, layers: list[nn.Module], adds: bool):
        super().__init__()
        self.add_module(name, nn.Sequential(*layers))
        self.adds = adds

    def forward(self, x):
        (layers,) = self.children()
        return x + layers(x) if self.adds else layers(x)


class VGG16(nn.Module):
    """Simonyan and Zisserman, arXiv 1409.1556, table 1, column D."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width, depth in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
            for _ in range(depth):
                conv = nn.Conv2d(inputs, width, 3, padding=1)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, x):
        maps = nn.functional.adaptive_avg_pool2d(self.features(x), 7)
        return self.classifier(maps.flatten(1))


class Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeNet(nn.Module):
    """Iandola et al., arXiv 1602.07360; version 1.1 pools earlier and has a 3x3 stem."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU()]
        inputs = 64
        for squeezed, pools in [(16, True), (32, True), (48, True), (64, False)]:
            if pools:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            for _ in range(2):
                layers.append(Fire(inputs, squeezed, 4 * squeezed))
                inputs = 8 * squeezed
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.features(x)).mean((2, 3))


class EfficientNet(Classifier):
    """Tan and Le, arXiv 1905.11946, table 1."""

    def __init__(self):
        super().__init__()
        table = [
            (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
            (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
        ]  # fmt: skip
        features = [conv_bn(3, 32, 3, 2, act=nn.SiLU)]
        inputs = 32
        for expansion, size, stride, outputs, depth in table:
            blocks = []
            for i in range(depth):
                step, hidden = (stride if i == 0 else 1), inputs * expansion
                first = [conv_bn(inputs, hidden, act=nn.SiLU)] if expansion > 1 else []
                layers = [
                    *first,
                    conv_bn(hidden, hidden, size, step, hidden, nn.SiLU),
                    Gate(hidden, inputs // 4, nn.SiLU(), nn.Sigmoid()),
                    conv_bn(hidden, outputs),
                ]
                blocks.append(Block("block", layers, step == 1 and inputs == outputs))
                inputs = outputs
            features.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*features, conv_bn(320, 1280, act=nn.SiLU))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))


class InvertedResidual(nn.Module):
    """Sandler et al., arXiv 1801.04381, table 1."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(conv_bn(inputs, hidden, act=nn.ReLU6))
        layers.append(conv_bn(hidden, hidden, 3, stride, hidden, nn.ReLU6))
        self.conv = nn.Sequential(*layers, *conv_bn(hidden, outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        table = [
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1),
        ]  # fmt: skip
        layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, act=nn.ReLU6)]
        inputs = 32
        for expansion, outputs, count, stride in table:
            for i in range(count):
                step = stride if i == 0 else 1
                layers.append(InvertedResidual(inputs, outputs, step, expansion))
                inputs = outputs
        layers.append(conv_bn(inputs, 1280, act=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class MobileNetV3(Classifier):
    """Howard et al., arXiv 1905.02244, table 1: kernel, hidden, outputs, gate, hardswish, step."""

    TABLE = (
        (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2),
        (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1),
        (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1),
        (3, 672, 112, 1, 1, 1), (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1),
        (5, 960, 160, 1, 1, 1),
    )  # fmt: skip
    HIDDEN_OF_GATES = {72: 24, 120: 32, 480: 120, 672: 168, 960: 240}

    def __init__(self):
        super().__init__()
        norm = {"eps": 0.001, "momentum": 0.01}
        blocks: list[nn.Module] = [conv_bn(3, 16, 3, 2, act=nn.Hardswish, **norm)]
        inputs = 16
        for size, hidden, outputs, gated, hard, stride in self.TABLE:
            act = nn.Hardswish if hard else nn.ReLU
            layers = [conv_bn(inputs, hidden, act=act, **norm)] if hidden != inputs else []
            layers.append(conv_bn(hidden, hidden, size, stride, hidden, act, **norm))
            if gated:
                squeezed = self.HIDDEN_OF_GATES[hidden]
                layers.append(Gate(hidden, squeezed, nn.ReLU(), nn.Hardsigmoid()))
            layers.append(conv_bn(hidden, outputs, **norm))
            blocks.append(Block("block", layers, stride == 1 and inputs == outputs))
            inputs = outputs
        blocks.append(conv_bn(160, 960, act=nn.Hardswish, **norm))
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Linear(960, 1280), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1280, 1000)
        )


class ShuffleUnit(nn.Module):
    """Ma et al., arXiv 1807.11164, figure 3 c and d."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride > 1:
            shallow = conv_bn(inputs, inputs, 3, stride, inputs)
            self.branch1 = nn.Sequential(*shallow, *conv_bn(inputs, half, act=nn.ReLU))
        self.branch2 = nn.Sequential(
            *conv_bn(inputs if stride > 1 else half, half, act=nn.ReLU),
            *conv_bn(half, half, 3, stride, half),
            *conv_bn(half, half, act=nn.ReLU),
        )

    def forward(self, x):
        first, second = (x, x) if self.stride > 1 else x.chunk(2, 1)
        pairs = torch.stack([self.branch1(first), self.branch2(second)], 2)
        return pairs.flatten(1, 2)


class ShuffleNet(nn.Module):
    """Ma et al., arXiv 1807.11164, table 5, 1x."""

    def __init__(self):
        super().__init__()
        self.conv1 = conv_bn(3, 24, 3, 2, act=nn.ReLU)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 24
        for number, depth, width in [(2, 4, 116), (3, 8, 232), (4, 4, 464)]:
            units = [ShuffleUnit(inputs, width, 2)]
            units += [ShuffleUnit(width, width, 1) for _ in range(depth - 1)]
            self.add_module(f"stage{number}", nn.Sequential(*units))
            inputs = width
        self.conv5 = conv_bn(464, 1024, act=nn.ReLU)
        self.fc = nn.Linear(1024, 1000)

    def forward(self, x):
        x = self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(x)))))
        return self.fc(self.conv5(x).mean((2, 3)))


class MNASNet(nn.Module):
    """Tan et al., arXiv 1807.11626, figure 7, without squeeze-and-excitation."""

    def __init__(self):
        super().__init__()
        norm = {"momentum": 0.0003}
        layers = [
            *conv_bn(3, 32, 3, 2, act=nn.ReLU, **norm),
            *conv_bn(32, 32, 3, 1, 32, nn.ReLU, **norm),
            *conv_bn(32, 16, **norm),
        ]
        inputs = 16
        table = [
            (24, 3, 2, 3, 3), (40, 5, 2, 3, 3), (80, 5, 2, 6, 3), (96, 3, 1, 6, 2),
            (192, 5, 2, 6, 4), (320, 3, 1, 6, 1),
        ]  # fmt: skip
        for outputs, size, stride, expansion, depth in table:
            blocks = []
            for i in range(depth):
                step, hidden = (stride if i == 0 else 1), inputs * expansion
                parts = [
                    *conv_bn(inputs, hidden, act=nn.ReLU, **norm),
                    *conv_bn(hidden, hidden, size, step, hidden, nn.ReLU, **norm),
                    *conv_bn(hidden, outputs, **norm),
                ]
                blocks.append(Block("layers", parts, step == 1 and inputs == outputs))
                inputs = outputs
            layers.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*layers, *conv_bn(320, 1280, act=nn.ReLU, **norm))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.layers(x).mean((2, 3)))


class RegNetBlock(nn.Module):
    """Radosavovic et al., arXiv 2003.13678, figure 4, with a gate behind the 3x3 (Y)."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.proj = conv_bn(inputs, width, 1, stride) if stride > 1 else nn.Identity()
        self.f = nn.Sequential()
        self.f.add_module("a", conv_bn(inputs, width, act=nn.ReLU))
        self.f.add_module("b", conv_bn(width, width, 3, stride, width // 8, nn.ReLU))
        self.f.add_module("se", Gate(width, inputs // 4, nn.ReLU(), nn.Sigmoid()))
        self.f.add_module("c", conv_bn(width, width))

    def forward(self, x):
        return (self.proj(x) + self.f(x)).relu()


class RegNet(nn.Module):
    """RegNetY-400MF: depths and widths of Radosavovic et al., arXiv 2003.13678, table 8."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 32, 3, 2, act=nn.ReLU)
        self.trunk_output = nn.Sequential()
        inputs = 32
        for number, (depth, width) in enumerate([(1, 48), (3, 104), (6, 208), (6, 440)], 1):
            stage = nn.Sequential()
            for i in range(depth):
                block = RegNetBlock(inputs, width, 2 if i == 0 else 1)
                stage.add_module(f"block{number}-{i}", block)
                inputs = width
            self.trunk_output.add_module(f"block{number}", stage)
        self.fc = nn.Linear(440, 1000)

    def forward(self, x):
        return self.fc(self.trunk_output(self.stem(x)).mean((2, 3)))


class ConvUnit(nn.Module):
    """Convolution, norm and rectifier, under the names of torchvision's `BasicConv2d`."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Inception(nn.Module):
    """Szegedy et al., arXiv 1409.4842, fig. 2b, with two 3x3 in the place of 3x3 and 5x5."""

    def __init__(self, inputs: int, row: tuple[int, ...]):
        super().__init__()
        ones, few3, threes, few5, fives, pooled = row
        self.branch1 = ConvUnit(inputs, ones)
        self.branch2 = nn.Sequential(ConvUnit(inputs, few3), ConvUnit(few3, threes, 3))
        self.branch3 = nn.Sequential(ConvUnit(inputs, few5), ConvUnit(few5, fives, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvUnit(inputs, pooled))

    def forward(self, x):
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], 1)


class InceptionHead(nn.Module):
    """Section 5 there; pooled to 4x4 whatever the size."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.conv = ConvUnit(inputs, 128)
        self.fc1 = nn.Linear(2048, 1024)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x):
        x = self.conv(nn.functional.adaptive_avg_pool2d(x, (4, 4)))
        return self.fc2(self.dropout(self.fc1(x.flatten(1)).relu()))


class GoogLeNet(nn.Module):
    """Table 1 there; while training it gives its output and those of both heads."""

    rows = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.conv1 = ConvUnit(3, 64, 7, 2)
        self.conv2 = ConvUnit(64, 64)
        self.conv3 = ConvUnit(64, 192, 3)
        inputs = 192
        for name, row in self.rows.items():
            self.add_module(f"inception{name}", Inception(inputs, row))
            inputs = row[0] + row[2] + row[4] + row[5]
        self.aux1 = InceptionHead(512, num_classes)
        self.aux2 = InceptionHead(528, num_classes)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = nn.functional.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        heads = []
        for name in self.rows:
            x = self.get_submodule(f"inception{name}")(x)
            if self.training and name in ("4a", "4d"):
                heads.append((self.aux1 if name == "4a" else self.aux2)(x))
            if name == "3b":
                x = nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)
            if name == "4e":
                x = nn.functional.max_pool2d(x, 2, 2, ceil_mode=True)
        logits = self.fc(self.dropout(x.mean((2, 3))))
        return (logits, *heads) if self.training else logits
