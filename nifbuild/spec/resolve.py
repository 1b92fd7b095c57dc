"""A spec file becomes a `Resolved`: composed, written out, patched, typed, and its shapes inferred.

This is the whole way from text to nodes, in order; each stage stands in a module of its own.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from nifbuild.errors import (
    MAX_PROBLEMS,
    Mark,
    Problem,
    RunError,
    SpecError,
    did_you_mean,
    suggestion,
    told,
)
from nifbuild.spec.canonical import canonical_text
from nifbuild.spec.check import check
from nifbuild.spec.compose import compose
from nifbuild.spec.data import CommonData, DataSpec
from nifbuild.spec.defaults import check_defaults, with_defaults
from nifbuild.spec.document import RunSpec, SpecFile
from nifbuild.spec.expand import expand_model
from nifbuild.spec.expressions import names_within, substitute, variables
from nifbuild.spec.graph import Graph, lower
from nifbuild.spec.images_at_once import too_few_images
from nifbuild.spec.ops import Shape
from nifbuild.spec.patch import apply_patch
from nifbuild.spec.recompute import check_recomputed
from nifbuild.spec.restructure import Edits, is_structural, read_patches
from nifbuild.spec.shipped import spec_path
from nifbuild.spec.source import List, Map, Scalar, at, parse, plain
from nifbuild.spec.source import Node as TreeNode

_AUTHORING = ("extends", "vars", "defaults", "blocks", "patch")
"""Sections that only help to write a spec; nothing of them remains in a resolved one."""


@dataclass(frozen=True)
class Resolved:
    """A spec that is ready to be built.

    Attributes:
        spec: The typed sections.
        graph: The model's nodes with their shapes.
        tree: The values with the places where they were written, those under `defaults` included.
        source: The composed tree that this was resolved from.
    """

    spec: RunSpec
    graph: Graph
    tree: Map
    source: Map

    def __repr__(self) -> str:
        """One line: specs have hundreds of fields."""
        count = len(self.graph.nodes)
        shapes = f"{self.graph.input_shape} -> {self.graph.output_shape}"
        return f"<spec {self.spec.name}: {count} modules, {shapes}>"

    @cached_property  # writing YAML takes longer than all checks
    def text(self) -> str:
        """The spec written out, as YAML that loads to the same `Resolved`."""
        return canonical_text(self.spec)

    @property
    def name(self) -> str:
        """The spec's name."""
        return self.spec.name

    def mark(self, *path: str | int) -> Mark | None:
        """Where the value at `path`, or the closest one around it, was written."""
        for end in range(len(path), -1, -1):
            node = at(self.tree, path[:end])
            if node is not None:
                return node.mark
        return None

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Gives errors about a value of the spec the place where that value was written.

        What is found out later, such as a batch larger than the data, names a path only.
        """
        try:
            yield
        except (SpecError, RunError) as error:
            kind = SpecError if isinstance(error, SpecError) else RunError  # not a subclass's own
            raise kind(self._placed(problem) for problem in error.problems) from error

    def _placed(self, problem: Problem) -> Problem:
        keys = problem.path.split(".")
        if problem.where is not None or keys[0] not in self.tree.entries:
            return problem
        return replace(problem, where=self.mark(*keys))

    def adopt(self, num_classes: int) -> "Resolved":
        """The spec with the number of classes that its data turned out to have.

        Raises:
            SpecError: If the spec insists on another number, or its model gives another.
        """
        return resolve_tree(self.source, num_classes)


def load_spec(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
) -> Resolved:
    """Reads, checks and writes out a spec; imports no torch.

    Args:
        path: The YAML file, or the name of a shipped one, as in `nifbuild:resnet18`.
        data: A file whose `data` section takes the place of the spec's.
        overrides: `a.b.c=value` texts, checked as if they stood in the file.

    Raises:
        SpecError: With all problems found, each with its place.
    """
    path = spec_path(path)
    tree = compose(path, spec_path(data) if data is not None else None, overrides)
    if "name" not in tree.entries:
        mark = Mark(str(path))
        tree = tree.with_entry("name", Scalar(path.stem, mark), mark)
    return resolve_tree(tree)


def load_text(text: str, name: str) -> Resolved:
    """A spec that is written out, such as the `text` of a `Resolved`; imports no torch.

    Args:
        text: YAML that extends no file.
        name: What errors call it, in place of a file.

    Raises:
        SpecError: With all problems found, each with its place.
    """
    tree = parse(text, name)
    if not isinstance(tree, Map):
        fix = "start with `version: 1` and `model:`"
        raise SpecError(
            Problem("a spec is a mapping of keys to values", tree.mark, "", fix, "yaml")
        )
    return resolve_tree(tree)


def resolve_tree(source: Map, num_classes: int | None = None) -> Resolved:
    """Checks and writes out a spec that is composed already.

    Args:
        source: Its sections, `name` among them.
        num_classes: What its data turned out to have; None: as the spec says.

    Raises:
        SpecError: With all problems found, each with its place.
    """
    problems = told(_unknown_sections(source))
    scope = variables(source)
    problems += told(_unused_variables(source))
    blocks, found = _section(source, "blocks")
    problems += found
    defaults, found = _section(source, "defaults")
    problems += found + told(check_defaults(defaults))
    patches, found = read_patches(source.get("patch"), scope)
    problems += found

    data, found = _data(source, scope)
    problems += found
    unknown = [key for key in source.entries if key not in SpecFile.model_fields]
    tree = source.without(*_AUTHORING, *unknown)
    if data is not None:
        scope, tree, found = _adopted(source, tree, scope, data, num_classes)
        problems += found

    edits = Edits([p for p in patches if is_structural(p.patch)], blocks, bool(patches))
    model, found = _model(source, blocks, scope, edits)
    problems += found
    # Sections with problems of their own are not checked twice.
    read = ("data",) if data is None else ()
    rest = substitute(tree.without("model", *read), scope)
    filled = substitute(defaults, scope)
    assert isinstance(rest, Map) and isinstance(filled, Map)  # substitution keeps their kind
    defaults = filled
    tree = rest.with_entry("model", model)
    full, spec, graph, found = _typed(tree, defaults, lower_it=not problems)
    problems += found
    if problems or spec is None or graph is None:
        raise SpecError(sorted(_one_for_each_variable(problems, source), key=_reading_order))

    of_levels = [p for p in patches if edits.finds_only_levels(p, graph)]
    if of_levels:
        edits = Edits([p for p in patches if p in of_levels or edits.has(p)], blocks)
        model, problems = _model(source, blocks, scope, edits)
        tree = rest.with_entry("model", model)
        full, spec, graph = _valid(tree, defaults, problems)
    for patch in patches:
        if edits.has(patch):
            continue
        try:
            place = patch.evaluated(scope)
            changed, found = apply_patch(tree, graph, patch.patch, place, [*edits.paths])
        except SpecError as error:
            problems += error.problems
            continue
        problems += found
        changed_full, changed_spec, changed_graph, found = _typed(changed, defaults)
        problems += found
        if changed_spec is not None and changed_graph is not None:
            tree, full, spec, graph = changed, changed_full, changed_spec, changed_graph
    if problems:
        raise SpecError(dict.fromkeys(problems))

    _check_output(spec, graph, tree, num_classes)
    problems = told(check_recomputed(graph, spec.train.gradient_checkpointing, full))
    too_few = too_few_images(graph, spec.train.images_at_once, full)
    problems += [too_few] if too_few is not None else []
    if problems:
        raise SpecError(problems)
    return Resolved(spec, graph, full, source)


def _reading_order(problem: Problem) -> tuple[str, int, int]:
    mark = problem.where or Mark("")
    return (mark.file, mark.line, mark.column)


def _one_for_each_variable(problems: list[Problem], source: Map) -> list[Problem]:
    """The distinct problems; of those that one variable causes, the first."""
    declared = source.get("vars")
    homes = {node.mark for node in declared.entries.values()} if isinstance(declared, Map) else ()
    kept: dict[object, Problem] = {}
    for problem in problems:
        kept.setdefault(problem.where if problem.where in homes else problem, problem)
    return list(kept.values())


def _unknown_sections(source: Map) -> Iterator[Problem]:
    names = list(SpecFile.model_fields)
    for key in source.entries:
        if key not in names:
            listed = f"sections: {', '.join(names)}"
            fix = suggestion(key, names, listed)
            mark = source.key_marks[key]
            yield Problem(f"unknown section '{key}'", mark, key, fix, "unknown-field")


def _unused_variables(source: Map) -> Iterator[Problem]:
    """A variable of this file or of a flag that nothing uses is most often another one misspelt.

    Those of extended files may have served what this one replaces. Where it is the name in use that
    is misspelt, that is told as an unknown variable.
    """
    declared = source.get("vars")
    if not isinstance(declared, Map):
        return
    used = names_within(source)
    unknown = sorted(used - set(declared.entries) - _block_arguments(source))[:MAX_PROBLEMS]
    for name in declared.entries:
        mark = declared.key_marks[name]
        own = mark.line == 0 or mark.file == source.mark.file
        if own and name not in used and not did_you_mean(name, unknown):
            fix = did_you_mean(name, used) or f"write ${name} where it should stand"
            what = f"nothing uses the variable '{name}'"
            yield Problem(what, mark, f"vars.{name}", fix, "unused-variable")


def _block_arguments(source: Map) -> set[str]:
    blocks = source.get("blocks")
    if not isinstance(blocks, Map):
        return set()
    declared = [at(block, ("args",)) for block in blocks.entries.values()]
    return {name for args in declared if isinstance(args, Map) for name in args.entries}


def _section(source: Map, name: str) -> tuple[Map, list[Problem]]:
    node = source.get(name)
    empty = Map({}, {}, source.mark)
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return empty, []
    if not isinstance(node, Map):
        return empty, [Problem(f"{name} is a mapping", node.mark, name, code="type")]
    return node, []


def _data(source: Map, scope: dict[str, TreeNode]) -> tuple[CommonData | None, list[Problem]]:
    node = source.get("data")
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return None, []
    return check(DataSpec, substitute(node, scope), "data")


def _adopted(
    source: Map,
    tree: Map,
    scope: dict[str, TreeNode],
    data: CommonData,
    num_classes: int | None,
) -> tuple[dict[str, TreeNode], Map, list[Problem]]:
    """What the data knows takes the place of what the architecture assumes.

    A value by flag, or in the file that describes the data itself, is no assumption; where it
    differs there is a conflict.
    """
    problems: list[Problem] = []
    place = source.entries["data"].mark
    known = num_classes if num_classes is not None else data.known_num_classes
    assumed = scope.get("num_classes")
    if known is not None and assumed is not None:
        if _insists(assumed, place) and plain(assumed) != known:
            claimed = at(source, ("data", "num_classes")) if num_classes is None else None
            problems.append(_class_conflict(assumed, known, claimed))
        scope = {**scope, "num_classes": Scalar(known, place)}
    images = tree.get("input") or Map({}, {}, place)
    if isinstance(images, Scalar):  # it may be a variable that holds a mapping
        images = substitute(images, scope)
    if data.size is not None and isinstance(images, Map):  # else the check of `input` tells of it
        size = List(tuple(Scalar(extent, place) for extent in data.size), place)
        assumed = images.get("size")
        if assumed is not None and _insists(assumed, place):
            given = plain(substitute(assumed, scope))
            if not _is_size(given):
                return scope, tree, problems  # the check of `input` tells what is wrong
            if given not in (list(data.size), data.size[0] if len(set(data.size)) == 1 else None):
                what = f"input.size is {given}, and the data wants {list(data.size)}"
                fix = "leave one of the two out"
                problems.append(Problem(what, assumed.mark, "input.size", fix, "conflict"))
        tree = tree.with_entry("input", images.with_entry("size", size, place))
    return scope, tree, problems


def _is_size(value: object) -> bool:
    extents = value if isinstance(value, list) else [value, value]
    return len(extents) == 2 and all(type(extent) is int for extent in extents)


def _class_conflict(assumed: TreeNode, known: int, claimed: TreeNode | None) -> Problem:
    """`claimed` is where the spec says of data that was not opened how many classes it has."""
    if claimed is not None:
        what = f"num_classes is {plain(assumed)} under vars ({assumed.mark}) and {known} under data"
        fix = "make both the number that the data has; data.num_classes may be left out"
        return Problem(what, claimed.mark, "data.num_classes", fix, "conflict")
    what = f"num_classes is {plain(assumed)}, and the data has {known} classes"
    return Problem(what, assumed.mark, "vars.num_classes", f"set it to {known}", "conflict")


def _insists(node: TreeNode, data_place: Mark) -> bool:
    return node.mark.line == 0 or node.mark.file == data_place.file


def _model(
    source: Map, blocks: Map, scope: dict[str, TreeNode], edits: Edits
) -> tuple[TreeNode, list[Problem]]:
    """The model written out; where it is absent, one op so that the rest is checked."""
    placeholder = Map({"op": Scalar("identity", source.mark)}, {"op": source.mark}, source.mark)
    node = source.get("model")
    if node is None:
        fix = "write `model:` with a list of ops, or `extends:` an architecture"
        problem = Problem("missing section `model`", source.mark, "model", fix, "missing-field")
        return List((placeholder,), source.mark), [problem]
    return expand_model(node, blocks, scope, edits)


def _typed(
    tree: Map, defaults: Map, lower_it: bool = True
) -> tuple[Map, RunSpec | None, Graph | None, list[Problem]]:
    full = tree.with_entry("model", with_defaults(tree.entries["model"], defaults))
    spec, problems = check(RunSpec, full)
    if spec is None or not lower_it:
        return full, spec, None, problems
    shape = Shape(spec.input.channels, spec.input.size)
    try:
        return full, spec, lower(spec.model, shape, full), problems
    except SpecError as error:
        return full, spec, None, list(error.problems)


def _valid(
    tree: Map, defaults: Map, problems: Sequence[Problem] = ()
) -> tuple[Map, RunSpec, Graph]:
    full, spec, graph, found = _typed(tree, defaults, lower_it=not problems)
    if problems or spec is None or graph is None:
        raise SpecError([*problems, *found])
    return full, spec, graph


def _check_output(spec: RunSpec, graph: Graph, tree: Map, num_classes: int | None) -> None:
    """A model that has data must end in one number for each class."""
    if spec.data is None:
        return
    known = num_classes if num_classes is not None else spec.data.known_num_classes
    shape = graph.output_shape
    last = graph.nodes[graph.output] if graph.output >= 0 else None
    node = at(tree, last.where) if last is not None else None
    mark = node.mark if node is not None else tree.mark
    path = last.path if last is not None else "model"
    if shape.is_image:
        what = f"the model ends in an image of {shape}, and classes need a vector"
        fix = "end it with global_avg_pool, flatten, and linear with `out_features: $num_classes`"
        raise SpecError(Problem(what, mark, path, fix, "output"))
    if known is not None and shape.channels != known:
        what = f"the model gives {shape.channels} outputs, and the data has {known} classes"
        fix = "write `out_features: $num_classes`, with `num_classes` under `vars`"
        raise SpecError(Problem(what, mark, path, fix, "output"))
