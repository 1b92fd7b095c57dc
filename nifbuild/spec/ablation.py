"""A study becomes variants: one resolved spec for each combination of labels.

Each of them, with one seed, is a cell: one training run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.spec.check import check
from nifbuild.spec.compose import compose, merge, with_value
from nifbuild.spec.resolve import Resolved, resolve_tree
from nifbuild.spec.search import SearchSpec
from nifbuild.spec.search_space import SearchSpace, search_problems
from nifbuild.spec.shipped import spec_path
from nifbuild.spec.source import Map, Node, Scalar, at, load, plain
from nifbuild.spec.study import Labels, Study, StudySpec, Variant, label_of, label_text
from nifbuild.spec.study_labels import LabelReader


def is_study(path: str | Path) -> bool:
    """Whether a file is a study rather than a spec.

    Raises:
        SpecError: It cannot be read.
    """
    return bool({"matrix", "search", "base"} & load(spec_path(path)).entries.keys())


def load_study(path: str | Path) -> Study:
    """Reads and checks a study, and resolves all its variants; imports no torch.

    A search has none yet: the ends of its ranges, and all of its choices, are resolved for a check.

    Raises:
        SpecError: With all problems found, each with its place.
    """
    path = spec_path(path)
    tree = load(path, "study", "`base:` and `matrix:`")
    if not is_study(path) and {"model", "extends"} & tree.entries.keys():
        fix = (
            "a study names it as `base:` and says under `matrix:` what to vary; to train this one: "
        )
        raise SpecError(
            Problem("this is a spec, not a study", tree.mark, fix=f"{fix}nifbuild train {path}")
        )
    spec, problems = check(StudySpec, tree)
    if spec is None:
        raise SpecError(problems)
    if spec.search is not None:
        return _load_search(path, tree, spec, spec.search)
    reader = LabelReader(tree, spec)
    combinations, reference = reader.combinations(), reader.reference()
    if reader.problems:
        raise SpecError(reader.problems)
    common = _common(path, tree, spec)
    variants = _resolve_all(
        combinations,
        lambda index: resolve_tree(_composed(common, tree, spec, combinations[index])),
    )
    study = Study(path, spec.name or path.stem, spec, variants, reference)
    reader.check_references(study)
    if reader.problems:
        raise SpecError(reader.problems)
    return study


def _load_search(path: Path, tree: Map, spec: StudySpec, search: SearchSpec) -> Study:
    problems = search_problems(tree, len(spec.seeds))
    if problems:
        raise SpecError(problems)
    space = SearchSpace(search, _common(path, tree, spec), tree)
    corners = search.corners
    labels = [{axis: label_of(value) for axis, value in values.items()} for values in corners]
    _resolve_all(labels, lambda index: space.resolved(corners[index]))
    return Study(path, spec.name or path.stem, spec, (), {}, space)


def _common(path: Path, tree: Map, spec: StudySpec) -> Map:
    """What all variants share, as a tree."""
    base = spec_path(spec.base, path.parent)
    data = spec_path(spec.data, path.parent) if isinstance(spec.data, str) else None
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
    combinations: Sequence[Labels], resolved: Callable[[int], Resolved]
) -> tuple[Variant, ...]:
    """The variants of these labels; `resolved` gives the spec of each, by its number."""
    variants = []
    found: dict[Problem, list[str]] = {}
    for index, labels in enumerate(combinations):
        try:
            variants.append(Variant(labels, resolved(index)))
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
