"""Pools to an output of a given size."""

import itertools
import math

import pytest
import torch

from nifbuild import build_model
from nifbuild.spec.ops import Shape
from nifbuild.spec.ops.pool import AdaptiveAvgPool

HEAD = "version: 1\ninput: {channels: 2, size: [7, 10]}\n"


def windows(size, outputs):
    """The pixels of each output along one axis, by the definition."""
    return [
        range(math.floor(i * size / outputs), math.ceil((i + 1) * size / outputs))
        for i in range(outputs)
    ]


@pytest.mark.parametrize(("op", "reduced"), [("avg", torch.mean), ("max", torch.amax)])
@pytest.mark.parametrize("size", ["3", "[2, 10]", "[9, 1]"])
def test_values_keys_and_shape(resolve, op, reduced, size):
    resolved = resolve(f"{HEAD}model: [{{op: adaptive_{op}_pool, output_size: {size}}}]")
    model = build_model(resolved)
    assert not model.state_dict()
    (node,) = resolved.graph.nodes
    rows, columns = node.op.output_size
    assert node.output_shape == Shape(2, (rows, columns))
    assert node.op.cost(node.input_shapes[0]).macs(3) == 0
    x = torch.randn(3, 2, 7, 10)
    expected = torch.stack(
        [
            torch.stack([reduced(x[:, :, r][..., c], dim=(2, 3)) for c in windows(10, columns)], 2)
            for r in windows(7, rows)
        ],
        2,
    )
    torch.testing.assert_close(model(x), expected)


def test_the_largest_window():
    for size, outputs in itertools.product(range(1, 14), repeat=2):
        op = AdaptiveAvgPool(op="adaptive_avg_pool", output_size=(outputs, 1))
        largest = max(len(pixels) for pixels in windows(size, outputs))
        assert op.filter_size(Shape(1, (size, 5))) == (largest, 5)


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        ("{op: adaptive_avg_pool}", "missing field `output_size`\n  output_size: Height and width"),
        ("{op: adaptive_max_pool, output_size: 0}", "expected at least 1, got 0"),
        ("flatten, {op: adaptive_avg_pool, output_size: 2}", "takes images, and its input is a"),
        ("{op: adaptive_avg_pool, output_size: 500000}", "an image at most 10,000,000,000"),
    ],
)
def test_what_is_refused(problems, ops, said):
    (found,) = problems(f"{HEAD}model: [{ops}]")
    assert said in found
