"""The space of a search: its paths are checked, and drawn values become a spec."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nifbuild.errors import Mark, Problem, suggestion
from nifbuild.spec.check import dotted
from nifbuild.spec.compose import with_value
from nifbuild.spec.document import SpecFile
from nifbuild.spec.resolve import Resolved, resolve_tree
from nifbuild.spec.search import SearchSpec
from nifbuild.spec.source import List, Map, Node, Scalar, TreePath, at, plain

NOT_IN_STUDIES = ("extends", "name", "version")
"""Sections of a spec that a study does not vary."""

SEED = "train.seed"

_OF_A_GRID = ("exclude", "include", "baseline", "gates")


@dataclass(frozen=True, slots=True, eq=False)
class SearchSpace:
    """What a search draws from, and what is the same in all of its trials.

    Attributes:
        spec: The `search` section.
        common: The spec that values are set in.
        tree: The study.
    """

    spec: SearchSpec
    common: Map
    tree: Map

    def resolved(self, values: Mapping[str, Any]) -> Resolved:
        """The spec of a trial.

        Args:
            values: By path.

        Raises:
            SpecError: They do not go together.
        """
        composed = self.common
        for path, value in values.items():
            mark = self._parameter(path).mark
            composed = with_value(composed, path, self._node(path, value), mark)
        return resolve_tree(Map(composed.entries, composed.key_marks, self.tree.mark))

    def _node(self, path: str, value: Any) -> Node:
        """A value, where the study tells what it is drawn from."""
        choices = at(self._parameter(path), ("choices",))
        if isinstance(choices, List):
            return next(n for n in choices.items if _same(plain(n), value))
        return Scalar(value, self._parameter(path).mark)

    def _parameter(self, path: str) -> Node:
        node = at(self.tree, ("search", "space", path))
        assert node is not None  # it was checked
        return node


def _same(one: Any, other: Any) -> bool:
    """As YAML has them: true is not 1, nor is 1.0."""
    return json.dumps(one) == json.dumps(other)


def search_problems(tree: Map, num_seeds: int) -> list[Problem]:
    """What is wrong with a search besides the types of its fields.

    Args:
        tree: The study.
        num_seeds: That it names.
    """
    problems = []
    for name in _OF_A_GRID:
        if name in tree.entries:
            what = f"`{name}` is for a `matrix`, and this study has a `search`"
            fix = "a search shows which values are best so far, not that one is better: leave it "
            fix += "out, and compare what it finds in a study of its own"
            problems.append(Problem(what, tree.key_marks[name], name, fix, "study"))
    if num_seeds > 1:
        what = f"a search trains each trial with one seed, not with {num_seeds}"
        fix = "leave one; compare the best trials over several in a study with a `matrix`"
        problems.append(Problem(what, tree.key_marks["seeds"], "seeds", fix, "study"))
    space = at(tree, ("search", "space"))
    assert isinstance(space, Map)  # it was checked
    for path in space.entries:
        place, mark = ("search", "space", path), space.key_marks[path]
        problems += section_problems(path, place, mark, f"'{path}' is no path of a spec")
        parameter = space.entries[path]
        choices = at(parameter, ("choices",))
        drawn = choices.items if isinstance(choices, List) else [parameter]
        if any(seed_set_by(path, value) is not None for value in drawn):
            what, fix = f"{SEED} is nothing to search for", "leave it out"
            problems.append(Problem(what, mark, dotted(place), fix, "study"))
    return problems + common_seed_problems(tree)


def seed_set_by(path: str, value: Node) -> Node | None:
    """The seed of training that a value sets at a path; None where it sets none.

    Args:
        path: As in `train.seed` or `train`; empty: the value is a fragment of a spec.
        value: What is to stand there.
    """
    words, seed = tuple(filter(None, path.split("."))), tuple(SEED.split("."))
    return at(value, seed[len(words) :]) if seed[: len(words)] == words else None


def common_seed_problems(tree: Map) -> list[Problem]:
    """Whether `set` of a study says a seed, which would be another than that of the runs."""
    values = tree.get("set")
    return [
        seed_problem(("set", path), seed.mark)
        for path, value in (values.entries.items() if isinstance(values, Map) else ())
        if (seed := seed_set_by(path, value)) is not None
    ]


def seed_problem(place: TreePath, mark: Mark) -> Problem:
    """That a seed is said where `seeds` would take its place without a word."""
    what = f"{SEED} is nothing to set: each run has one of `seeds`"
    return Problem(what, mark, dotted(place), "use `seeds`", "study")


def section_problems(
    path: str, place: TreePath, mark: Mark, what: str, more: str = ""
) -> list[Problem]:
    """Whether a path that is varied starts with a section of a spec.

    Args:
        path: As in `train.epochs`.
        place: Where it stands in the study.
        mark: The same for people.
        what: To be said if it does not.
        more: What else could be meant.
    """
    sections = [name for name in SpecFile.model_fields if name not in NOT_IN_STUDIES]
    section = path.split(".")[0]
    if section in sections:
        return []
    listed = "\n".join(filter(None, (f"a path starts with one of: {', '.join(sections)}", more)))
    fix = suggestion(section, sections, listed)
    return [Problem(what, mark, dotted(place), fix, "study")]
