"""The labels of a study: which combinations there are, and where one is named that is not there."""

import itertools
from collections.abc import Mapping

from nifbuild.errors import Mark, Problem, suggestion
from nifbuild.spec.check import dotted
from nifbuild.spec.gates import GateSpec
from nifbuild.spec.search_space import (
    NOT_IN_STUDIES,
    SEED,
    common_seed_problems,
    section_problems,
    seed_problem,
    seed_set_by,
)
from nifbuild.spec.source import List, Map, Node, Scalar, at, plain
from nifbuild.spec.study import MAX_VARIANTS, Study, StudySpec, label_of

_WITHOUT_SIZES = "has no filters as large as the image, whose size could be measured"


class LabelReader:
    """Finds out what the labels of a study are, and where they are used wrongly."""

    def __init__(self, tree: Map, spec: StudySpec) -> None:
        self.tree, self.spec = tree, spec
        self.problems = common_seed_problems(tree)
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
            what = f"'{axis}' has a list of values, and is no path of a spec"
            self.problems += section_problems(axis, path, mark, what, forms)
            if any(seed_set_by(axis, item) is not None for item in node.items):
                self._problem(f"{SEED} is no axis: it pairs the runs", path, "use `seeds`")
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
            for key in NOT_IN_STUDIES:
                if key in fragment.entries:
                    self._problem(f"`{key}` has no place in a fragment", (*path, key))
            if (seed := seed_set_by("", fragment)) is not None:
                self.problems.append(seed_problem((*path, *SEED.split(".")), seed.mark))

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
            if isinstance(gate.versus, dict):
                known = self._known(gate.versus, (*path, "versus"))
                if len(known) < len(gate.versus):
                    continue  # what is not there is missing for every variant
            compares = gate.versus not in (None, "main")
            if gate.versus == "baseline" and not study.reference:
                self._problem("the study has no baseline", (*path, "versus"), "add `baseline:`")
                continue
            found = study.variants_of(gate)
            if not found and not self.problems:
                self._problem("it is for no variant", path, self._why_none(study, gate))
            for variant in found if compares else ():
                fix = f"include its {gate.versus_text}, or choose variants with `where`"
                baseline = study.compared_with(gate, variant)
                if baseline is None:
                    what = f"{variant.name} has no {gate.versus_text} in this study"
                    self._problem(what, (*path, "versus"), fix)
                elif gate.metric == "effective_size" and not baseline.has_sizes:
                    what = f"{baseline.name}, the {gate.versus_text} of {variant.name}"
                    what += f", {_WITHOUT_SIZES}"
                    fix = "give a fixed limit, `max` or `min`, without `versus`"
                    self._problem(what, (*path, "metric"), fix)

    def _why_none(self, study: Study, gate: GateSpec) -> str:
        without = study.without_sizes(gate)
        if without:
            return f"{', '.join(v.name for v in without)}: each {_WITHOUT_SIZES}"
        why = "`where` leaves none" if gate.where else "all are baselines, and none is to compare"
        return f"{why}: add a variant, or leave the gate out"
