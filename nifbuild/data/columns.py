"""Which column holds the images, which the labels, and what the classes are called."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from nifbuild.data.class_names import composed, contrasted, require_several
from nifbuild.data.splits import Rows
from nifbuild.errors import Problem, RunError, SpecError, did_you_mean
from nifbuild.spec.splits import Role

if TYPE_CHECKING:
    import datasets

_TRIED_PATHS = 10
_USUAL: dict[str, tuple[str, ...]] = {
    "image": ("image", "img", "images", "picture", "pixels"),
    "label": ("label", "labels", "class", "cls", "target", "category", "y"),
}
_MEANS = {
    "image": "images (an Image feature, bytes, or paths)",
    "label": "class labels (integers or strings)",
}


def find_column(
    kind: Literal["image", "label"], named: str | None, features: Mapping[str, Any], split: str
) -> str:
    """The column of images or of labels.

    Args:
        kind: Which of the two.
        named: Its name, where the spec gives it.
        features: The split's columns and their types.
        split: The source's name of the split, for messages.

    Raises:
        SpecError: There is none or more than one, or the named one is missing or of another type.
    """
    typed, usable = _TYPES[kind]
    if named is not None:
        if named not in features:
            raise _no_column(kind, f"split '{split}' has no column '{named}'", features, named)
        if not usable(features[named]):
            what = f"the column '{named}' holds {_type(features[named])}, not {_MEANS[kind]}"
            raise _no_column(kind, what, features, mend=_written_otherwise(features[named]))
        return named
    of_type = [name for name, feature in features.items() if typed(feature)]
    if len(of_type) == 1:
        return of_type[0]
    candidates = of_type or [name for name, feature in features.items() if usable(feature)]
    usual = [name for name in _USUAL[kind] if name in candidates]
    if len(usual) == 1:
        return usual[0]
    if len(usual or of_type) > 1:
        several = " and ".join(f"'{name}'" for name in usual or of_type)
        raise _no_column(kind, f"the columns {several} may each hold the {kind}s", features)
    what = f"no column of split '{split}' is known to hold {kind}s"
    for name in _USUAL[kind]:
        if name in features and (mend := _written_otherwise(features[name])):
            what += f", and '{name}' holds {_type(features[name])}"
            raise _no_column(kind, what, features, mend=mend)
    raise _no_column(kind, what, features)


def check_paths(table: "datasets.Dataset", column: str, split: str) -> None:
    """Texts in a column of images are paths.

    Raises:
        SpecError: None of the first ones is that of a file.
    """
    kind = getattr(table.features[column], "dtype", None)
    if kind not in ("string", "large_string") or not len(table):
        return
    rows = table.select_columns([column]).with_format("arrow")  # no other column is decoded
    texts = [text for text in rows[:_TRIED_PATHS][column].to_pylist() if text is not None]
    if not texts or any(os.path.isfile(text) for text in texts):  # noqa: PTH113 (False for any text)
        return
    what = f"the column '{column}' of split '{split}' holds text; there is no file {texts[0]!r:.80}"
    problem = _no_column("image", what, table.features).problems[0]
    relative = "paths of images are relative to the working directory"
    raise SpecError(replace(problem, fix=f"{problem.fix}\n{relative}"))


def _is_image(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Image)


def _may_be_image(feature: Any) -> bool:
    import datasets

    if isinstance(feature, dict):
        return "bytes" in feature
    return _is_image(feature) or (
        isinstance(feature, datasets.Value)
        and feature.dtype in ("binary", "large_binary", "string", "large_string")
    )


def _is_label(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel)


def _may_be_label(feature: Any) -> bool:
    import datasets

    return _is_label(feature) or (
        isinstance(feature, datasets.Value)
        and feature.dtype.startswith(("int", "uint", "string", "large_string", "bool"))
    )


_TYPES: dict[str, tuple[Callable[[Any], bool], Callable[[Any], bool]]] = {
    "image": (_is_image, _may_be_image),
    "label": (_is_label, _may_be_label),
}


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _written_otherwise(feature: Any) -> str:
    """What to do with a column of numbers that can be written as classes; empty for others."""
    kind = str(getattr(feature, "dtype", ""))
    if kind.startswith(("float", "decimal")):
        return "write the labels as integers: 0 instead of 0.0"
    return ""


def _no_column(
    kind: str, what: str, features: Mapping[str, Any], named: str = "", mend: str = ""
) -> SpecError:
    columns = ", ".join(f"'{name}' ({_type(feature)})" for name, feature in features.items())
    hint = mend or did_you_mean(named, features)
    if not named and not mend:
        hint = f"name it: `{kind}: ...`"
    fix = (hint, f"its columns are {columns}")
    return SpecError(
        Problem(what, path=f"data.{kind}", fix="\n".join(filter(None, fix)), code="missing-column")
    )


@dataclass(frozen=True)
class Labels:
    """The labels of one split, before and after they are numbered.

    Attributes:
        split: The source's name of the split.
        role: What it is used for.
        values: One for each row, as the source has them.
        names: The names of the classes, where the column's type tells them.
    """

    split: str
    role: Role
    values: np.ndarray
    names: tuple[str, ...] | None


def read_labels(table: "datasets.Dataset", column: str, split: str, role: Role) -> Labels:
    """Reads the labels of a split.

    Raises:
        SpecError: The split has no labels (all are missing or -1, as in test splits of contests).
        RunError: The split is empty, or some of its labels are missing or negative.
    """
    where = f"split '{split}'"
    if not len(table):
        raise RunError(
            Problem(
                f"{where} has no images",
                path=f"data.splits.{role}",
                fix="name another split for it, or check the source",
                code="empty-split",
            )
        )
    values: pa.ChunkedArray = table.select_columns([column]).with_format("arrow")[:][column]
    missing = np.flatnonzero(values.is_null().to_numpy())
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    unlabelled = len(missing) == len(values) or (
        pa.types.is_integer(values.type) and set(values.unique().to_pylist()) <= {-1, None}
    )
    if unlabelled:
        raise SpecError(
            Problem(
                f"{where} has no labels: all are missing or -1",
                path=f"data.splits.{role}",
                fix=f"name another split for it, such as `splits: {{{role}: validation}}`",
                code="unlabelled-split",
            )
        )
    if len(missing):
        whose = f"row {missing[0]} of {where} has no label"
        if len(missing) > 1:
            whose = f"{len(missing)} rows of {where} have no label; the first is row {missing[0]}"
        fix = "give them labels, or leave them out of the data; in tar files, what differs before "
        fix += "the first dot is of different rows, and a file that was cut off lacks what was last"
        raise RunError(Problem(whose, path="data.label", fix=fix, code="missing-label"))
    names = getattr(table.features[column], "names", None)
    array = values.to_numpy()
    if names is None and array.dtype.kind == "i":
        _check_not_negative(array, split)
    if array.dtype == object:
        array = _composed(array.astype(str))
    return Labels(split, role, array, tuple(map(composed, names)) if names is not None else None)


def _composed(texts: np.ndarray) -> np.ndarray:
    """The names of classes in the one form that Unicode has for each."""
    values, places = np.unique(texts, return_inverse=True)
    return np.array([composed(value) for value in values])[places]


def _check_not_negative(labels: np.ndarray, split: str) -> None:
    """A negative number stands for no label wherever numbers have no names."""
    negative = np.flatnonzero(labels < 0)
    if len(negative):
        raise RunError(
            Problem(
                f"{len(negative)} rows of split '{split}' have negative labels, which are no "
                f"classes; the first is row {negative[0]}, {labels[negative[0]]}",
                path="data.label",
                fix="remove these rows from the data, or number the classes from 0",
                code="label-out-of-range",
            )
        )


def number_classes(splits: Sequence[Labels]) -> tuple[tuple[str, ...], dict[Role, Rows]]:
    """The names of the classes, and each row's class number for each split.

    Names come from the column's type; without one, the training split's labels, sorted, are the
    classes.

    Args:
        splits: The training split and the others.

    Raises:
        RunError: Splits name their classes differently, a label is not that of a class, a split has
            a class that training never sees, or there are fewer than two classes.
    """
    train = next(labels for labels in splits if labels.role == "train")
    for labels in splits:
        _check_same_kind(labels, train)
    names = train.names
    if names is None:
        classes = np.unique(train.values)
        names = tuple(str(value) for value in classes)
        numbered = {labels.role: _lookup(labels, classes, train) for labels in splits}
    else:
        numbered = {labels.role: _in_range(labels, names) for labels in splits}
    require_several(names)
    seen = set(numbered["train"].tolist())
    for labels in splits:
        unseen = sorted(set(numbered[labels.role].tolist()) - seen)
        if unseen:
            raise _unseen_class(labels, names[unseen[0]], train)
    return names, numbered


def _check_same_kind(labels: Labels, train: Labels) -> None:
    """Both name the same classes, or both have numbers, or both have strings."""
    same_type = (labels.values.dtype.kind in "iu") == (train.values.dtype.kind in "iu")
    if labels.names == train.names and same_type:
        return
    texts = _described(labels), _described(train)
    if labels.names is not None and train.names is not None and labels.names != train.names:
        texts = contrasted(labels.names, train.names)
    raise RunError(
        Problem(
            f"split '{labels.split}' has {texts[0]}, split '{train.split}' has {texts[1]}",
            path="data.label",
            fix="write both with the same class names in the same order",
            code="class-names-differ",
        )
    )


def _described(labels: Labels) -> str:
    if labels.names is not None:
        return f"{len(labels.names):,} classes with names"
    return "numbers without names" if labels.values.dtype.kind in "iu" else "strings as labels"


def _lookup(labels: Labels, classes: np.ndarray, train: Labels) -> Rows:
    unseen = np.setdiff1d(labels.values, classes)
    if len(unseen):
        raise _unseen_class(labels, str(unseen[0]), train)
    return np.searchsorted(classes, labels.values).astype(np.int64)


def _in_range(labels: Labels, names: tuple[str, ...]) -> Rows:
    values = labels.values.astype(np.int64)
    wrong = np.flatnonzero((values < 0) | (values >= len(names)))
    if len(wrong):
        raise RunError(
            Problem(
                f"{len(wrong)} rows of split '{labels.split}' have a label that is no class; the "
                f"first is row {wrong[0]}, {values[wrong[0]]}",
                path="data.label",
                fix=f"the {len(names)} classes are 0 to {len(names) - 1}",
                code="label-out-of-range",
            )
        )
    return values


def _unseen_class(labels: Labels, name: str, train: Labels) -> RunError:
    return RunError(
        Problem(
            f"split '{labels.split}' has the class '{name}', which training never sees",
            path="data.label",
            fix=f"split '{train.split}' has no image of it: check both",
            code="unseen-class",
        )
    )
