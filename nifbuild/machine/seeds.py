"""Seeds that are derived, never drawn: a run repeats whatever ran before it in the process."""

import hashlib

import torch


def derive_seed(seed: int, *words: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, such as `derive_seed(0, "augment", step, rank)`.

    Seeds of neighbouring steps, or of runs with neighbouring seeds, have nothing in common.
    """
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def seed_device(device: torch.device, seed: int) -> None:
    """Seeds the CPU's global generator and that of `device`: what `torch.manual_seed` does to them.

    That one also notes, each time, with a traceback, to seed GPUs that were never used: half a
    millisecond for each step, and a list that grows.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
