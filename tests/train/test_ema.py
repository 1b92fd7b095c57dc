import torch
from torch import nn

from nifbuild.train.ema import Ema


def test_equals_a_naive_average():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = Ema(model, decay=0.9)
    expected = {n: p.detach().double().clone() for n, p in model.named_parameters()}
    for step in range(1, 200):
        model.train()(torch.randn(5, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ema.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach().double()
    for name, parameter in ema.module.named_parameters():
        torch.testing.assert_close(parameter.double(), expected[name], rtol=1e-4, atol=1e-5)
    for own, source in zip(ema.module.buffers(), model.buffers(), strict=True):
        assert torch.equal(own, source)
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())


def test_early_weights_are_forgotten():
    ema = Ema(nn.Linear(1, 1), decay=0.9999)
    assert ema.decay_at(1) == 2 / 11
    assert ema.decay_at(10**9) == 0.9999
