"""Which images are for training, validation and test: by the source's splits, or by a share.

Random choices come from `numpy.random.RandomState`, whose stream NumPy guarantees never to change,
so that a seed means the same split everywhere and for good.
"""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Int64

from nifbuild.errors import Problem, SpecError, did_you_mean
from nifbuild.spec.common_data import CommonData, NamedSplits
from nifbuild.spec.splits import Role, Splits

# One stream of random numbers for each use, so that one choice does not move another.
_STREAMS = {"test": 0, "validation": 1, "limit": 2, "statistics": 3, "images": 4}

Rows = Int64[np.ndarray, " _"]
"""Numbers of rows, of places in a list, or of classes: one dimension, of any length."""


def random_stream(seed: int, use: str) -> np.random.RandomState:
    """The random numbers of one use, fixed by the seed of the data."""
    return np.random.RandomState([seed, _STREAMS[use]])


def choose_splits(spec: CommonData, available: Collection[str]) -> dict[Role, str]:
    """The source's name of the split for each role that the source can fill.

    Raises:
        SpecError: A named split is not there, or none is for training.
    """
    splits = spec.splits if isinstance(spec, NamedSplits) else Splits()
    for role, name in splits.named.items():
        if name not in available:
            raise _missing_split(role, name, available)
    roles = splits.roles(available)
    if "train" not in roles:
        raise SpecError(
            Problem(
                f"no split for training among {_listed(available)}",
                path="data.splits.train",
                fix="name it: `splits: {train: ...}`",
                code="missing-split",
            )
        )
    return roles


def _missing_split(role: Role, name: str, available: Collection[str]) -> SpecError:
    hint = did_you_mean(name, available)
    return SpecError(
        Problem(
            f"the source has no split '{name}'",
            path=f"data.splits.{role}",
            fix="\n".join(filter(None, (hint, f"its splits are {_listed(available)}"))),
            code="missing-split",
        )
    )


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def set_aside(role: Role, labels: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Splits images in two, each class in proportion.

    Args:
        role: What the second part is for; each role has random numbers of its own.
        labels: The class of each image, shape [rows].
        share: The second part's share of all images, at least 0 and below 1.
        seed: Fixes the choice.

    Returns:
        The places in `labels` of those that stay, and of those set aside, both sorted. A class
        keeps at least one image in the first part.

    Raises:
        SpecError: The share is above 0, yet no image can be set aside.
    """
    counts = np.bincount(labels)
    taken = _apportion(counts, share)
    if share > 0 and not taken.sum() and len(labels) > 2 and counts.max() == 1:
        raise SpecError(
            Problem(
                f"{len(labels)} classes for {len(labels)} images: each label is there once",
                path="data.label",
                fix="is this the column of labels, or one that numbers the rows?\n"
                f"for no {role} images, set `{role}: 0`",
                code="one-image-classes",
            )
        )
    if share > 0 and not taken.sum():
        raise SpecError(
            Problem(
                f"a share of {share:g} of {len(labels)} images is no image",
                path=f"data.{role}",
                fix="raise the share, or set it to 0 for none",
                code="empty-split",
            )
        )
    stream = random_stream(seed, role)
    aside = np.zeros(len(labels), dtype=bool)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for members, number in zip(by_class, taken, strict=True):
        aside[stream.permutation(members)[:number]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def _apportion(counts: Sequence[int] | np.ndarray, share: float) -> np.ndarray:
    """How many of each class: shares rounded so that they add up to the rounded share of all."""
    counts = np.asarray(counts)
    exact = counts * share
    taken = np.floor(exact).astype(np.int64)
    missing = int(np.floor(counts.sum() * share + 0.5)) - int(taken.sum())
    for label in np.argsort(taken - exact, kind="stable"):  # the largest fractions first
        if missing > 0 and taken[label] + 1 < counts[label]:
            taken[label] += 1
            missing -= 1
    return taken


def limited(number: int, limit: int | None, seed: int) -> Rows:
    """At most `limit` of so many places, sorted; a smaller limit gives a subset of them."""
    order = random_stream(seed, "limit").permutation(number)
    return np.sort(order[: number if limit is None else limit]).astype(np.int64)
