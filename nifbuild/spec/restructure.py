"""Patches of structure: they act on ops as they stand there, before these are written out.

So they find what has no module of its own: a block, its repetitions, a level of names. `set` then
changes what the op says, such as `repeat` or a block's arguments; the others put ops beside it, in
its place, or leave it out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nifbuild.errors import Problem, SpecError
from nifbuild.spec.base import field_names
from nifbuild.spec.blocks import CALL_KEYS, REPEAT_KEYS, Block, Scope
from nifbuild.spec.check import check
from nifbuild.spec.document import Patch
from nifbuild.spec.expressions import substitute
from nifbuild.spec.graph import Graph
from nifbuild.spec.ops import kinds_of
from nifbuild.spec.patch import wrong_count
from nifbuild.spec.select import PathPattern, agrees, path_pattern
from nifbuild.spec.source import List, Map, Node, Scalar, at, plain

_BEFORE_MODULES = {"when", *REPEAT_KEYS}
"""Fields that no module has."""


@dataclass(frozen=True, eq=False)
class PlacedPatch:
    """A patch, and the tree that it was read from.

    What it puts into the model is not evaluated there: at another place, variables may have other
    values, and there may be more of them.
    """

    patch: Patch
    tree: Map

    def evaluated(self, scope: Scope) -> Map:
        """The tree in which `set` has the values of variables.

        Raises:
            SpecError: If it uses one that is unknown.
        """
        return self.tree.with_entry("set", substitute(self.tree.entries["set"], scope))


def read_patches(section: Node | None, scope: Scope) -> tuple[list[PlacedPatch], list[Problem]]:
    """The patches of a spec, and what is wrong in them.

    Args:
        section: Where it has any.
        scope: Its variables.
    """
    tree = substitute(section, scope) if isinstance(section, Scalar) else section
    if tree is None or (isinstance(tree, Scalar) and tree.value is None):
        return [], []
    if isinstance(tree, List):
        tree = List(tuple(_partly_evaluated(item, scope) for item in tree.items), tree.mark)
    patches, problems = check(tuple[Patch, ...], tree, "patch")
    if patches is None or not isinstance(tree, List):
        return [], problems
    items = zip(patches, tree.items, strict=True)
    return [PlacedPatch(p, item) for p, item in items if isinstance(item, Map)], problems


def _partly_evaluated(node: Node, scope: Scope) -> Node:
    node = substitute(node, scope) if isinstance(node, Scalar) else node
    if not isinstance(node, Map):
        return node
    entries = {
        key: value
        if key in ("insert", "replace") or (key == "set" and isinstance(value, Map))
        else substitute(value, scope)
        for key, value in node.entries.items()
    }
    return Map(entries, node.key_marks, node.mark)


def is_structural(patch: Patch) -> bool:
    """Whether a patch can only act on structure, whatever it finds."""
    acts = patch.insert is not None or patch.replace is not None or patch.delete
    return acts or not _BEFORE_MODULES.isdisjoint(patch.set)


@dataclass(eq=False)
class Edit:
    """A patch of structure, and what it has found so far.

    Attributes:
        placed: The patch.
        pattern: Its selector.
        named: Paths of the ops that the selector finds.
        found: Those among them that agree with `where`.
    """

    placed: PlacedPatch
    pattern: PathPattern
    named: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


@dataclass
class Change:
    """What becomes of an op.

    Attributes:
        node: The op; None where it is left out.
        before: Ops to put before it, each with the edit that does so.
        after: Those to put behind it.
        edits: All that change it.
    """

    node: Map | None
    before: list[tuple[Node, Edit]] = field(default_factory=list)
    after: list[tuple[Node, Edit]] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)


class Edits:
    """The patches of structure of a spec.

    Attributes:
        blocks: Those of the spec, and those that a patch gives another body.
        paths: Of all ops that had a name when they were written out, in order, and whether each
            stands for others.
        are_needed: Whether anybody asks for these paths; a spec without patches does not.
    """

    def __init__(
        self, patches: Sequence[PlacedPatch], blocks: Map, are_needed: bool = True
    ) -> None:
        self.blocks = blocks
        self.are_needed = are_needed
        self.paths: dict[str, bool] = {}
        self._edits = [Edit(placed, path_pattern(placed.patch.match)) for placed in patches]
        self._resting: set[Edit] = set()

    def has(self, placed: PlacedPatch) -> bool:
        """Whether a patch is one of them."""
        return any(edit.placed is placed for edit in self._edits)

    def finds_only_levels(self, placed: PlacedPatch, graph: Graph) -> bool:
        """Whether the selector of another patch finds no module, but ops that stand for some."""
        pattern = path_pattern(placed.patch.match)
        if self.has(placed) or any(pattern.fullmatch(node.path) for node in graph.nodes):
            return False
        return any(stands and pattern.fullmatch(path) for path, stands in self.paths.items())

    @contextmanager
    def resting(self, edits: Sequence[Edit]) -> Iterator[None]:
        """While entered, these find nothing: what an edit makes, it does not change again."""
        before = self._resting
        self._resting = before.union(edits)
        try:
            yield
        finally:
            self._resting = before

    def up_to(self, last: Edit) -> list[Edit]:
        """An edit and those before it."""
        return self._edits[: self._edits.index(last) + 1]

    def change(self, path: str | None, node: Map, scope: Scope) -> Change:
        """What becomes of the op of this path.

        Args:
            path: Its path; nothing finds an op without one.
            node: The op.
            scope: The variables that it sees.

        Raises:
            SpecError: If an edit gives a body to a block that is none.
        """
        change = Change(node)
        if path is None:
            return change
        for edit in self._edits:
            if edit in self._resting or not edit.pattern.fullmatch(path):
                continue
            edit.named.append(path)
            where = edit.placed.patch.where
            if change.node is None or not agrees(_fields(change.node, where, scope), where):
                continue
            edit.found.append(path)
            change.edits.append(edit)
            self._apply(edit, change, path)
        return change

    def _apply(self, edit: Edit, change: Change, path: str) -> None:
        assert change.node is not None  # an op that is left out is found no more
        patch, tree = edit.placed.patch, edit.placed.tree
        replacement = tree.get("replace")
        before, after = (at(tree, ("insert", key)) for key in ("before", "after"))
        if before is not None:
            change.before.append((before, edit))
        if after is not None:
            change.after.insert(0, (after, edit))
        if patch.set:
            change.node = self._set(change.node, edit, path)
        if replacement is not None:
            change.before.append((replacement, edit))
        if replacement is not None or patch.delete:
            change.node = None

    def _set(self, node: Map, edit: Edit, path: str) -> Map:
        values = edit.placed.tree.entries["set"]
        assert isinstance(values, Map)  # it was validated
        for key, value in values.entries.items():
            node = node.with_entry(key, value, values.key_marks[key])
        name = node.text("op") or ""
        if "op" in values.entries:
            known = self._fields_of(name)
            kept = {*CALL_KEYS, *values.entries, *(known if known is not None else node.entries)}
            node = node.without(*(key for key in node.entries if key not in kept))
        if "body" not in values.entries or name not in self.blocks.entries:
            return node
        block = Block(name, self.blocks.entries[name], self.blocks.key_marks[name])
        if "body" in block.arguments:
            return node
        # The call names a block of its own, with the same arguments.
        declared = self.blocks.entries[name]
        assert isinstance(declared, Map)  # `Block` has seen to it
        own = f"{name} of {path}"
        body, mark = values.entries["body"], values.key_marks["body"]
        self.blocks = self.blocks.with_entry(own, declared.with_entry("body", body), mark)
        return node.without("body").with_entry("op", Scalar(own, node.entries["op"].mark))

    def _fields_of(self, name: str) -> set[str] | None:
        """The fields of an op, or the arguments of a block; None where there is no such one."""
        if name not in self.blocks.entries:
            kinds = kinds_of(name).values()
            return {key for kind in kinds for key in field_names(kind)} if kinds else None
        return {*Block(name, self.blocks.entries[name], self.blocks.key_marks[name]).arguments}

    def problems(self) -> Iterator[Problem]:
        """Those of edits that found another number of ops than they expect."""
        for edit in self._edits:
            patch, count = edit.placed.patch, len(edit.found)
            if count != patch.expect if patch.expect is not None else not count:
                names = [*self.paths]
                yield wrong_count(patch, edit.placed.tree, names, edit.named, edit.found)


def _fields(node: Map, names: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Of an op, the values of some fields as they stand there, `op` by its name."""
    fields: dict[str, Any] = {}
    for name in names:
        value = node.get(name)
        if value is not None:
            try:
                fields[name] = plain(substitute(value, scope))
            except SpecError:  # it is told where the op is written out
                continue
    return fields
