"""Files that hold nothing but how to train: to be extended, together with any architecture."""

from pathlib import Path

from nifbuild.spec.compose import compose, merge
from nifbuild.spec.resolve import resolve_tree
from nifbuild.spec.shipped import spec_path
from nifbuild.spec.source import Map, parse
from nifbuild.spec.training import TrainSpec

_ANY_MODEL = """
version: 1
name: recipe
input: {channels: 1, size: 8}
model: [flatten, {op: linear, out_features: 10}]
data: {source: digits}
"""
"""What a recipe is checked on: the smallest of models. All that it says of data holds for any."""


def load_recipe(path: str | Path) -> TrainSpec | None:
    """Reads a file that says how to train, and neither with what model nor on what data.

    Returns:
        Its `train` section; None for any other file.

    Raises:
        SpecError: With all problems of its sections.
    """
    tree = compose(spec_path(path))
    data = tree.get("data")
    names_data = isinstance(data, Map) and "source" in data.entries
    sections = set(tree.entries) - {"version", "vars", "data"}
    if sections != {"train"} or names_data:
        return None
    model = parse(_ANY_MODEL, "recipe")
    assert isinstance(model, Map)
    return resolve_tree(merge(model, tree)).spec.train
