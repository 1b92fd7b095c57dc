"""What a source's splits are called, and which of them is for what."""

import re
import unicodedata
from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import model_validator

from nifbuild.spec.base import Spec, text_like

Role = Literal["train", "validation", "test"]
ALL_SPLITS = "all"
"""In place of a role: the images of all splits."""

SplitName = Annotated[str, text_like(r"^\w+(\.\w+)*$", "words joined by dots")]

USUAL_NAMES: dict[Role, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


_ENDINGS = "(set|split|data|images|imgs)?"


def same_name(name: str) -> str:
    """What two names have in common that differ in case, or in how Unicode writes them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def role_meant(name: str) -> Role | None:
    """The role that the name of a folder such as `seg_train`, `Test-Images` or `val2017` means."""
    words = re.findall(r"[^\W\d_]+", same_name(name))
    for role, names in USUAL_NAMES.items():
        if any(re.fullmatch(f"({'|'.join(names)}){_ENDINGS}", word) for word in words):
            return role
    return None


class Splits(Spec):
    """The names that the source gives to its splits."""

    train: SplitName | None = None
    """Null: `train`, or the only split there is."""

    validation: SplitName | None = None
    """Null: `validation`, `val`, `valid` or `dev`, where there is one; else `validation: share`."""

    test: SplitName | None = None
    """Null: `test`, where there is one. Where there is none but a validation split is, that one is
    the test split (the convention of ImageNet), and `validation: share` sets validation images
    aside."""

    @model_validator(mode="after")
    def _no_split_twice(self) -> Self:
        names = list(self.named.values())
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the split '{name}' is used twice: its results would mislead")
        return self

    @property
    def named(self) -> dict[Role, str]:
        """The source's name of the split for each role that has one here."""
        given: dict[Role, str | None] = {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }
        return {role: name for role, name in given.items() if name is not None}

    def roles(self, available: Collection[str]) -> dict[Role, str]:
        """The source's name of the split for each role that the source can fill.

        Names given here are taken as they are, whether the source has them or not; the usual ones
        in capitals, too.
        """
        roles = self.named
        for role, names in USUAL_NAMES.items():
            if role not in roles:
                free = [name for name in available if name not in roles.values()]
                ranked = {
                    name: names.index(same_name(name)) for name in free if same_name(name) in names
                }
                if ranked:
                    # As it is written above, where the source has that, too.
                    roles[role] = min(ranked, key=lambda name: (ranked[name], name not in names))
        if not roles and len(available) == 1:
            roles["train"] = next(iter(available))
        if "test" not in roles and "validation" in roles and self.validation is None:
            # ImageNet's convention: what is called validation is what accuracy is reported on.
            roles["test"] = roles.pop("validation")
        return roles


def final_split(splits: Collection[Role]) -> Role:
    """The split whose figures are a run's result: test, else validation, else train."""
    order: tuple[Role, ...] = ("test", "validation", "train")
    return next(split for split in order if split in splits)
