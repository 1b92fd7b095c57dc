"""Seeds that are derived, never drawn: a run repeats whatever ran before it in the process."""

import hashlib


def derive_seed(seed: int, *words: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, such as `derive_seed(0, "augment", step, rank)`.

    Seeds of neighbouring steps, or of runs with neighbouring seeds, have nothing in common.
    """
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
