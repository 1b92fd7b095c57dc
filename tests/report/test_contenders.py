import numpy as np
import pytest
import torch
from torch import nn

from nifbuild.report.bench.contenders import (
    DEFAULT_CONTENDERS,
    IMAGE_SIZE,
    LAYER,
    Contender,
    InputShape,
    PublishedFormula,
    contenders_named,
    parse_contender,
)


def published_by_sums(module: PublishedFormula, x: np.ndarray) -> np.ndarray:
    """The formula as sums over pixels and frequencies, without any transform or shift."""

    def network(layers, point):
        values = np.array(point, dtype=float)
        linears = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        for index, linear in enumerate(linears):
            weight = linear.weight.detach().double().numpy()[:, :, 0, 0]
            values = weight @ values + linear.bias.detach().double().numpy()
            if index < len(linears) - 1:
                values = values / (1 + np.exp(-values))
        return values

    height, width = x.shape[-2:]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    y = np.zeros(x.shape, dtype=complex)
    for v in range(-(height // 2), height - height // 2):
        for u in range(-(width // 2), width - width // 2):
            wave = np.exp(2j * np.pi * (v * rows / height + u * columns / width))
            weight = network(module.real, (u, v)) + 1j * network(module.imaginary, (u, v))
            x_f = (x * wave.conj()).sum((-2, -1))
            y += (weight * x_f)[..., None, None] * wave / (height * width)
    return y.real


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (3, 7), (1, 2)])
def test_published_formula(size):
    torch.manual_seed(0)
    module = PublishedFormula(3).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    np.testing.assert_allclose(
        module(x).detach().numpy(), published_by_sums(module, x.numpy()), atol=1e-12
    )


def test_published_parameters():
    count = sum(parameter.numel() for parameter in PublishedFormula(64).parameters())
    assert count == 2 * ((2 * 8 + 8) + (8 * 4 + 4) + (4 * 64 + 64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_published_formula_in_lower_precision(dtype):
    torch.manual_seed(0)
    module = PublishedFormula(3).to(dtype)
    x = torch.randn(2, 3, 6, 5, dtype=dtype)
    y = module(x)
    assert y.dtype == dtype
    expected = published_by_sums(module, x.double().numpy())
    error = np.abs(y.detach().double().numpy() - expected).max()
    assert error < 4 * torch.finfo(dtype).eps * np.abs(expected).max() + 1e-6


@pytest.mark.parametrize("shape", [InputShape(2, 4, 8, 8), InputShape(1, 2, 7, 4)], ids=str)
@pytest.mark.parametrize("mixing", ["depthwise", "separable"])
def test_every_contender_keeps_the_shape(shape, mixing):
    x = torch.randn(shape.batch, shape.channels, shape.height, shape.width)
    for contender in (LAYER, *DEFAULT_CONTENDERS):
        assert contender.build(shape, mixing)(x).shape == x.shape, contender.name


def test_ordinary_convolutions():
    shape = InputShape(2, 4, 8, 13)
    conv = Contender("depthwise-31", "depthwise", 31).build(shape)
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.padding, conv.groups, conv.bias) == ((31, 31), (15, 15), 4, None)
    image = IMAGE_SIZE.build(shape)
    assert isinstance(image, nn.Conv2d)
    assert image.kernel_size == (7, 13)
    full = Contender("full-3", "full", 3).build(shape, "separable")
    assert isinstance(full, nn.Conv2d)
    assert full.groups == 1


def test_separable_adds_a_pointwise_convolution():
    shape = InputShape(2, 4, 8, 8)
    plain, mixed = (IMAGE_SIZE.build(shape, mixing) for mixing in ("depthwise", "separable"))
    extra = sum(p.numel() for p in mixed.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == 4 * 4


@pytest.mark.parametrize(
    ("size", "odd"), [((56, 56), (55, 55)), ((7, 4), (7, 3)), ((1, 2), (1, 1))]
)
def test_largest_odd(size, odd):
    assert InputShape(1, 1, *size).largest_odd == odd


def test_labels():
    shape = InputShape(32, 64, 56, 28)
    labels = [contender.label(shape) for contender in (LAYER, *DEFAULT_CONTENDERS)]
    assert labels == [
        "this layer",
        "published",
        "depthwise 3x3",
        "depthwise 7x7",
        "depthwise 31x31",
        "image 55x27",
        "full 3x3",
    ]


def test_names_of_contenders():
    for contender in DEFAULT_CONTENDERS:
        assert parse_contender(contender.name) == contender
    assert parse_contender("full-7") == Contender("full-7", "full", 7)
    for name in (
        "depthwise-4",
        "depthwise-03",
        "depthwise",
        "full-image",
        "implicit_frequency",
        "",
    ):
        assert parse_contender(name) is None, name


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("depthwise-4", "K is odd: 'depthwise-3' or 'depthwise-5'"),
        ("full-2", "K is odd: 'full-1' or 'full-3'"),
        ("depthwise-30-channels-last", "'depthwise-29-channels-last' or 'depthwise-31-"),
        ("depthwise-0", "K is odd: 'depthwise-1'"),
        ("deepwise-4", "did you mean 'depthwise-"),
        ("depthwise-03", "did you mean 'depthwise-3"),
    ],
)
def test_what_is_meant_by_an_unknown_name(name, fix):
    problems = []
    assert contenders_named([name], torch.device("cpu"), problems) == []
    (problem,) = problems
    assert fix in problem.fix
