"""`nifbuild train`."""


def train() -> None:
    """Train a spec."""
