"""The shipped architectures against plain PyTorch definitions, with the same weights.

The definitions follow the papers and name their modules as torchvision does: a checkpoint of one
loads into the other. Parameter counts are the published ones.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from nifbuild import build_model, load_spec
from nifbuild.compile import build_skeleton
from tests.definitions import (
    VGG16,
    EfficientNet,
    GoogLeNet,
    MNASNet,
    MobileNetV2,
    MobileNetV3,
    RegNet,
    ShuffleNet,
    SqueezeNet,
    conv_bn,
)

ROOT = Path(__file__).parents[1] / "specs"


class ResNetBlock(nn.Module):
    """He et al., arXiv 1512.03385: two 3x3, or a bottleneck of 1x1, 3x3 (strided), 1x1."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, groups: int = 1):
        super().__init__()
        if outputs == width:
            shapes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        else:
            shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        self.depth = len(shapes)
        for i, (a, b, size, step) in enumerate(shapes, 1):
            g = groups if size > 1 else 1
            conv = nn.Conv2d(a, b, size, step, size // 2, groups=g, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(b))
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = conv_bn(inputs, outputs, 1, stride)

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = y.relu() if i < self.depth else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """`widen` multiplies the inner channels of bottlenecks."""

    def __init__(self, depths: list[int], expansion: int, widen: int = 1, groups: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, depth in enumerate(depths):
            blocks = []
            for i in range(depth):
                width = 64 * 2**stage
                stride = 2 if stage and i == 0 else 1
                outputs = width * expansion
                blocks.append(ResNetBlock(inputs, width * widen, outputs, stride, groups))
                inputs = width * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 1000)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class DenseLayer(nn.Module):
    """Huang et al., arXiv 1608.06993, section 3: bottleneck layers, growth rate 32."""

    def __init__(self, inputs: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 128, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, earlier):
        y = self.conv1(self.norm1(torch.cat(earlier, 1)).relu())
        return self.conv2(self.norm2(y).relu())


class DenseNet(nn.Module):
    def __init__(self, depths: list[int]):
        super().__init__()
        self.depths = depths
        self.features = nn.Module()
        self.features.conv0 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.features.norm0 = nn.BatchNorm2d(64)
        width = 64
        for number, depth in enumerate(depths, 1):
            block = nn.Module()
            for i in range(depth):
                block.add_module(f"denselayer{i + 1}", DenseLayer(width + 32 * i))
            self.features.add_module(f"denseblock{number}", block)
            width += 32 * depth
            if number < 4:
                step = nn.Module()
                step.norm = nn.BatchNorm2d(width)
                step.conv = nn.Conv2d(width, width // 2, 1, bias=False)
                self.features.add_module(f"transition{number}", step)
                width //= 2
        self.features.norm5 = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, 1000)

    def forward(self, x):
        f = self.features
        x = nn.functional.max_pool2d(f.norm0(f.conv0(x)).relu(), 3, 2, 1)
        for number in range(1, 5):
            maps = [x]
            for layer in f.get_submodule(f"denseblock{number}").children():
                maps.append(layer(maps))
            x = torch.cat(maps, 1)
            if number < 4:
                step = f.get_submodule(f"transition{number}")
                x = nn.functional.avg_pool2d(step.conv(step.norm(x).relu()), 2)
        return self.classifier(f.norm5(x).relu().mean((2, 3)))


class Permute(nn.Module):
    def __init__(self, *axes: int):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


class ConvNeXtBlock(nn.Module):
    """Liu et al., arXiv 2201.03545, fig. 4."""

    def __init__(self, width: int):
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width, 1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Permute(0, 3, 1, 2),
        )

    def forward(self, x):
        return x + self.layer_scale * self.block(x)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, width: int = 96, depth: int = 9):
        super().__init__()
        widths, depths = [width, 2 * width, 4 * width, 8 * width], [3, 3, depth, 3]
        layers = [nn.Sequential(nn.Conv2d(3, width, 4, 4), ChannelNorm(width, 1e-6))]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if i:
                before = widths[i - 1]
                halve = nn.Conv2d(before, width, 2, 2)
                layers.append(nn.Sequential(ChannelNorm(before, 1e-6), halve))
            layers.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(depth))))
        self.features = nn.Sequential(*layers)
        last = widths[-1]
        self.classifier = nn.Sequential(
            ChannelNorm(last, 1e-6), nn.Flatten(), nn.Linear(last, 1000)
        )

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3), keepdim=True))


ARCHITECTURES = {
    "resnet18": (lambda: ResNet([2, 2, 2, 2], 1), 11_689_512),
    "resnet50": (lambda: ResNet([3, 4, 6, 3], 4), 25_557_032),
    "resnet101": (lambda: ResNet([3, 4, 23, 3], 4), 44_549_160),
    "densenet121": (lambda: DenseNet([6, 12, 24, 16]), 7_978_856),
    "mobilenet_v2": (MobileNetV2, 3_504_872),
    "convnext_tiny": (ConvNeXt, 28_589_128),
    "squeezenet1_1": (SqueezeNet, 1_235_496),
    "efficientnet_b0": (EfficientNet, 5_288_548),
    "mobilenet_v3_large": (MobileNetV3, 5_483_032),
    "shufflenet_v2_x1_0": (ShuffleNet, 2_278_604),
    "mnasnet1_0": (MNASNet, 4_383_312),
    "regnet_y_400mf": (RegNet, 4_344_144),
    "googlenet": (GoogLeNet, 13_004_888),
    "resnext50_32x4d": (lambda: ResNet([3, 4, 6, 3], 4, 2, 32), 25_028_904),
}
BY_KEYS = {
    "resnet34": (lambda: ResNet([3, 4, 6, 3], 1), 21_797_672),
    "resnet152": (lambda: ResNet([3, 8, 36, 3], 4), 60_192_808),
    "wide_resnet50_2": (lambda: ResNet([3, 4, 6, 3], 4, 2), 68_883_240),
    "densenet169": (lambda: DenseNet([6, 12, 32, 32]), 14_149_480),
    "densenet201": (lambda: DenseNet([6, 12, 48, 32]), 20_013_928),
    "convnext_small": (lambda: ConvNeXt(96, 27), 50_223_688),
    "convnext_base": (lambda: ConvNeXt(128, 27), 88_591_464),
    "vgg16_bn": (VGG16, 138_365_992),
}
"""Those that are large, and compute what others here do."""
SPLIT_COUNTS = {
    "resnet18": 3_331_904,
    "resnet50": 18_280_128,
    "resnet101": 28_404_920,
    "densenet121": 6_159_512,
    "mobilenet_v2": 3_512_560,
    "convnext_tiny": 28_890_664,
}
FULL_COUNTS = {
    "resnet18": 21_127_320,
    "resnet50": 33_778_328,
    "resnet101": 62_798_280,
    "densenet121": 10_119_752,
}


def num_params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def fill(model: nn.Module) -> nn.Module:
    """Draws everything that a fresh model has as zeros, ones or a negligible scale."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1)
        elif name.endswith("layer_scale") or tensor.ndim == 1:
            tensor.normal_(0.8, 0.2)
    return model.eval()


def test_every_architecture_is_compared():
    assert {p.stem for p in (ROOT / "architectures").glob("*.yaml")} == {*ARCHITECTURES, *BY_KEYS}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_same_keys_and_outputs_as_the_definition(name):
    definition, count = ARCHITECTURES[name]
    torch.manual_seed(0)
    reference = fill(definition())
    model = build_model(load_spec(ROOT / f"architectures/{name}.yaml")).eval()
    expected = {key: value.shape for key, value in reference.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == expected
    assert num_params(model) == count
    model.load_state_dict(reference.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, wanted = model(x), reference(x)
    assert wanted.std() > 0.01, "the weights make all images look the same"
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_norms_are_those_of_the_definition(name):
    with torch.device("meta"):
        reference = dict(ARCHITECTURES[name][0]().named_modules())
    model = build_skeleton(load_spec(ROOT / f"architectures/{name}.yaml"))
    for path, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (reference[path].eps, reference[path].momentum)


def test_googlenet_without_its_auxiliary_heads():
    full = load_spec(ROOT / "architectures/googlenet.yaml")
    model = build_skeleton(full.without_auxiliary())
    assert num_params(model) == 6_624_904
    heads = {k for k in build_skeleton(full).state_dict() if k.startswith(("aux1.", "aux2."))}
    assert set(build_skeleton(full).state_dict()) - heads == set(model.state_dict())


def test_googlenet_trains_with_the_definitions_three_outputs():
    torch.manual_seed(0)
    reference = fill(GoogLeNet(num_classes=10))
    overrides = ["vars.num_classes=10", "input.size=64"]
    model = build_model(load_spec(ROOT / "architectures/googlenet.yaml", overrides=overrides))
    model.load_state_dict(reference.state_dict())
    x = torch.randn(4, 3, 64, 64)
    for network in (model.train(), reference.train()):
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    for found, wanted in zip(model(x), reference(x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def test_depth_is_left_out_as_published():
    """EfficientNet counts the blocks that add nothing, too; ConvNeXt ends at the rate."""

    def rates(name):
        nodes = load_spec(ROOT / f"architectures/{name}.yaml").graph.nodes
        return [n.op.rate for n in nodes if n.op.op == "stochastic_depth"]

    adding = [2, 4, 6, 7, 9, 10, 12, 13, 14]
    assert rates("efficientnet_b0") == pytest.approx([0.2 * i / 16 for i in adding])
    assert rates("convnext_base") == pytest.approx([0.5 * i / 35 for i in range(36)])
    assert rates("convnext_small")[-1] == 0.4 and rates("convnext_tiny")[-1] == 0.1


@pytest.mark.parametrize("name", BY_KEYS)
def test_same_keys_and_shapes_as_the_definition(name):
    definition, count = BY_KEYS[name]
    with torch.device("meta"):
        reference = definition()
    model = build_skeleton(load_spec(ROOT / f"architectures/{name}.yaml"))
    expected = {key: value.shape for key, value in reference.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == expected
    assert num_params(model) == count


PAPER = [(name, "split") for name in SPLIT_COUNTS] + [(name, "full") for name in FULL_COUNTS]


@pytest.mark.parametrize(("name", "variant"), PAPER)
def test_parameter_counts_of_the_paper(name, variant):
    """Those of the models of Grabinski, Keuper, Keuper (arXiv 2307.10001) for 1000 classes."""
    with torch.device("meta"):
        model = build_model(load_spec(ROOT / f"paper/{name}_{variant}.yaml"))
    assert num_params(model) == {"split": SPLIT_COUNTS, "full": FULL_COUNTS}[variant][name]


@pytest.mark.parametrize(("name", "variant"), PAPER)
def test_the_papers_models_differ_in_all_spatial_convolutions_of_stride_1(name, variant):
    resolved = load_spec(ROOT / f"paper/{name}_{variant}.yaml")
    for node in resolved.graph.nodes:
        if node.op.op == "conv":
            expected = node.op.stride == (1, 1) and node.op.kernel_size != (1, 1)
            assert (node.op.kind == "implicit_frequency") == expected, node.path


@pytest.mark.parametrize("name", SPLIT_COUNTS)
def test_everywhere_means_every_convolution_and_the_same_shapes(name):
    ordinary = load_spec(ROOT / f"architectures/{name}.yaml").graph.nodes
    everywhere = load_spec(ROOT / f"everywhere/{name}.yaml").graph.nodes
    for before, after in zip(ordinary, everywhere, strict=True):
        assert (before.path, before.output_shape) == (after.path, after.output_shape)
        if before.op.op == "conv":
            assert after.op.kind == "implicit_frequency"


def test_every_paper_spec_is_compared():
    found = {p.stem for p in (ROOT / "paper").glob("*.yaml")}
    assert found == {f"{name}_{variant}" for name, variant in PAPER}
    assert {p.stem for p in (ROOT / "everywhere").glob("*.yaml")} == set(SPLIT_COUNTS)
