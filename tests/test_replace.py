"""Plain torch models whose convolutions are exchanged, trained, and put back."""

import copy
from typing import Any

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


def hooked(register: str, *arguments: Any) -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 3)
    getattr(conv, register)(*arguments)
    return conv


def with_own_forward() -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 3)
    conv.forward = lambda x: x  # type: ignore[method-assign]
    return conv


def with_gradient_hook() -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 3)
    conv.weight.register_hook(lambda grad: grad)
    return conv


def nothing(*_: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (Standardised(3, 3, 3), "Standardised computes something else"),
        (with_own_forward(), "its `forward` was replaced on the instance"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), "its weight is parametrized"),
        (hooked("register_forward_hook", nothing), "it has hooks"),
        (hooked("register_forward_pre_hook", nothing), "it has hooks"),
        (hooked("register_full_backward_hook", nothing), "it has hooks"),
        (hooked("register_full_backward_pre_hook", nothing), "it has hooks"),
        (with_gradient_hook(), "it has hooks"),
        (hooked("register_state_dict_post_hook", nothing), "it has hooks of its state_dict"),
        (hooked("register_state_dict_pre_hook", nothing), "it has hooks of its state_dict"),
        (hooked("register_load_state_dict_pre_hook", nothing), "it has hooks of its state_dict"),
        (hooked("register_load_state_dict_post_hook", nothing), "it has hooks of its state_dict"),
        (hooked("register_buffer", "mask", torch.ones(3)), "would be lost: mask"),
        (nn.LazyConv2d(3, 3), "it is uninitialised: run the model once first"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_leaves_what_is_more_than_a_convolution(conv: nn.Conv2d, reason: str) -> None:
    model = nn.Sequential(conv, nn.Conv2d(3, 3, 3))
    done = nifbuild.replace_convs(model)
    assert list(done.left) == ["0"] and reason in done.left["0"]
    assert f"0: left as it is: {done.left['0']}" in str(done)
    assert model[0] is conv and [c.paths for c in done.replaced] == [("1",)]


class Reads(nn.Module):
    """Reads the weights of two of its three convolutions while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 3, 1)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x.to(self.proj.weight.dtype))
        return self.scaled(self.proj(x))

    def scaled(self, x: Tensor) -> Tensor:
        last = self.blocks[0][1]
        return x / last.weight.norm()

    def fuse(self) -> Tensor:
        return self.blocks[0][0].weight


def test_leaves_weights_that_others_read_or_share() -> None:
    tied = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    tied[1].weight = tied[0].weight
    model = nn.ModuleDict({"reads": Reads(), "tied": tied})
    done = nifbuild.replace_convs(model)
    reader = "Reads (reads) reads its `weight`, which would be missing"
    assert done.left == {
        "reads.proj": reader,
        "reads.blocks.0.1": reader,
        "tied.0": "it shares its weight with tied.1",
        "tied.1": "it shares its weight with tied.0",
    }
    assert model["reads"](torch.randn(1, 3, 9, 9)).isfinite().all()
    with pytest.raises(AttributeError, match="has no `weight`: its filters depend on"):
        model["reads"].fuse()


def test_conv_bn_fusion_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    nifbuild.replace_convs(model)
    with pytest.raises(AttributeError, match="leave it out of `replace_convs`"):
        nn.utils.fusion.fuse_conv_bn_eval(model[0], model[1])
    assert not hasattr(model[0], "weight")
    with pytest.raises(ValueError, match="weight"):
        nn.utils.parametrizations.weight_norm(model[0])


@pytest.mark.parametrize("first_back", [0, 1])
def test_what_is_inside_of_exchanged_layers_stays(first_back: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 4, 1))
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    done = [nifbuild.replace_convs(model, where={"kernel_size": 3}, mixing="low_rank")]
    once = model(x)
    done.append(nifbuild.replace_convs(model, match="**", where={"kernel_size": 1}, expect=1))
    assert [[c.paths for c in d.replaced] for d in done] == [[("0",)], [("2.0",)]]
    assert not torch.allclose(model(x), once)
    for _ in range(2):
        with pytest.raises(SpecError, match="in the model but for 2 that are exchanged"):
            nifbuild.replace_convs(model)
    done[first_back].revert()
    if first_back == 1:
        assert torch.equal(model(x), once)
    done[1 - first_back].revert()
    assert torch.equal(model(x), expected)
    done[0].revert()  # to no effect
    assert torch.equal(model(x), expected)


def test_does_not_put_back_over_something_else() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    done = nifbuild.replace_convs(model)
    model[1] = nn.Sequential(model[1], nn.ReLU())
    with pytest.raises(SpecError, match="what stands at 1 is not the ImplicitFrequencyConv2d"):
        done.revert()
    assert isinstance(model[0], GlobalConv2d)


def test_an_example_gives_lazy_convolutions_their_weights() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConv2d(4, 3, groups=4))
    nifbuild.replace_convs(
        model, where={"groups": "depthwise"}, expect=1, example=torch.zeros(1, 3, 9, 9)
    )
    assert isinstance(model[0], nn.Conv2d) and isinstance(model[1], GlobalConv2d)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"groups": "depthwise"}, ["1", "3"]),
        ({"groups": "depthwise", "kernel_size": 7}, ["1"]),
        ({"groups": 8}, ["1", "3"]),
        ({"groups": 1}, ["0", "5"]),
    ],
    ids=str,
)
def test_depthwise_is_as_many_groups_as_channels(where: dict[str, Any], found: list[str]) -> None:
    model = Depthwise()
    model.append(nn.Conv2d(1, 4, 3))  # one channel: nothing that could be kept apart
    done = nifbuild.replace_convs(model, where=where)
    assert [c.paths[0] for c in done.replaced] == found


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
        ({"expect": 3}, "expected 3 convolutions, found 5"),
        ({"match": "stm"}, "did you mean 'stem'?"),
        ({"match": "nothing.like.it"}, "the model's convolutions: 'stem', 'body.0"),
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


def test_says_that_there_is_nothing_to_exchange() -> None:
    with pytest.raises(SpecError) as caught:
        nifbuild.replace_convs(nn.Sequential(nn.Conv1d(3, 4, 3)))
    assert str(caught.value).endswith("found 0\n  there is no nn.Conv2d in the model")


def test_refuses_a_model_that_is_a_convolution() -> None:
    with pytest.raises(SpecError, match="wrap it"):
        nifbuild.replace_convs(nn.Conv2d(3, 3, 3))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("model", {}, "`module` is no torch module: 'model'"),
        (nn.Sequential(nn.Conv2d(1, 1, 3)), {"match": ["0"]}, "`match` is no text: ['0']"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3)),
            {"where": {"kernel_size": "3"}},
            "`where` has a text for 'kernel_size', '3', which no convolution has",
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 3)), {"where": "kernel_size"}, "`where` is no dict"),
        (nn.Sequential(nn.Conv2d(1, 1, 3)), {"expect": "1"}, "`expect` is no whole number: '1'"),
        (nn.Sequential(nn.Conv2d(1, 1, 3)), {"boundary": "zeros"}, "here it is `padding_mode`"),
        (nn.Sequential(nn.Conv2d(1, 1, 3)), {"matchh": "0"}, "did you mean 'match'?"),
    ],
)
def test_arguments_of_another_kind(model, options, message):
    with pytest.raises(SpecError) as caught:
        nifbuild.replace_convs(model, **options)
    assert message in str(caught.value)
