"""What YAML may say in a study: a base spec, and what is varied of it.

A study becomes variants: one resolved spec for each combination of labels. Each of them, with one
seed, is a cell: one training run.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nifbuild.errors import Mark, Problem, SpecError, suggestion
from nifbuild.spec.base import Spec, text_like
from nifbuild.spec.canonical import canonical_text
from nifbuild.spec.check import check, dotted
from nifbuild.spec.compose import compose, merge, with_value
from nifbuild.spec.document import SpecFile
from nifbuild.spec.gates import GateSpec
from nifbuild.spec.resolve import Resolved, resolve_tree
from nifbuild.spec.source import List, Map, Node, Scalar, at, load, plain

MAX_VARIANTS = 1000
"""Most combinations that a study may have."""

_NOT_IN_FRAGMENTS = ("extends", "name", "version")
Labels = Mapping[str, str]
_Value = str | int | float | bool | None | tuple[Any, ...]


class StudySpec(Spec):
    """A study: runs of one spec that differ in chosen places, and what must hold of them."""

    version: Literal[1] = 1
    """Version of the language."""

    name: (
        Annotated[
            str,
            text_like(
                r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
                "letters, digits, dots, hyphens and underscores, a letter or digit first",
                max_length=100,
            ),
        ]
        | None
    ) = None
    """Name of the study and, under `ablations/`, of its folder. Null: the file's name."""

    base: Annotated[str, Field(min_length=1)]
    """The spec that is varied, relative to this file."""

    data: str | dict[str, Any] | None = None
    """For all runs: a file whose `data` section takes the place of the base's, relative to this
    file; or fields that are merged into it. Null: the base's."""

    set: dict[str, Any] = {}
    """For all runs: values by path, such as `train.epochs: 10`."""

    matrix: Annotated[dict[str, Any], Field(min_length=1)]
    """The axes. A path with a list of values: `vars.width: [32, 64]`. Or a name with labels, each
    with a fragment of a spec that is merged into the base: `filters: {standard: {}, implicit:
    {patch: [...]}}`. Every combination is a variant; fragments are merged in the order of the axes.
    """

    exclude: tuple[dict[str, _Value], ...] = ()
    """Combinations to leave out: labels by axis; an axis that is not named stands for all its
    labels."""

    include: tuple[dict[str, _Value], ...] = ()
    """Combinations to add: a label for every axis; of an axis that is a path, any value."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    """Seeds of training; each variant is trained once with each."""

    baseline: str | dict[str, _Value] | None = None
    """What the others are compared with: a label (of one axis; the other labels stay the same), or
    labels by axis. Null: nothing."""

    gates: tuple[GateSpec, ...] = ()
    """What must hold, for `nifbuild ablate gate`."""


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One combination of labels. Two are equal only if they are the same object.

    Attributes:
        labels: By axis, in the order of the axes.
        resolved: Its spec; the seed is that of the base.
    """

    labels: Labels
    resolved: Resolved

    @property
    def name(self) -> str:
        """`filters=early, vars.width=32`."""
        return label_text(self.labels)

    @lru_cache(maxsize=10 * MAX_VARIANTS)  # noqa: B019  # writing YAML takes a while; studies are few
    def text(self, seed: int) -> str:
        """The spec written out, with this seed."""
        spec = self.resolved.spec
        train = spec.train.model_copy(update={"seed": seed})
        return canonical_text(spec.model_copy(update={"train": train}))

    def matches(self, labels: Labels) -> bool:
        """Whether it has all these labels."""
        return all(self.labels.get(axis) == label for axis, label in labels.items())


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is ready to be run.

    Attributes:
        path: Its file.
        name: Its name.
        spec: What the file says.
        variants: All combinations.
        reference: The labels of the baseline, by axis; empty: there is none.
    """

    path: Path
    name: str
    spec: StudySpec
    variants: tuple[Variant, ...]
    reference: Labels

    @property
    def axes(self) -> tuple[str, ...]:
        """What is varied."""
        return tuple(self.spec.matrix)

    def is_baseline(self, variant: Variant) -> bool:
        """Whether others are compared with it."""
        return bool(self.reference) and variant.matches(self.reference)

    def baseline_of(self, variant: Variant) -> Variant | None:
        """The variant that this one is compared with; None for a baseline, or where none is."""
        if not self.reference or self.is_baseline(variant):
            return None
        wanted = {**variant.labels, **self.reference}
        return next((v for v in self.variants if v.labels == wanted), None)

    def variants_of(self, gate: GateSpec) -> list[Variant]:
        """Those that a gate is for."""
        where = {axis: label_of(value) for axis, value in gate.where.items()}
        named = [variant for variant in self.variants if variant.matches(where)]
        if gate.versus == "baseline":
            return [variant for variant in named if not self.is_baseline(variant)]
        return named


def label_text(labels: Labels) -> str:
    """Labels as people read them: `filters=early, vars.width=32`."""
    return ", ".join(f"{axis}={label}" for axis, label in labels.items())


def label_of(value: object) -> str:
    """The label of a value: itself where it is text, else as YAML would have it on one line."""
    return value if isinstance(value, str) else json.dumps(value)


def is_study(path: str | Path) -> bool:
    """Whether a file is a study rather than a spec.

    Raises:
        SpecError: It cannot be read.
    """
    return bool({"matrix", "base"} & load(Path(path)).entries.keys())


def load_study(path: str | Path) -> Study:
    """Reads and checks a study, and resolves all its variants; imports no torch.

    Raises:
        SpecError: With all problems found, each with its place.
    """
    path = Path(path)
    tree = load(path)
    spec, problems = check(StudySpec, tree)
    if spec is None:
        raise SpecError(problems)
    reader = _Reader(tree, spec)
    combinations, reference = reader.combinations(), reader.reference()
    if reader.problems:
        raise SpecError(reader.problems)
    variants = _resolve_all(_common(path, tree, spec), tree, spec, combinations)
    study = Study(path, spec.name or path.stem, spec, variants, reference)
    reader.check_references(study)
    if reader.problems:
        raise SpecError(reader.problems)
    return study


class _Reader:
    """Finds out what the labels of a study are, and where they are used wrongly."""

    def __init__(self, tree: Map, spec: StudySpec) -> None:
        self.tree, self.spec = tree, spec
        self.problems: list[Problem] = []
        matrix = tree.entries["matrix"]
        assert isinstance(matrix, Map)  # it was checked
        self.axes = {
            axis: self._labels(axis, node, matrix.key_marks[axis])
            for axis, node in matrix.entries.items()
        }
        if len(set(spec.seeds)) < len(spec.seeds):
            self._problem("a seed is given twice", ("seeds",), "runs with one seed are the same")

    def _problem(self, what: str, path: tuple[str | int, ...], fix: str = "") -> None:
        node = at(self.tree, path)
        mark = node.mark if node is not None else self.tree.mark
        self.problems.append(Problem(what, mark, dotted(path), fix, "study"))

    def _labels(self, axis: str, node: Node, mark: Mark) -> list[str]:
        path = ("matrix", axis)
        forms = "a path has a list of values, a name has labels: {small: {...}, large: {...}}"
        if isinstance(node, List):
            labels = [label_of(plain(item)) for item in node.items]
            sections = [name for name in SpecFile.model_fields if name not in _NOT_IN_FRAGMENTS]
            section = axis.split(".")[0]
            if section not in sections:
                listed = f"a path starts with one of: {', '.join(sections)}\n{forms}"
                fix = suggestion(section, sections, listed)
                what = f"'{axis}' has a list of values, and is no path of a spec"
                self.problems.append(Problem(what, mark, dotted(path), fix, "study"))
            if axis == "train.seed":
                self._problem("train.seed is no axis: it pairs the runs", path, "use `seeds`")
            if len(set(labels)) < len(labels):
                self._problem("a value is given twice", path)
        elif isinstance(node, Map):
            labels = list(node.entries)
            self._check_fragments(axis, node)
        else:
            labels = []
            self._problem("neither values nor labels", path, forms)
        if not labels and not isinstance(node, Scalar):
            self._problem("it has no labels", path, forms)
        return labels

    def _check_fragments(self, axis: str, node: Map) -> None:
        for label, fragment in node.entries.items():
            path = ("matrix", axis, label)
            if isinstance(fragment, Scalar) and fragment.value is None:
                continue  # nothing changes
            if not isinstance(fragment, Map):
                fix = "write {} for no change, or sections of a spec: {patch: [...]}"
                self._problem("a label has a fragment of a spec", path, fix)
                continue
            for key in _NOT_IN_FRAGMENTS:
                if key in fragment.entries:
                    self._problem(f"`{key}` has no place in a fragment", (*path, key))

    def combinations(self) -> list[dict[str, str]]:
        """The labels of all variants."""
        count = 1
        for labels in self.axes.values():
            count *= len(labels)
        if count > MAX_VARIANTS:
            self._problem(f"{count:,} combinations; at most {MAX_VARIANTS:,}", ("matrix",))
            return []
        found = [
            dict(zip(self.axes, labels, strict=True))
            for labels in itertools.product(*self.axes.values())
        ]
        for index, entry in enumerate(self.spec.exclude):
            without = self._known(entry, ("exclude", index))
            kept = [c for c in found if any(c[a] != label for a, label in without.items())]
            if without and len(kept) == len(found):
                self._problem("it excludes nothing", ("exclude", index))
            found = kept
        for index, entry in enumerate(self.spec.include):
            added = self._known(entry, ("include", index), any_value=True)
            missing = [axis for axis in self.axes if axis not in added]
            if missing and len(added) == len(entry):
                fix = f"missing: {', '.join(missing)}"
                self._problem("it needs a label for every axis", ("include", index), fix)
            elif added in found:
                self._problem("there is such a combination already", ("include", index))
            elif not missing:
                found.append({axis: added[axis] for axis in self.axes})
        if not found and not self.problems:
            self._problem("all combinations are excluded", ("exclude",))
        return found

    def _known(
        self,
        entry: Mapping[str, object],
        path: tuple[str | int, ...],
        any_value: bool = False,
    ) -> dict[str, str]:
        """Labels by axis, those that are known; the others are problems."""
        matrix = self.spec.matrix
        labels = {}
        for axis, value in entry.items():
            label = label_of(value)
            if axis not in self.axes:
                fix = suggestion(axis, self.axes, f"axes: {', '.join(self.axes)}")
                self._problem(f"there is no axis '{axis}'", (*path, axis), fix)
            elif label not in self._used(axis) and not (
                any_value and isinstance(matrix[axis], list | tuple)
            ):
                names = self._used(axis)
                fix = suggestion(label, names, f"labels of {axis}: {', '.join(names)}")
                self._problem(f"there is no label '{label}'", (*path, axis), fix)
            else:
                labels[axis] = label
        return labels

    def _used(self, axis: str) -> list[str]:
        extra = [label_of(entry[axis]) for entry in self.spec.include if axis in entry]
        return list(dict.fromkeys([*self.axes[axis], *extra]))

    def reference(self) -> dict[str, str]:
        """The labels of the baseline."""
        baseline = self.spec.baseline
        if baseline is None:
            return {}
        if not isinstance(baseline, str):
            return self._known(baseline, ("baseline",))
        holders = [axis for axis in self.axes if baseline in self._used(axis)]
        if len(holders) == 1:
            return {holders[0]: baseline}
        names = [label for axis in self.axes for label in self._used(axis)]
        fix = suggestion(baseline, names, f"labels: {', '.join(names)}")
        what = f"there is no label '{baseline}'"
        if holders:
            what = f"'{baseline}' is a label of {' and of '.join(holders)}"
            fix = f"write baseline: {{{holders[0]}: {baseline}}}"
        self._problem(what, ("baseline",), fix)
        return {}

    def check_references(self, study: Study) -> None:
        """Gates that are for nothing, or compare with what is not there."""
        for index, gate in enumerate(self.spec.gates):
            path = ("gates", index)
            self._known(gate.where, (*path, "where"))
            compares = gate.versus == "baseline"
            if compares and not study.reference:
                self._problem("the study has no baseline", (*path, "versus"), "add `baseline:`")
                continue
            found = study.variants_of(gate)
            if not found and not self.problems:
                self._problem("it is for no variant", path)
            for variant in found if compares else ():
                if study.baseline_of(variant) is None:
                    fix = "include its baseline, or choose variants with `where`"
                    what = f"{variant.name} has no baseline in this study"
                    self._problem(what, (*path, "versus"), fix)


def _common(path: Path, tree: Map, spec: StudySpec) -> Map:
    """What all variants share, as a tree."""
    base = path.parent / spec.base
    data = path.parent / spec.data if isinstance(spec.data, str) else None
    try:
        composed = compose(base, data)
    except SpecError as error:
        named = {str(base): "base", str(data): "data"}
        raise SpecError([_named_here(p, tree, named) for p in error.problems]) from None
    if "name" not in composed.entries:
        composed = composed.with_entry("name", Scalar(base.stem, Mark(str(base))))
    node = tree.get("data")
    if isinstance(node, Map):
        composed = merge(composed, Map({"data": node}, {"data": tree.key_marks["data"]}, node.mark))
    values = tree.get("set")
    for name, value in values.entries.items() if isinstance(values, Map) else ():
        composed = with_value(composed, name, value, value.mark)
    # Variables that this study declares are its own to use.
    return Map(composed.entries, composed.key_marks, tree.mark)


def _named_here(problem: Problem, tree: Map, named: Mapping[str, str]) -> Problem:
    """A file that cannot be read is mended where it is named."""
    key = named.get(problem.where.file) if problem.where and not problem.where.line else None
    if key is None or problem.where is None:
        return problem
    what = f"{problem.what}: {problem.where.file}"
    return replace(problem, what=what, where=tree.entries[key].mark, path=key)


def _resolve_all(
    common: Map, tree: Map, spec: StudySpec, combinations: Sequence[dict[str, str]]
) -> tuple[Variant, ...]:
    variants = []
    found: dict[Problem, list[str]] = {}
    for labels in combinations:
        try:
            variants.append(Variant(labels, resolve_tree(_composed(common, tree, spec, labels))))
        except SpecError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(label_text(labels))
    if found:
        raise SpecError(_told_once(found, len(combinations)))
    return tuple(variants)


def _told_once(found: Mapping[Problem, list[str]], count: int) -> Iterable[Problem]:
    for problem, names in found.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        place = "" if len(names) == count > 1 else f"in the variant {names[0]}{more}"
        yield replace(problem, fix="\n".join(filter(None, (problem.fix, place))))


def _composed(common: Map, tree: Map, spec: StudySpec, labels: Labels) -> Map:
    composed = common
    for axis, label in labels.items():
        node = at(tree, ("matrix", axis))
        if isinstance(node, Map):
            fragment = node.entries[label]
            if isinstance(fragment, Map):
                composed = merge(composed, fragment)
            continue
        value = _value(tree, spec, axis, label)
        composed = with_value(composed, axis, value, value.mark)
    return Map(composed.entries, composed.key_marks, tree.mark)


def _value(tree: Map, spec: StudySpec, axis: str, label: str) -> Node:
    """The value of a path that has this label, where it is written."""
    places: list[tuple[str | int, ...]] = [
        ("matrix", axis, index) for index in range(len(spec.matrix[axis]))
    ]
    places += [("include", index, axis) for index in range(len(spec.include))]
    nodes = [node for place in places if (node := at(tree, place)) is not None]
    return next(node for node in nodes if label_of(plain(node)) == label)
