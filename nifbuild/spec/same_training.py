"""Whether two specs train alike: what of a spec may change between two starts of a run."""

import difflib
from typing import TYPE_CHECKING

from nifbuild.errors import SpecError
from nifbuild.spec.canonical import yaml_text
from nifbuild.spec.resolve import load_text

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

UNTRAINED = ("name", "budget", "license")
"""Sections of a spec that do not touch what is trained, nor any figure of it."""

_FREE = {
    "": UNTRAINED,
    "train": ("epochs", "device", "checkpoint_every", "keep", "trackers"),
    "data": ("workers",),
}
"""By section, the fields that do not touch what was trained so far.

`epochs` says how far training goes on. Which kind of device it was is not for the spec to tell, as
`auto` may be any.
"""


def load_stored(text: str) -> "Resolved | None":
    """A spec that a run has stored; None where this version cannot read it."""
    try:
        return load_text(text, "spec")
    except SpecError:
        return None


def training_changes(was: str, now: str) -> str:
    """How two specs, written out, differ in what they train; empty where they train alike.

    A field that a stored spec lacks, as it is older than the field, has its default.

    Returns:
        The differing lines, with `-` and `+` before them.
    """
    if was == now:
        return ""
    before, after = (_lasting_text(text).splitlines() for text in (was, now))
    return "\n".join(difflib.unified_diff(before, after, "run", "now", "", "", 1, ""))


def _lasting_text(text: str) -> str:
    stored = load_stored(text)
    if stored is None:
        return text
    content = stored.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    for section, names in _FREE.items():
        fields = content.get(section, {}) if section else content
        for name in names:
            fields.pop(name, None)
    return yaml_text(content)
