"""What YAML may say in a study, and what a study is once it is resolved."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nifbuild.spec.base import Spec, finding, text_like
from nifbuild.spec.canonical import canonical_text
from nifbuild.spec.gates import GateSpec
from nifbuild.spec.resolve import Resolved
from nifbuild.spec.search import SearchSpec
from nifbuild.spec.search_space import SearchSpace

MAX_VARIANTS = 1000
"""Most combinations that a study may have."""

Labels = Mapping[str, str]
Label = str | int | float | bool | None | tuple[Any, ...]


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

    matrix: Annotated[dict[str, Any], Field(min_length=1)] = {}
    """The axes. A path with a list of values: `vars.width: [32, 64]`. Or a name with labels, each
    with a fragment of a spec that is merged into the base: `filters: {standard: {}, implicit:
    {patch: [...]}}`. Every combination is a variant; fragments are merged in the order of the axes.
    """

    search: SearchSpec | None = None
    """Instead of a `matrix`: values are drawn from ranges, trial by trial, by what earlier trials
    came to. Needs the extra `nifbuild[search]`."""

    exclude: tuple[dict[str, Label], ...] = ()
    """Combinations to leave out: labels by axis; an axis that is not named stands for all its
    labels."""

    include: tuple[dict[str, Label], ...] = ()
    """Combinations to add: a label for every axis; of an axis that is a path, any value."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    """Seeds of training; each variant is trained once with each. Choose how many before results are
    seen, as `nifbuild ablate plan` tells: a gate does not pass on seeds added or left out later."""

    baseline: str | dict[str, Label] | None = None
    """What the others are compared with: a label (of one axis; the other labels stay the same), or
    labels by axis. Null: nothing."""

    gates: tuple[GateSpec, ...] = ()
    """What must hold, for `nifbuild ablate gate`."""

    @model_validator(mode="after")
    def _grid_or_search(self) -> Self:
        if self.matrix and self.search is not None:
            what = "a study has a `matrix` or a `search`, and this one has both"
            raise finding(what, "make two studies of it", at=("search",))
        if not self.matrix and self.search is None:
            fix = "write what is varied: matrix: {vars.width: [32, 64]}\n"
            fix += "or search: {trials: 20, space: {vars.width: {low: 8, high: 64}}}"
            raise finding("a study has a `matrix` or a `search`, and this one has neither", fix)
        return self


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

    @property
    def has_sizes(self) -> bool:
        """Whether some of its filters are as large as the image, so that their size is measured."""
        nodes = self.resolved.graph.evaluated.nodes
        return any(node.op.dense_params(*node.input_shapes) is not None for node in nodes)

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
        variants: All combinations; of a search, the trials that have been drawn so far.
        reference: The labels of the baseline, by axis; empty: there is none.
        space: Of a search, what its trials are drawn from; None: it is none.
    """

    path: Path
    name: str
    spec: StudySpec
    variants: tuple[Variant, ...]
    reference: Labels
    space: SearchSpace | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """What is varied."""
        return tuple(self.spec.matrix if self.space is None else self.space.spec.space)

    def trial(self, values: Mapping[str, Any]) -> Variant:
        """Of a search, the variant with these values, by path.

        Raises:
            SpecError: They do not go together.
        """
        assert self.space is not None
        labels = {path: label_of(value) for path, value in values.items()}
        return Variant(labels, self.space.resolved(values))

    def with_variants(self, variants: Iterable[Variant]) -> "Study":
        """The same study with other variants."""
        return replace(self, variants=tuple(variants))

    def is_baseline(self, variant: Variant) -> bool:
        """Whether others are compared with it."""
        return bool(self.reference) and variant.matches(self.reference)

    def baseline_of(self, variant: Variant) -> Variant | None:
        """The variant that this one is compared with; None for a baseline, or where none is."""
        if not self.reference or self.is_baseline(variant):
            return None
        wanted = {**variant.labels, **self.reference}
        return next((v for v in self.variants if v.labels == wanted), None)

    def compared_with(self, gate: GateSpec, variant: Variant) -> Variant | None:
        """The variant of this study that a gate compares one with, where there is one."""
        if gate.versus == "baseline":
            return self.baseline_of(variant)
        if not isinstance(gate.versus, dict):
            return None
        wanted = {**variant.labels, **_labels_of(gate.versus)}
        return next((v for v in self.variants if v.labels == wanted and v is not variant), None)

    def variants_of(self, gate: GateSpec) -> list[Variant]:
        """Those that a gate is for."""
        without = self.without_sizes(gate)
        return [variant for variant in self._named_by(gate) if variant not in without]

    def without_sizes(self, gate: GateSpec) -> list[Variant]:
        """Those that it would be for if they had filters whose size is measured."""
        if gate.metric != "effective_size":
            return []
        return [variant for variant in self._named_by(gate) if not variant.has_sizes]

    def _named_by(self, gate: GateSpec) -> list[Variant]:
        where = _labels_of(gate.where)
        named = [variant for variant in self.variants if variant.matches(where)]
        if gate.versus == "baseline":
            return [variant for variant in named if not self.is_baseline(variant)]
        if isinstance(gate.versus, dict):
            other = _labels_of(gate.versus)
            return [variant for variant in named if not variant.matches(other)]
        return named


def _labels_of(values: Mapping[str, object]) -> Labels:
    return {axis: label_of(value) for axis, value in values.items()}


def label_text(labels: Labels) -> str:
    """Labels as people read them: `filters=early, vars.width=32`."""
    return ", ".join(f"{axis}={label}" for axis, label in labels.items())


def label_of(value: object) -> str:
    """The label of a value: itself where it is text, else as YAML would have it on one line."""
    return value if isinstance(value, str) else json.dumps(value)
