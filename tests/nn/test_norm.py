"""Normalisation that torch has no module for, against the published formulas."""

import pytest
import torch

from nifbuild.nn.norm import GlobalResponseNorm
from nifbuild.spec.training import AdamW
from nifbuild.train.optim import parameter_groups


def published(x, gamma, beta, eps=1e-6):
    """Equations 1 to 3 of arXiv 2301.00808 with the affine form of its code; channels last."""
    aggregated = torch.sqrt((x**2).sum(dim=(1, 2)))
    normalised = aggregated / (aggregated.sum(dim=1) / x.shape[3] + eps)[:, None]
    return gamma * (x * normalised[:, None, None, :]) + beta + x


def with_weights(channels, dtype=torch.float64, eps=1e-6):
    torch.manual_seed(0)
    norm = GlobalResponseNorm(channels, eps).to(dtype)
    with torch.no_grad():
        for weight in norm.parameters():
            weight.normal_()
    return norm


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_grn_is_the_published_formula(eps):
    norm = with_weights(5, eps=eps)
    x = torch.randn(3, 5, 7, 4, dtype=torch.float64)
    expected = published(x.permute(0, 2, 3, 1), norm.gamma, norm.beta, eps).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected, rtol=1e-13, atol=1e-13)


def test_grn_has_the_published_weights_and_starts_as_the_identity():
    norm = GlobalResponseNorm(6)
    assert {n: tuple(w.shape) for n, w in norm.state_dict().items()} == {
        "gamma": (1, 1, 1, 6),
        "beta": (1, 1, 1, 6),
    }
    x = torch.randn(2, 6, 5, 5)
    assert torch.equal(norm(x), x)


def test_gradients_of_grn():
    norm = with_weights(3)
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (x, norm.gamma, norm.beta))
    dark = torch.zeros(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    norm(dark).sum().backward()  # the norm of nothing has no gradient of its own
    assert dark.grad.isfinite().all() and norm.gamma.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_grn_in_half_precision(dtype, autocast):
    """Norms of 300, whose squares are beyond float16."""
    norm = with_weights(4, torch.float32)
    x = (10 * torch.randn(2, 4, 30, 30)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = norm(x)
    assert y.dtype == dtype
    expected = published(x.double().permute(0, 2, 3, 1), norm.gamma, norm.beta)
    torch.testing.assert_close(y.double(), expected.permute(0, 3, 1, 2), rtol=0.02, atol=0.05)


def test_grn_is_trained_without_weight_decay():
    """As the published training does, although its weights have four axes."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), GlobalResponseNorm(4))
    decayed, plain = parameter_groups(model, AdamW(weight_decay=0.1))
    assert [weight is model[0].weight for weight in decayed["params"]] == [True]
    assert any(weight is model[1].gamma for weight in plain["params"])
    assert any(weight is model[1].beta for weight in plain["params"])
