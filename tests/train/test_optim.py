import math
import sys

import pytest
import torch
from torch import nn

from nifbuild.errors import SpecError
from nifbuild.nn import FreeFrequencyConv2d, ImplicitFrequencyConv2d
from nifbuild.spec.optimizers import (
    OPTIMIZERS,
    AdamW,
    FilterSettings,
    ParameterGroup,
    Sgd,
)
from nifbuild.spec.schedules import Constant, Cosine, Exponential, LinearSchedule, Step
from nifbuild.spec.training import TrainSpec
from nifbuild.train.optim import build_optimizer, lr_factor, parameter_groups, set_lr


def factors(spec, steps_per_epoch=10):
    return [lr_factor(spec, step, steps_per_epoch) for step in range(spec.epochs * steps_per_epoch)]


def test_cosine_is_torchs_after_a_linear_warmup():
    spec = TrainSpec(epochs=4, schedule=Cosine(warmup_epochs=1.0, min_lr=0.1))
    found = factors(spec)
    assert found[:10] == pytest.approx([k / 11 for k in range(1, 11)])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=0.1)
    expected = []
    for _ in range(30):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert found[10:] == pytest.approx(expected)


def test_linear_is_torchs():
    found = factors(
        TrainSpec(epochs=3, schedule=LinearSchedule(name="linear", warmup_epochs=0, min_lr=0.2))
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    line = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end_factor=0.2, total_iters=30)
    expected = []
    for _ in range(30):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        line.step()
    assert found == pytest.approx(expected)


def test_exponential():
    schedule = Exponential(name="exponential", warmup_epochs=0, factor=0.5, every_epochs=1.5)
    found = factors(TrainSpec(epochs=4, schedule=schedule))
    assert found == [1.0] * 15 + [0.5] * 15 + [0.25] * 10


def test_cosine_ends_low_but_never_wastes_a_step():
    found = factors(TrainSpec(epochs=3, schedule=Cosine(warmup_epochs=0)))
    assert found[0] == 1
    assert 0 < found[-1] < 0.01
    assert found == sorted(found, reverse=True)


def test_constant_and_step():
    constant = Constant(name="constant", warmup_epochs=0)
    assert set(factors(TrainSpec(epochs=2, schedule=constant))) == {1}
    step = Step(name="step", warmup_epochs=0, at_epochs=(1, 3), factor=0.5)
    found = factors(TrainSpec(epochs=4, schedule=step))
    assert found == [1.0] * 10 + [0.5] * 20 + [0.25] * 10


def test_default_warmup_is_a_twentieth():
    found = factors(TrainSpec(epochs=20, schedule=Constant(name="constant")))
    assert sum(f < 1 for f in found) == 10


def test_warmup_over_all_epochs():
    found = factors(TrainSpec(epochs=1, schedule=Cosine(warmup_epochs=1)))
    assert all(math.isfinite(f) and 0 < f < 1 for f in found)


def test_no_decay_for_vectors_and_biases_of_filter_networks():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        ImplicitFrequencyConv2d(4, 4),
        nn.Linear(4, 2),
    )
    decayed, plain = parameter_groups(model, AdamW(weight_decay=0.3, filters=None))
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    without = {names[id(p)] for p in plain["params"]}
    assert {"0.bias", "1.weight", "1.bias", "3.bias"} <= without
    assert {name for name in names.values() if name.endswith("bias")} <= without
    matrices = {n for n, p in model.named_parameters() if p.ndim > 1 and not n.endswith("bias")}
    assert {names[id(p)] for p in decayed["params"]} == matrices
    some_bias_is_a_matrix = any(
        p.ndim > 1 for n, p in model.named_parameters() if n.endswith("bias")
    )
    assert some_bias_is_a_matrix  # else the rule by name is not tested


def test_frozen_parameters_are_left_out():
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    assert [len(g["params"]) for g in parameter_groups(model, AdamW())] == [1]


def small_model():
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(2, 3, 3))
    model.add_module("nif", ImplicitFrequencyConv2d(3, 3, bias=True))
    model.add_module("free", FreeFrequencyConv2d(3, 2, size=4))
    model.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(2 * 4 * 4, 5)))
    return model


def test_groups_against_a_step_by_hand():
    """w - lr * factor * (gradient + decay * w), with the factors and decays written out by name."""
    torch.manual_seed(0)
    model = small_model()
    spec = Sgd(
        name="sgd",
        momentum=0.0,
        weight_decay=0.5,
        filters=FilterSettings(lr_factor=0.25),
        groups=(
            ParameterGroup(match="free.weight", lr_factor=2.0),
            ParameterGroup(match="head", weight_decay=0.125),
            ParameterGroup(match="**.pointwise.*", lr_factor=0.5),
        ),
    )
    model(torch.randn(4, 2, 6, 6)).square().sum().backward()
    expected = {}
    for name, w in model.named_parameters():
        factor, decay = 1.0, 0.5
        if name.startswith("nif.filter_network"):
            factor, decay = 0.25, 0.0
        elif name == "free.weight":  # one of the filters' weights, but a group comes first
            factor = 2.0
        elif name.startswith("head"):
            decay = 0.125
        elif "pointwise" in name:
            factor = 0.5
        if name.endswith("bias"):
            decay = 0.0
        expected[name] = (w - 0.01 * factor * (w.grad + decay * w)).detach()
    optimizer = build_optimizer(model, spec)
    assert sorted({group["lr_factor"] for group in optimizer.param_groups}) == [0.25, 0.5, 1, 2]
    set_lr(optimizer, 0.01)
    optimizer.step()
    for name, w in model.named_parameters():
        torch.testing.assert_close(w.detach(), expected[name], msg=name)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["haed"], "did you mean 'head"),
        (["x.**"], "modules: conv, nif"),
        (["**", "head.1.weight"], "put the narrower one first"),
    ],
)
def test_groups_that_select_nothing(groups, message):
    spec = AdamW(groups=tuple(ParameterGroup(match=match, lr_factor=2.0) for match in groups))
    with pytest.raises(SpecError, match=message) as caught:
        build_optimizer(small_model(), spec)
    assert f"'{groups[-1]}'" in str(caught.value)


def test_a_model_without_global_filters_takes_no_notice_of_their_settings():
    model = nn.Linear(2, 2)
    spec = AdamW(filters=FilterSettings(lr_factor=0.5))
    assert [g["lr_factor"] for g in build_optimizer(model, spec).param_groups] == [1.0, 1.0]


TORCHS = [name for name in OPTIMIZERS if name not in ("lars", "lamb", "muon")]


@pytest.mark.parametrize("name", TORCHS)
def test_steps_are_those_of_torchs_optimizer(name):
    """With all that the spec says, on two groups; torch's are written out here."""
    torch.manual_seed(0)
    mine, other = (nn.Linear(3, 2) for _ in range(2))
    other.load_state_dict(mine.state_dict())
    spec = OPTIMIZERS[name].model_validate({"name": name, "lr": 0.05, "weight_decay": 0.1})
    groups = [
        {"params": [other.weight], "weight_decay": 0.1},
        {"params": [other.bias], "weight_decay": 0.0},
    ]
    theirs = {
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.05),
        "adam": lambda: torch.optim.Adam(groups, lr=0.05),
        "nadam": lambda: torch.optim.NAdam(groups, lr=0.05, decoupled_weight_decay=True),
        "radam": lambda: torch.optim.RAdam(groups, lr=0.05, decoupled_weight_decay=True),
        "rmsprop": lambda: torch.optim.RMSprop(groups, lr=0.05, alpha=0.9, momentum=0.9),
        "adagrad": lambda: torch.optim.Adagrad(groups, lr=0.05),
        "sgd": lambda: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True),
    }[name]()
    ours, images = build_optimizer(mine, spec), torch.randn(4, 3)
    for _ in range(8):
        for model, optimizer in ((mine, ours), (other, theirs)):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(mine.weight, other.weight)
    torch.testing.assert_close(mine.bias, other.bias)


def stepped(spec, rule):
    """A layer's weight and bias after 8 steps of the spec's optimizer, and of a rule written out.

    The rule takes a parameter, its gradient, its state and its decay, and changes the parameter.
    """
    torch.manual_seed(0)
    mine, other = (nn.Linear(3, 2).double() for _ in range(2))
    other.load_state_dict(mine.state_dict())
    ours, images, states = build_optimizer(mine, spec), torch.randn(4, 3).double(), {}
    for _ in range(8):
        for model in (mine, other):
            model.zero_grad()
            model(images).square().sum().backward()
        ours.step()
        with torch.no_grad():
            for name, p in other.named_parameters():
                decay = spec.weight_decay if name == "weight" else 0.0
                rule(p, p.grad, states.setdefault(name, {}), decay)
    return mine, other


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_algorithm_1_of_its_paper(nesterov):
    """arXiv 1708.03888; vectors have the rate alone, and momentum holds scaled gradients."""
    lr, momentum, trust = 0.3, 0.8, 0.02

    def rule(p, gradient, state, decay):
        local = trust * p.norm() / (gradient.norm() + decay * p.norm()) if p.ndim > 1 else 1.0
        scaled = local * (gradient + decay * p)
        state["v"] = momentum * state.get("v", 0.0) + scaled
        p -= lr * (scaled + momentum * state["v"] if nesterov else state["v"])

    words = {"name": "lars", "lr": lr, "weight_decay": 0.1, "momentum": momentum}
    spec = OPTIMIZERS["lars"].model_validate(
        words | {"nesterov": nesterov, "trust_coefficient": trust}
    )
    mine, other = stepped(spec, rule)
    torch.testing.assert_close(mine.weight, other.weight)
    torch.testing.assert_close(mine.bias, other.bias)


def test_lamb_is_algorithm_2_of_its_paper():
    """arXiv 1904.00962, whose phi is the identity up to 10."""

    def rule(p, gradient, state, decay):
        state["m"] = 0.8 * state.get("m", 0.0) + 0.2 * gradient
        state["v"] = 0.9 * state.get("v", 0.0) + 0.1 * gradient**2
        step = state["m"] / (state["v"].sqrt() + 0.01) + decay * p
        p -= 0.05 * p.norm() / (step.norm() + 0.01) * step

    spec = OPTIMIZERS["lamb"].model_validate(
        {"name": "lamb", "lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 0.01}
    )
    mine, other = stepped(spec, rule)
    torch.testing.assert_close(mine.weight, other.weight)
    torch.testing.assert_close(mine.bias, other.bias)


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_is_torchs_for_hidden_layers_and_adamw_for_the_others(nesterov):
    torch.manual_seed(0)

    def network():
        return nn.Sequential(
            nn.Conv2d(2, 6, 3),
            nn.Conv2d(6, 6, 3, groups=6),
            nn.Conv2d(6, 8, 3),
            ImplicitFrequencyConv2d(8, 8),
            nn.Flatten(),
            nn.Linear(32, 5),
            nn.Linear(5, 5),
        )

    mine, other = network(), network()
    other.load_state_dict(mine.state_dict())
    both = {"lr": 0.05, "weight_decay": 0.1}
    hiddens = {"momentum": 0.8, "nesterov": nesterov}
    others = {"betas": (0.8, 0.9), "eps": 0.01}
    words = {"name": "muon", "filters": None, **both, **hiddens, **others}
    spec = OPTIMIZERS["muon"].model_validate(words)
    hidden = {"2.weight", "3.pointwise.weight", "5.weight"}
    named = dict(other.named_parameters())
    # Torch's takes nothing but matrices: those of convolutions are views of their weights.
    views = {name: nn.Parameter(named[name].detach().flatten(1)) for name in sorted(hidden)}
    muon = torch.optim.Muon(views.values(), **both, **hiddens, adjust_lr_fn="match_rms_adamw")
    kept = {name: p for name, p in named.items() if name not in hidden}
    decayed = [p for name, p in kept.items() if p.ndim > 1 and not name.endswith("bias")]
    plain = [p for p in kept.values() if all(p is not q for q in decayed)]
    parts = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(parts, **both, **others)
    ours, images = build_optimizer(mine, spec), torch.randn(4, 2, 8, 8)
    for _ in range(3):
        for model in (mine, other):
            model.zero_grad()
            model(images).square().sum().backward()
        for name, view in views.items():
            view.grad = named[name].grad.flatten(1)
        for optimizer in (ours, muon, adamw):
            optimizer.step()
    for name, p in mine.named_parameters():
        # Both iterate in 16 bits.
        torch.testing.assert_close(p, named[name], rtol=0.02, atol=2e-3, msg=f"{name} differs")


def test_an_optimizer_whose_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    spec = OPTIMIZERS["lamb"].model_validate({"name": "lamb"})
    with pytest.raises(SpecError, match=r"pip install 'nifbuild\[optimizers\]'"):
        build_optimizer(nn.Linear(2, 2), spec)


def test_builds_what_the_spec_says():
    model = nn.Linear(2, 2)
    sgd = build_optimizer(model, Sgd(name="sgd", lr=0.3, momentum=0.8, weight_decay=0.1))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.8
    assert sgd.defaults["nesterov"] is True
    assert [g["weight_decay"] for g in sgd.param_groups] == [0.1, 0.0]
    # torch refuses Nesterov without momentum; the spec says that it has no effect then.
    assert build_optimizer(model, Sgd(name="sgd", momentum=0.0)).defaults["nesterov"] is False
    adam = build_optimizer(model, AdamW(lr=0.2, betas=(0.5, 0.6), eps=0.1))
    assert isinstance(adam, torch.optim.AdamW)
    assert (adam.defaults["betas"], adam.defaults["eps"]) == ((0.5, 0.6), 0.1)
    set_lr(adam, 0.07)
    assert [g["lr"] for g in adam.param_groups] == [0.07, 0.07]
