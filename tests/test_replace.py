"""Plain torch models whose convolutions are exchanged, trained, and put back."""

import copy

import pytest
import torch
from torch import Tensor, nn

import nifbuild
from nifbuild.errors import SpecError
from nifbuild.nn import FreeFrequencyConv2d, GlobalConv2d, ImplicitFrequencyConv2d


class Strided(nn.Module):
    """Strides, groups and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1)),
        )
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((self.body(x) + self.shortcut(x)).mean((2, 3)))


class Dilated(nn.Module):
    """Dilation, odd paddings and even kernels, in a list and a dictionary; one conv twice."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = nn.ModuleList(
            nn.Conv2d(3, 4, 3, padding=rate, dilation=rate) for rate in (1, 2, 4)
        )
        shared = nn.Conv2d(12, 12, 3, padding="same", padding_mode="reflect")
        self.blocks = nn.ModuleDict(
            {
                "first": nn.Sequential(shared, nn.ReLU()),
                "again": nn.Sequential(shared, nn.ReLU()),
                "even": nn.Conv2d(12, 6, (4, 2), padding=(0, 2), stride=(3, 1)),
                "same": nn.Conv2d(6, 6, 4, padding="same", dilation=3),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([conv(x) for conv in self.pyramid], dim=1)
        for block in self.blocks.values():
            x = block(x)
        return x


class Depthwise(nn.Sequential):
    """Patches and depthwise convolutions, one of them with a multiplier."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 4, stride=4),
            nn.Conv2d(8, 8, 7, padding=3, groups=8),
            nn.GELU(),
            nn.Conv2d(8, 16, 5, padding=2, groups=8, bias=False),
            nn.Dropout(0.5),
        )


MODELS = [Strided, Dilated, Depthwise]


def shapes_at_convs(model: nn.Module, x: Tensor) -> list[torch.Size]:
    """The outputs' shapes of the convolutions, in the order in which they run."""
    shapes: list[torch.Size] = []
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d | GlobalConv2d)]
    inside = {p for m in convs for p in m.modules() if p is not m}
    hooks = [
        m.register_forward_hook(lambda _m, _i, y: shapes.append(y.shape))
        for m in convs
        if m not in inside
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch, of its own convolution
@pytest.mark.parametrize("kind", ["implicit_frequency", "free_frequency", "implicit_spatial"])
@pytest.mark.parametrize("model_class", MODELS)
def test_every_conv_of_a_model(model_class: type[nn.Module], kind: str) -> None:
    torch.manual_seed(0)
    model = model_class()
    x = torch.randn(2, 3, 25, 32)
    before = shapes_at_convs(model, x)
    state = copy.deepcopy(model.state_dict())
    expected = model.eval()(x)
    model.train()
    done = nifbuild.replace_convs(model, kind=kind, example=x)
    convs = sum(key.endswith("weight") and w.ndim == 4 for key, w in state.items())
    assert sum(len(change.paths) for change in done.replaced) == convs
    assert not done.left and model.training
    assert shapes_at_convs(model, x) == before

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        torch.manual_seed(1)  # the same dropout each time
        loss = (model(x) - 0.5).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]

    done.revert()
    model.load_state_dict({k: v for k, v in state.items() if "running" in k or "num_b" in k}, False)
    if model_class is not Strided:  # there, the batch norm and the head have learned
        assert torch.equal(model.eval()(x), expected)
    for name, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d):
            assert torch.equal(conv.weight, state[f"{name}.weight"])


def test_a_model_in_eval_on_another_dtype() -> None:
    torch.manual_seed(0)
    model = Depthwise().double().eval().requires_grad_(False)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    expected = model(x)
    done = nifbuild.replace_convs(model, where={"groups": 8}, expect=2, hidden=[4])
    new = [change.after for change in done.replaced]
    assert [layer.mixing for layer in new] == ["depthwise", "depthwise"]
    assert all(p.dtype == torch.float64 and p.requires_grad for m in new for p in m.parameters())
    assert not any(layer.training for layer in new)
    assert new[0].bias is not None and torch.equal(new[0].bias, model[1].bias)
    assert new[1].bias is None
    assert model(x).dtype == torch.float64 and model(x).shape == expected.shape
    done.revert()
    assert torch.equal(model(x), expected)
    model.train()
    model[1](model[0](x)).sum()


def test_a_shared_conv_stays_shared() -> None:
    model = Dilated()
    done = nifbuild.replace_convs(model, match="blocks.*.0", expect=1)
    assert done.replaced[0].paths == ("blocks.first.0", "blocks.again.0")
    assert model.blocks["first"][0] is model.blocks["again"][0]
    assert model.blocks["first"][0].boundary == "reflect"
    assert "blocks.first.0 = blocks.again.0: Conv2d(12, 12" in str(done)
    done.revert()
    assert isinstance(model.blocks["again"][0], nn.Conv2d)
    assert model.blocks["first"][0] is model.blocks["again"][0]


def test_selectors_are_those_of_patches() -> None:
    where = {"kernel_size": 3, "stride": [1, 1]}
    model = Strided()
    done = nifbuild.replace_convs(
        model, match="body.**", where=where, expect=1, mixing="full", padding_mode="zeros"
    )
    (layer,) = (change.after for change in done.replaced)
    assert isinstance(layer, ImplicitFrequencyConv2d)
    assert layer.mixing == "full" and layer.boundary == "zeros"
    assert layer is model.body[3][0]
    assert str(done).splitlines()[-1].startswith("replaced 1 convolutions: 2,320 weights became")


def test_moves_with_the_model() -> None:
    model = Depthwise()
    done = nifbuild.replace_convs(model, match="1")
    model.double().eval()
    done.revert()
    assert model[1].weight.dtype == torch.float64 and not model[1].training


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def test_leaves_what_is_more_than_a_convolution() -> None:
    hooked = nn.Conv2d(3, 3, 3)
    hooked.register_forward_hook(lambda *_: None)
    parametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3))
    model = nn.Sequential(Standardised(3, 3, 3), hooked, parametrized, nn.Conv2d(3, 3, 3))
    done = nifbuild.replace_convs(model)
    assert list(done.left) == ["0", "1", "2"] and [c.paths for c in done.replaced] == [("3",)]
    assert "0: left as it is: Standardised computes something else" in str(done)


def test_free_frequencies_have_the_size_that_the_conv_sees() -> None:
    model = Strided()
    model.body[1].eval()
    nifbuild.replace_convs(
        model, match="body.**", kind="free_frequency", example=torch.zeros(1, 3, 32, 24)
    )
    sizes = [m.size for m in model.modules() if isinstance(m, FreeFrequencyConv2d)]
    assert sizes == [(16, 12), (8, 6), (8, 6)]
    assert model.training and not model.body[1].training  # each module keeps its mode


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expect": 3}, "3 convolutions are expected, and 5 found"),
        ({"match": "stm"}, "did you mean 'stem'?"),
        ({"match": "nothing.like.it"}, "convolutions: stem, body.0"),
        ({"where": {"kernel": 3}}, "did you mean 'kernel_size'?"),
        ({"kind": "standard"}, "kinds: implicit_frequency, free_frequency, implicit_spatial"),
        ({"hiden": [8]}, "did you mean 'hidden'?"),
        (
            {"hidden": [0]},
            "replace_convs: hidden[0]: expected at least 1, got 0\n  hidden: Widths of",
        ),
        ({"mixing": "depthwise", "match": "stem"}, "must be a multiple of `in_channels`"),
        ({"stride": 2}, "unknown field 'stride'"),
        ({"kind": "free_frequency"}, "pass an input of the model"),
    ],
    ids=str,
)
def test_refuses_and_leaves_the_model_alone(arguments: dict, message: str) -> None:
    model = Strided()
    with pytest.raises(SpecError) as caught:
        nifbuild.replace_convs(model, **arguments)
    assert message in str(caught.value)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 5


def test_refuses_a_model_that_is_a_convolution() -> None:
    with pytest.raises(SpecError, match="wrap it"):
        nifbuild.replace_convs(nn.Conv2d(3, 3, 3))
