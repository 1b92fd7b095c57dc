"""The text of a spec to begin with: all that one may want to change, as comments."""

import json
from typing import Any

from nifbuild.spec.canonical import yaml_text
from nifbuild.spec.resolve import Resolved
from nifbuild.spec.source import Map, plain

_TRAINING = (
    "epochs",
    "batch_size",
    "precision",
    "optimizer",
    "schedule",
    "label_smoothing",
    "ema",
    "seed",
)
"""Fields of `train` that people change first."""


def starting_text(name: str, extends: str, resolved: Resolved) -> str:
    """The text; each line that is commented out says what holds already.

    Args:
        name: Of the spec.
        extends: What it builds on, as it names it.
        resolved: The same, written out.
    """
    train = resolved.spec.train.model_dump(mode="json", by_alias=True, exclude_none=True)
    parts = [
        [
            f"# Check it: nifbuild validate {name}.yaml",
            f"# Train it: nifbuild train {name}.yaml",
            "# What a field means: nifbuild explain train.optimizer",
        ],
        yaml_text({"extends": extends, "name": name}).splitlines(),
        _variables(resolved),
        [
            "# Images of your own: a folder for each class, in train/ and test/ or together.",
            "# data: {source: imagefolder, path: photos}",
            *_size(resolved),
        ],
        _commented({"train": {key: train[key] for key in _TRAINING if key in train}}),
        [
            "# Any convolution may learn a filter as large as the image.",
            "# patch:",
            "#   - match: layer*.*.conv*",
            "#     where: {op: conv, kernel_size: 3, stride: 1}",
            "#     set: {kind: implicit_frequency}",
        ],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _variables(resolved: Resolved) -> list[str]:
    known = resolved.source.get("vars")
    values = {} if known is None else plain(known)
    if resolved.spec.data is not None:
        values.pop("num_classes", None)  # the data says how many there are
    return _commented({"vars": values}) if values else []


def _size(resolved: Resolved) -> list[str]:
    """What the base brings images to that do not say a size, as its own data may."""
    images = resolved.source.get("input")
    size = images.get("size") if isinstance(images, Map) else None
    return [] if size is None else [f"# input: {{size: {json.dumps(plain(size))}}}"]


def _commented(content: dict[str, Any]) -> list[str]:
    return [f"# {line}" for line in yaml_text(content).splitlines()]
