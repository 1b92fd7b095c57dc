"""What YAML may say under `budget:`: what a model may cost. `nifbuild inspect` holds it to that."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from nifbuild.spec.base import Spec

_COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LARGEST = 10**18
"""Largest amount of anything."""
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_count(text: str) -> int:
    """A number such as `12M` or `1.5G`, in thousands (k), millions (M), billions (G) or more (T).

    Raises:
        ValueError: It is none.
    """
    return _parse(text, _COUNTS, "a number such as 12M or 1.5G")


def parse_bytes(text: str) -> int:
    """A size such as `8GiB` (of 1024^3 bytes) or `8GB` (of 1000^3 bytes), in bytes.

    Raises:
        ValueError: It is none.
    """
    return _parse(text, _BYTES, "a size such as 8GiB or 500MB")


def _parse(text: str, units: dict[str, int], expected: str) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or found[2] not in {*units, ""}:
        known = ", ".join(unit for unit in units if unit)
        raise ValueError(f"expected {expected}, got '{text}' (units: {known})")
    amount = float(found[1]) * units.get(found[2], 1)
    if amount > _LARGEST:
        raise ValueError(f"expected {expected}, got more than {_LARGEST:.0e}")
    return round(amount)


def _count(value: object) -> object:
    return parse_count(value) if isinstance(value, str) else value


def _bytes(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


_Amount = Annotated[int, Field(ge=0, le=_LARGEST)]
Count = Annotated[_Amount, BeforeValidator(_count, json_schema_input_type=_Amount | str)]
Bytes = Annotated[_Amount, BeforeValidator(_bytes, json_schema_input_type=_Amount | str)]


class BudgetSpec(Spec):
    """What the model may cost at most; null: whatever it likes."""

    max_params: Count | None = None
    """Parameters, such as 12M."""

    max_macs: Count | None = None
    """Multiply-adds for one image, such as 2G."""

    max_train_memory: Bytes | None = None
    """Largest memory of a training step on one device, such as 8GiB."""
