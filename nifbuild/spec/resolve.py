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
from nifbuild.spec.common_data import CommonData
from nifbuild.spec.compose import compose
from nifbuild.spec.data import DataSpec
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
_OF_OPS = ("model", "auxiliary")
"""Sections that hold ops."""


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

    def without_auxiliary(self) -> "Resolved":
        """The same model without auxiliary heads, as it is used once it is trained."""
        if not self.graph.heads:
            return self
        spec = self.spec.model_copy(update={"auxiliary": None})
        tree, source = self.tree.without("auxiliary"), self.source.without("auxiliary")
        return Resolved(spec, self.graph.evaluated, tree, source)

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
    written, found = _written(source, blocks, scope, edits)
    problems += found
    # Sections with problems of their own are not checked twice.
    read = ("data",) if data is None else ()
    rest = substitute(tree.without(*_OF_OPS, *read), scope)
    filled = substitute(defaults, scope)
    assert isinstance(rest, Map) and isinstance(filled, Map)  # substitution keeps their kind
    defaults = filled
    tree = _with_sections(rest, written)
    full, spec, graph, found = _typed(tree, defaults, lower_it=not problems)
    problems += found
    if problems or spec is None or graph is None:
        raise SpecError(sorted(_one_for_each_variable(problems, source), key=_reading_order))

    of_levels = [p for p in patches if edits.finds_only_levels(p, graph)]
    if of_levels:
        edits = Edits([p for p in patches if p in of_levels or edits.has(p)], blocks)
        written, problems = _written(source, blocks, scope, edits)
        tree = _with_sections(rest, written)
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
    problems = told(check_recomputed(graph.evaluated, spec.train.gradient_checkpointing, full))
    too_few = too_few_images(graph, spec.train.images_at_once, full)
    problems += [too_few] if too_few is not None else []
    problems += _check_training(spec, full)
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


def _written(
    source: Map, blocks: Map, scope: dict[str, TreeNode], edits: Edits
) -> tuple[dict[str, TreeNode], list[Problem]]:
    """The sections that hold ops, written out; an absent model is one op so the rest is checked."""
    placeholder = Map({"op": Scalar("identity", source.mark)}, {"op": source.mark}, source.mark)
    node = source.get("model")
    if node is None:
        fix = "write `model:` with a list of ops, or `extends:` an architecture"
        problem = Problem("missing section `model`", source.mark, "model", fix, "missing-field")
        return {"model": List((placeholder,), source.mark)}, [problem]
    heads = source.get("auxiliary")
    model, written_heads, problems = expand_model(node, heads, blocks, scope, edits)
    found = {"model": model}
    return found | ({} if written_heads is None else {"auxiliary": written_heads}), problems


def _with_sections(tree: Map, sections: dict[str, TreeNode]) -> Map:
    for name, section in sections.items():
        tree = tree.with_entry(name, section)
    return tree


def _typed(
    tree: Map, defaults: Map, lower_it: bool = True
) -> tuple[Map, RunSpec | None, Graph | None, list[Problem]]:
    held = {name: tree.entries[name] for name in _OF_OPS if name in tree.entries}
    full = _with_sections(tree, {k: with_defaults(v, defaults) for k, v in held.items()})
    spec, problems = check(RunSpec, full)
    if spec is None or not lower_it:
        return full, spec, None, problems
    shape = Shape(spec.input.channels, spec.input.size)
    try:
        return full, spec, lower(spec.model, shape, full, spec.auxiliary), problems
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
    """A model that has data must end in a number for each class, of the image or of each pixel."""
    if spec.data is None:
        return
    known = num_classes if num_classes is not None else spec.data.known_num_classes
    shape = graph.output_shape
    last = graph.nodes[graph.output] if graph.output >= 0 else None
    node = at(tree, last.where) if last is not None else None
    mark = node.mark if node is not None else tree.mark
    path = last.path if last is not None else "model"
    per_pixel = spec.data.per_pixel
    what = ""
    if per_pixel and not shape.is_image:
        what = f"the model ends in a vector of {shape}, and the data has a class for each pixel"
        fix = "end it with a conv of `out_channels: $num_classes` and `kernel_size: 1`, without "
        fix += (
            "pooling over the image, flatten and linear; or name data with a class for each image"
        )
    elif per_pixel and shape.size != spec.input.size:
        what = f"the model ends in an image of {shape}, and the data has a class for each pixel of "
        what += str(Shape(spec.input.channels, spec.input.size))
        fix = "bring it back to the size of the input, with `upsample` or `conv_transpose`"
    elif shape.is_image and not per_pixel:
        what = f"the model ends in an image of {shape}, and classes need a vector"
        fix = "end it with global_avg_pool, flatten, and linear with `out_features: $num_classes`"
        fix += "; or name data with a class for each pixel, such as `source: segmentation`"
    elif known is not None and shape.channels != known:
        what = f"the model gives {shape.channels} outputs, and the data has {known} classes"
        field = "out_channels" if per_pixel else "out_features"
        fix = f"write `{field}: $num_classes`, with `num_classes` under `vars`"
    if what:
        raise SpecError(Problem(what, mark, path, fix, "output"))


def _check_training(spec: RunSpec, tree: Map) -> Iterator[Problem]:
    """What training asks for that its data has not."""
    if spec.data is None:
        return
    found: dict[str, tuple[str, str]] = {}
    if spec.data.per_pixel and spec.train.class_weights == "balanced":
        what = "`balanced` counts images of each class, and here each pixel has a class"
        found["class_weights"] = (what, "write the weights by name: class_weights: {NAME: 2.5}")
    if spec.data.per_pixel and spec.train.sampling == "balanced":
        what = "`balanced` draws images of each class, and here each pixel has a class"
        found["sampling"] = (what, "leave it out; class_weights: {NAME: 2.5} weighs classes")
    if spec.train.monitor == "miou" and not spec.data.per_pixel:
        what = "a mean IoU is of data with a class for each pixel, and here each image has one"
        found["monitor"] = (what, "write monitor: top1, or loss")
    for field, (what, fix) in found.items():
        place = at(tree, ("train", field))
        mark = place.mark if place is not None else tree.mark
        yield Problem(what, mark, f"train.{field}", fix, "training")
