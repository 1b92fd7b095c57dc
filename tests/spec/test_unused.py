"""Ops that have no part in the output: their weights would never get a gradient."""

import pytest
import torch

from nifbuild import build_model

HEAD = "version: 1\ninput: {channels: 4, size: 8}\n"
TWO = """
  - op: concat
    branches:
      a: [{op: conv, out_channels: 4}, relu]
      b: [{op: conv, out_channels: 6}, batch_norm]
"""
REACHES = "no channel of this op's output reaches the output of the model"


@pytest.mark.parametrize(
    ("ops", "path"),
    [
        (TWO + "  - {op: channel_slice, stop: 4}", "b.batch_norm"),
        (TWO + "  - {op: channel_slice, start: 4, stop: 10}", "a.relu"),
        (TWO + "  - silu\n  - {op: max_pool, kernel_size: 2}\n  - {op: layer_scale, id: g}\n"
         "  - {op: dropout}\n  - {op: channel_slice, stop: 3}", "b.batch_norm"),
        (TWO + "  - {op: channel_slice, start: 2, stop: 9}\n  - {op: channel_slice, stop: 2}",
         "b.batch_norm"),
        (TWO + "  - {op: residual, body: batch_norm}\n  - {op: channel_slice, stop: 4}",
         "b.batch_norm"),
    ],
)  # fmt: skip
def test_a_branch_that_a_slice_leaves_out(problems, ops, path):
    (found,) = problems(f"{HEAD}model:{ops}")
    assert f"{path}: {REACHES}" in found and found.startswith("spec.yaml:")
    assert "\n  take some of its channels from what it goes into (concat" in found


@pytest.mark.parametrize(
    "ops",
    [
        TWO + "  - {op: channel_slice, stop: 5}",
        TWO + "  - {op: channel_slice, start: 3, stop: 10}",
        TWO + "  - {op: channel_shuffle, groups: 2}\n  - {op: channel_slice, stop: 4}",
        TWO + "  - {op: conv}\n  - {op: channel_slice, stop: 4}",
        TWO + "  - grn\n  - {op: channel_slice, stop: 4}",
        TWO + "  - layer_norm\n  - {op: channel_slice, stop: 4}",
        TWO + "  - {id: all, op: identity}\n  - {id: start, op: channel_slice, stop: 4}\n"
        "  - {op: channel_slice, from: all, start: 6, stop: 10}\n"
        "  - {op: sum, from: [previous, start]}",
    ],
)
def test_what_each_weight_has_a_gradient_in(resolve, ops):
    model = build_model(resolve(f"{HEAD}model:{ops}"))
    y = model(torch.randn(3, 4, 8, 8))
    (y * torch.randn_like(y)).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_only_the_last_of_ops_after_one_another(problems):
    found = problems(
        f"{HEAD}model: [{{op: conv, id: a}}, {{op: conv, id: b}}, {{op: conv, id: c}}, "
        "{op: conv, from: a}]"
    )
    assert found == [
        "spec.yaml:3:47: c: nothing takes the output of this op\n"
        "  refer to it by a later `from`, or leave the op out"
    ]
