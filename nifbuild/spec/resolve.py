"""A spec file becomes a `Resolved`: composed, written out, patched, typed, and its shapes inferred.

This is the whole way from text to nodes, in order; each stage stands in a module of its own.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from nifbuild.spec.known_by_data import check_output, with_what_data_knows
from nifbuild.spec.ops import Shape
from nifbuild.spec.patch import apply_patch
from nifbuild.spec.recompute import check_recomputed
from nifbuild.spec.restructure import Edits, PlacedPatch, is_structural, read_patches
from nifbuild.spec.shipped import spec_path
from nifbuild.spec.source import List, Map, Scalar, at, parse
from nifbuild.spec.source import Node as TreeNode

AUTHORING = ("extends", "vars", "defaults", "blocks", "patch")
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
        scope: The variables, with what the data knows of them.
    """

    spec: RunSpec
    graph: Graph
    tree: Map
    source: Map
    scope: Mapping[str, TreeNode] = field(repr=False)

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
        return Resolved(spec, self.graph.evaluated, tree, source, self.scope)

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
    _require_a_spec(source)
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
    tree = source.without(*AUTHORING, *unknown)
    if data is not None:
        scope, tree, found = with_what_data_knows(source, tree, scope, data, num_classes)
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
    of_modules = [patch for patch in patches if not edits.has(patch)]
    tree, full, spec, graph = _patched(
        tree, defaults, (full, spec, graph), of_modules, scope, edits
    )
    check_output(spec, graph, tree, num_classes)
    _check_together(spec, graph, full)
    return Resolved(spec, graph, full, source, scope)


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


def _in_a_file(node: TreeNode) -> bool:
    """Whether any of it is, and not all of it set by flags."""
    if isinstance(node, Map):
        return any(map(_in_a_file, node.entries.values()))
    return node.mark.line > 0


def _require_a_spec(source: Map) -> None:
    said = {key for key, value in source.entries.items() if _in_a_file(value)}
    if said and said <= {"vars", "data", "train"}:
        if "train" in said:
            what, use = "is a recipe for training", "extends: [nifbuild:architectures/resnet18, {}]"
        else:
            what, use = "describes data", "nifbuild train SPEC --data {}"
        mark = source.mark
        fix = f"write `model:` with a list of ops, or use it so: {use.format(mark.file)}"
        raise SpecError(Problem(f"this {what}, without a model", mark, fix=fix, code="not-a-spec"))
    if "base" in source.entries and not {"matrix", "search"}.isdisjoint(source.entries):
        mark = source.key_marks["base"]
        fix = f"what it varies is its `base`; the study itself: nifbuild ablate plan {mark.file}"
        raise SpecError(Problem("this is a study, not a spec", mark, fix=fix, code="not-a-spec"))


def _unknown_sections(source: Map) -> Iterator[Problem]:
    names = list(SpecFile.model_fields)
    for key in source.entries:
        if key not in names:
            listed = f"sections: {', '.join(names)}"
            fix = suggestion(key.partition(".")[0], names, listed)  # a path, where a study sets one
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


def _patched(
    tree: Map,
    defaults: Map,
    typed: tuple[Map, RunSpec, Graph],
    patches: Sequence[PlacedPatch],
    scope: Mapping[str, TreeNode],
    edits: Edits,
) -> tuple[Map, Map, RunSpec, Graph]:
    """The tree, and what `_typed` makes of it, after patches of modules, one after another.

    Raises:
        SpecError: With the problems of all of them.
    """
    full, spec, graph = typed
    problems: list[Problem] = []
    for patch in patches:
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
    return tree, full, spec, graph


def _check_together(spec: RunSpec, graph: Graph, full: Map) -> None:
    """Raises SpecError where sections that are right each do not suit each other."""
    problems = told(check_recomputed(graph.evaluated, spec.train.gradient_checkpointing, full))
    too_few = too_few_images(graph, spec.train.images_at_once, full)
    problems += [too_few] if too_few is not None else []
    problems += _check_training(spec, full)
    if problems:
        raise SpecError(problems)


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
    for key, (what, fix) in found.items():
        place = at(tree, ("train", key))
        mark = place.mark if place is not None else tree.mark
        yield Problem(what, mark, f"train.{key}", fix, "training")
