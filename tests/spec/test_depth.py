"""Stochastic depth and layer scale: what the spec comes to, and what training does with it."""

import pytest
import torch

from nifbuild import build_model
from nifbuild.nn.stochastic_depth import StochasticDepth
from nifbuild.spec.optimizers import AdamW
from nifbuild.train.optim import parameter_groups

HEAD = "version: 1\ninput: {channels: 4, size: 8}\n"
NET = """
vars: {rate: 0.3}
defaults: {residual: {stochastic_depth: {rate: $rate}}}
blocks:
  unit:
    args: {stride: 1}
    body: [{op: residual, shortcut: if_same_shape, body: [{op: conv, stride: $stride}]}]
model:
  - {id: stage1, op: unit, repeat: 2}
  - {id: stage2, op: unit, repeat: 3, first: {stride: 2}}
"""


def rates(resolved):
    return {n.path: n.op.rate for n in resolved.graph.nodes if n.op.op == "stochastic_depth"}


def test_the_rate_grows_over_the_residual_ops_of_the_network(resolve):
    """The body that has no shortcut is never left out, and does not count."""
    resolved = resolve(HEAD + NET)
    assert list(rates(resolved)) == [
        "stage1.0.stochastic_depth",
        "stage1.1.stochastic_depth",
        "stage2.1.stochastic_depth",
        "stage2.2.stochastic_depth",
    ]
    assert list(rates(resolved).values()) == pytest.approx([0, 0.1, 0.2, 0.3])
    halved = resolve(HEAD + NET, overrides=["vars.rate=0.15"])
    assert list(rates(halved).values()) == pytest.approx([0, 0.05, 0.1, 0.15])
    built = build_model(resolved).get_submodule("stage2.2.stochastic_depth")
    assert built.rate == pytest.approx(0.3)


def test_a_constant_rate(resolve):
    text = NET.replace("{rate: $rate}", "{rate: $rate, schedule: constant}")
    assert set(rates(resolve(HEAD + text)).values()) == {0.3}
    assert (
        rates(resolve(HEAD + NET.replace("{rate: $rate}", "~").replace("{rate: 0.3}", "{}"))) == {}
    )


def test_a_rate_that_grows_over_all_residual_ops(resolve):
    """As `stage_block_id / total_stage_blocks` of torchvision's EfficientNet."""
    text = NET.replace("{rate: $rate}", "{rate: $rate, schedule: linear_all}")
    assert list(rates(resolve(HEAD + text)).values()) == pytest.approx(
        [0.3 * block / 5 for block in (0, 1, 3, 4)]
    )
    first = text.replace("repeat: 2", "repeat: 2, first: {stride: 2}")
    assert list(rates(resolve(HEAD + first)).values()) == pytest.approx([0.06, 0.18, 0.24])
    one = "model: [{op: residual, stochastic_depth: {rate: 0.3, schedule: linear_all}, body: relu}]"
    assert list(rates(resolve(HEAD + one)).values()) == [0]


def test_samples_are_left_out_one_by_one_and_the_mean_is_kept():
    torch.manual_seed(0)
    module = StochasticDepth(0.25)
    x = torch.randn(8000, 3, 2, 1)
    y = module(x)
    left_out = (y == 0).flatten(1).all(1)
    torch.testing.assert_close(y[~left_out], x[~left_out] / 0.75)
    # Four standard deviations of a binomial share.
    assert abs(left_out.float().mean().item() - 0.25) < 4 * (0.25 * 0.75 / 8000) ** 0.5
    assert module.eval()(x) is x
    assert StochasticDepth(0.0)(x) is x
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            StochasticDepth(rate)


def test_the_shortcut_stays_where_the_body_is_left_out(resolve):
    model = build_model(resolve(HEAD + NET, overrides=["vars.rate=0.999999"]))
    last = model.get_submodule("stage2.2")
    x = torch.randn(5, 4, 4, 4)
    torch.manual_seed(0)
    assert torch.equal(last(x), x)
    assert not torch.equal(last.eval()(x), x)


SCALED = "model: [{op: residual, body: [{op: conv, id: c}, {op: layer_scale, id: gamma}]}]"


def test_layer_scale_is_a_parameter_of_its_level(resolve):
    model = build_model(resolve(HEAD + SCALED))
    assert list(model.state_dict()) == ["gamma", "c.weight", "c.bias"]
    assert model.gamma.shape == (4, 1, 1) and (model.gamma == 1e-6).all()
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        model.gamma.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0]).view(4, 1, 1))
    torch.testing.assert_close(model(x), x + model.gamma * model.c(x))
    decayed, plain = parameter_groups(model, AdamW(weight_decay=0.1))
    assert [p is model.c.weight for p in decayed["params"]] == [True]
    assert any(p is model.gamma for p in plain["params"])


def test_layer_scale_can_be_patched_and_takes_vectors(resolve):
    patched = resolve(
        HEAD + SCALED + "\npatch: [{where: {op: layer_scale}, set: {init: 0.5}, expect: 1}]"
    )
    assert (build_model(patched).gamma == 0.5).all()
    vectors = build_model(resolve(f"{HEAD}model: [flatten, {{op: layer_scale, id: g}}]"))
    assert vectors.g.shape == (256,) and vectors(torch.ones(2, 4, 8, 8)).shape == (2, 256)
