"""In inference the spectrum is computed once, and never used after a weight has changed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from nifbuild.nn import ImplicitFrequencyConv2d

X = torch.linspace(-1, 1, 2 * 4 * 6 * 6).reshape(2, 4, 6, 6)


@pytest.fixture
def layer() -> ImplicitFrequencyConv2d:
    torch.manual_seed(0)
    return ImplicitFrequencyConv2d(4, 4, mixing="depthwise").eval()


def count_evaluations(layer: ImplicitFrequencyConv2d, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    forward = layer.filter_network.forward
    monkeypatch.setattr(
        layer.filter_network, "forward", lambda grid: (calls.append(grid.shape), forward(grid))[1]
    )
    return calls


def last_bias(layer: ImplicitFrequencyConv2d) -> Tensor:
    bias: Tensor = layer.filter_network.layers[-1].bias
    return bias


def by_optimizer_step(layer: ImplicitFrequencyConv2d) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    with torch.enable_grad():
        layer(X).square().sum().backward()
    optimizer.step()


def by_fused_optimizer_step(layer: ImplicitFrequencyConv2d) -> None:
    """Leaves the versions of the weights as they were."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    with torch.enable_grad():
        layer(X).square().sum().backward()
    with torch.no_grad():
        layer(X)
    optimizer.step()


def by_step_on_data(layer: ImplicitFrequencyConv2d) -> None:
    with torch.enable_grad():
        layer(X).square().sum().backward()
    for p in layer.parameters():
        assert p.grad is not None
        p.data.sub_(p.grad)


def by_load_state_dict(layer: ImplicitFrequencyConv2d) -> None:
    layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()})


def by_assigning_state_dict(layer: ImplicitFrequencyConv2d) -> None:
    layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}, assign=True)


def by_write_in_place(layer: ImplicitFrequencyConv2d) -> None:
    with torch.no_grad():
        last_bias(layer).add_(1)


def by_write_in_inference_mode(layer: ImplicitFrequencyConv2d) -> None:
    with torch.inference_mode():
        last_bias(layer).add_(1)


def by_write_to_detached(layer: ImplicitFrequencyConv2d) -> None:
    last_bias(layer).detach().add_(1)


def by_foreach(layer: ImplicitFrequencyConv2d) -> None:
    with torch.no_grad():
        torch._foreach_mul_(list(layer.parameters()), 2.0)


def by_new_parameter(layer: ImplicitFrequencyConv2d) -> None:
    layer.filter_network.layers[-1].bias = nn.Parameter(last_bias(layer).detach() + 1)


def by_new_parameter_on_the_same_memory(layer: ImplicitFrequencyConv2d) -> None:
    replacement = nn.Parameter(last_bias(layer).data)
    with torch.no_grad():
        while replacement._version < last_bias(layer)._version:
            replacement.add_(1)
        replacement.add_(1)
    layer.filter_network.layers[-1].bias = replacement


def by_new_data(layer: ImplicitFrequencyConv2d) -> None:
    last_bias(layer).data = last_bias(layer).data + 1


def by_new_data_twice(layer: ImplicitFrequencyConv2d) -> None:
    """The allocator may hand the first address out again."""
    for _ in range(2):
        last_bias(layer).data = last_bias(layer).data.clone() + 1


def by_data_and_change_of_mode(layer: ImplicitFrequencyConv2d) -> None:
    last_bias(layer).data.add_(1)
    layer.train().eval()


def by_reset(layer: ImplicitFrequencyConv2d) -> None:
    layer.reset_parameters()


def by_moving_average(layer: ImplicitFrequencyConv2d) -> None:
    other = ImplicitFrequencyConv2d(4, 4, mixing="depthwise")
    for mine, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        mine.detach().lerp_(theirs.detach(), 0.5)


def by_another_setting(layer: ImplicitFrequencyConv2d) -> None:
    layer.filter_network.activation = "sine"


def by_pruning(layer: ImplicitFrequencyConv2d) -> None:
    prune.l1_unstructured(layer.filter_network.layers[0], "weight", amount=0.5)


def by_weight_normalisation(layer: ImplicitFrequencyConv2d) -> None:
    norm = nn.utils.parametrizations.weight_norm(layer.filter_network.layers[0])
    with torch.no_grad():
        layer(X)
        norm.parametrizations.weight.original0.mul_(2)


def by_another_process(layer: ImplicitFrequencyConv2d) -> None:
    """A write to shared memory counts versions where it is made only."""
    layer.share_memory()
    with torch.no_grad():
        layer(X)
    last_bias(layer).data.add_(1)


def by_a_hook(layer: ImplicitFrequencyConv2d) -> None:
    layer.filter_network.register_forward_hook(lambda _module, _inputs, kernel_f: 2 * kernel_f)


def by_swapped_weights(layer: ImplicitFrequencyConv2d) -> None:
    bias = layer.filter_network.layers[-1].bias
    torch.utils.swap_tensors(bias, nn.Parameter(bias.detach() + 1))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "change",
    [
        by_optimizer_step,
        by_fused_optimizer_step,
        by_step_on_data,
        by_load_state_dict,
        by_assigning_state_dict,
        by_write_in_place,
        by_write_in_inference_mode,
        by_write_to_detached,
        by_foreach,
        by_new_parameter,
        by_new_parameter_on_the_same_memory,
        by_new_data,
        by_new_data_twice,
        by_data_and_change_of_mode,
        by_reset,
        by_moving_average,
        by_another_setting,
        by_pruning,
        by_weight_normalisation,
        by_another_process,
        by_a_hook,
        by_swapped_weights,
    ],
)
def test_never_stale(
    layer: ImplicitFrequencyConv2d,
    change: Callable[[ImplicitFrequencyConv2d], None],
    mode: Callable[[], Any],
) -> None:
    with mode():
        before = layer(X)
    change(layer)
    with mode():
        after, again = layer(X), layer(X)
    assert not torch.allclose(after, before)
    with torch.enable_grad():
        fresh = layer(X)
    torch.testing.assert_close(after.clone(), fresh.detach())
    torch.testing.assert_close(again.clone(), fresh.detach())


def test_conversions_do_not_reuse(layer: ImplicitFrequencyConv2d) -> None:
    with torch.no_grad():
        single = layer(X)
        double = layer.double()(X.double())
    assert (double - single).abs().max() < 1e-4
    with torch.enable_grad():
        assert torch.equal(double, layer(X.double()).detach())


def test_computed_once_per_size(
    layer: ImplicitFrequencyConv2d, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_evaluations(layer, monkeypatch)
    with torch.no_grad():
        for size in (6, 7, 6, 7):
            layer(torch.randn(1, 4, size, size))
    assert len(calls) == 2


def test_not_used_while_the_filter_learns(
    layer: ImplicitFrequencyConv2d, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_evaluations(layer, monkeypatch)
    with torch.no_grad():
        layer(X)
    y = layer(X)
    assert y.requires_grad and len(calls) == 2
    layer.train()
    with torch.no_grad():
        layer(X)
        layer(X)
    assert len(calls) == 4


def test_serves_a_frozen_layer_under_grad(
    layer: ImplicitFrequencyConv2d, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.requires_grad_(False)
    calls = count_evaluations(layer, monkeypatch)
    x = X.clone().requires_grad_()
    for _ in range(2):
        layer(x).sum().backward()
    assert len(calls) == 1 and x.grad is not None


def test_is_bounded(layer: ImplicitFrequencyConv2d) -> None:
    with torch.no_grad():
        for size in range(1, 30):
            layer(torch.randn(1, 4, size, size))
    assert len(layer._spectra) <= layer._spectra.max_entries


def test_spectrum_may_be_written_to(layer: ImplicitFrequencyConv2d) -> None:
    with torch.no_grad():
        before = layer(X)
        layer.spectrum(6, 6).zero_()
        assert torch.equal(layer(X), before)
