import torch

from nifbuild.machine.seeds import seed_device


def test_a_seeded_device_draws_what_torch_does():
    torch.manual_seed(2**62 + 5)
    expected = torch.rand(3)
    seed_device(torch.device("cpu"), 2**62 + 5)
    assert torch.equal(torch.rand(3), expected)


def test_seeding_leaves_nothing_for_gpus_that_are_not_used():
    before = len(torch.cuda._queued_calls)
    for seed in range(3):
        seed_device(torch.device("cpu"), seed)
    assert len(torch.cuda._queued_calls) == before
