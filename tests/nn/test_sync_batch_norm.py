"""In real processes: `torchrun`'s environment, and gloo."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from nifbuild.nn.sync_batch_norm import SyncBatchNorm, sync_batch_norm
from tests.children import in_children


def test_one_process_is_ordinary_batch_norm():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    sync = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    sync.load_state_dict(plain.state_dict())
    weight = sync[1].weight
    assert sync_batch_norm(sync) is sync
    assert isinstance(sync[1], SyncBatchNorm)
    assert sync[1].weight is weight
    assert list(sync.state_dict()) == list(plain.state_dict())
    images = torch.randn(4, 2, 5, 5)
    assert torch.equal(sync(images), plain(images))
    for mine, theirs in zip(sync.buffers(), plain.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(sync.eval()(images), plain.eval()(images))


def test_a_batch_norm_itself_is_replaced():
    norm = nn.BatchNorm1d(3, eps=0.1, momentum=None).eval()
    sync = sync_batch_norm(norm)
    assert isinstance(sync, SyncBatchNorm)
    assert (sync.eps, sync.momentum, sync.training) == (0.1, None, False)


def test_refuses_what_has_no_channels():
    with pytest.raises(ValueError, match="1 dimensions"):
        SyncBatchNorm(3)._check_input_dim(torch.zeros(3))


@pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed")
def test_two_processes_equal_one():
    assert in_children(_compare) == [0, 1]


def _case(make, shape, split, dtype):
    """Values, gradients and running statistics over several steps, uneven shares included."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    plain = make().to(dtype)
    torch.manual_seed(0)
    sync = sync_batch_norm(make().to(dtype))
    if plain.affine:
        for norm in (plain, sync):
            with torch.no_grad():
                norm.weight.copy_(torch.linspace(0.5, 2, shape[1]))
                norm.bias.copy_(torch.linspace(-1, 1, shape[1]))
    mine = slice(0, split) if rank == 0 else slice(split, None)
    bound = 1e-9 if dtype == torch.float64 else 1e-4
    tolerance = {"rtol": bound, "atol": bound}
    for _ in range(3):
        images = (100 + torch.randn(shape, dtype=torch.float64)).to(dtype)
        direction = torch.randn(shape, dtype=torch.float64).to(dtype)
        whole, share = images.clone().requires_grad_(), images[mine].clone().requires_grad_()
        expected, found = plain(whole), sync(share)
        torch.testing.assert_close(found, expected[mine], **tolerance)
        (expected * direction).sum().backward()
        (found * direction[mine]).sum().backward()
        torch.testing.assert_close(share.grad, whole.grad[mine], **tolerance)
        for mine_p, theirs in zip(sync.parameters(), plain.parameters(), strict=True):
            dist.all_reduce(mine_p.grad)
            torch.testing.assert_close(mine_p.grad, theirs.grad, **tolerance)
            mine_p.grad = theirs.grad = None
    for mine_b, theirs in zip(sync.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine_b, theirs, **tolerance)


def _compare():
    dist.init_process_group("gloo")
    try:
        assert dist.get_world_size() == 2
        for dtype in (torch.float64, torch.float32):
            _case(lambda: nn.BatchNorm2d(3), (6, 3, 4, 5), 3, dtype)
        wide = torch.float64
        _case(lambda: nn.BatchNorm2d(3, momentum=None), (6, 3, 4, 5), 2, wide)
        _case(lambda: nn.BatchNorm2d(3, affine=False), (6, 3, 2, 2), 4, wide)
        _case(lambda: nn.BatchNorm2d(3, track_running_stats=False), (6, 3, 2, 2), 3, wide)
        _case(lambda: nn.BatchNorm1d(4), (5, 4), 2, wide)
        _case(lambda: nn.BatchNorm3d(2), (4, 2, 2, 3, 2), 2, wide)
        half = sync_batch_norm(nn.BatchNorm2d(3))(torch.randn(2, 3, 4, 4).bfloat16())
        assert half.dtype == torch.bfloat16
        return dist.get_rank()
    finally:
        dist.destroy_process_group()
