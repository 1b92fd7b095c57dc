"""The model section written out: blocks, repeats, shorthands and variables.

What remains are the ops of `nifbuild.spec.ops` with plain values, each still at the place where it
was written.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from nifbuild.errors import (
    MAX_PROBLEMS,
    Mark,
    Problem,
    SpecError,
    more_problems,
)
from nifbuild.spec.base import field_names
from nifbuild.spec.blocks import REPEAT_KEYS, Block, Ops, Scope, op_name
from nifbuild.spec.defaults import unknown_kind
from nifbuild.spec.expressions import is_reference, substitute
from nifbuild.spec.levels import WrittenLevel
from nifbuild.spec.ops import Op, kinds_of
from nifbuild.spec.repeat import MAX_OPS, differs, index_name, rounds, with_fields
from nifbuild.spec.restructure import Edit, Edits
from nifbuild.spec.shorthand import branches_of, identity_at, name_at, op_mapping
from nifbuild.spec.source import MAX_DEPTH, List, Map, Node, Scalar, plain
from nifbuild.spec.unused import problems_within

_NAMES = ("id", "from")
"""Fields that hold names, in which `$i` and `$($i + 1)` are parts of the text."""

MAX_LEVELS = MAX_DEPTH // 2 - 2
"""Deepest nesting of ops. Written out as YAML, which has its own limit, it takes twice as many."""


class _TooLarge(SpecError):
    """Ends the expansion at once, where other problems are collected."""


class _Found(dict[Problem, None]):
    """The distinct problems, in the order in which they were found."""

    def add(self, problems: Iterable[Problem]) -> None:
        """Takes some in; ends the expansion where there are very many."""
        for problem in problems:
            if len(self) >= MAX_PROBLEMS and problem not in self:
                raise _TooLarge(more_problems(problem.where))
            self[problem] = None


def expand_model(
    model: Node, heads: Node | None, blocks: Map, scope: Scope, edits: Edits
) -> tuple[List, Node | None, list[Problem]]:
    """The model with blocks, repeats and variables written out.

    Args:
        model: The section.
        heads: The section `auxiliary`; None where there is none.
        blocks: The section, or an empty mapping.
        scope: The variables.
        edits: The patches that act on ops before they are written out.

    Returns:
        The ops, the section of heads, and all problems of these ops and of the blocks they use. In
        the place of an op that cannot be written out stands `identity`, so that the others are
        checked as well.
    """
    expander = _Expander(scope, edits)
    try:
        items = expander.body(model, scope, "model") or expander.nothing(model.mark, "model")
        heads = heads if heads is None else expander.heads(heads, scope)
        if not expander.problems:
            expander.problems.add(edits.problems())
        if not expander.problems:
            for name in blocks.entries:
                if name not in expander.used:
                    expander.problems.add(problems_within(name, blocks, scope))
    except _TooLarge as error:
        stand_in = List((identity_at(model.mark),), model.mark)
        return stand_in, None, [*expander.problems, *error.problems]
    return List(tuple(items), model.mark), heads, list(expander.problems)


class _Expander:
    def __init__(self, variables: Scope, edits: Edits) -> None:
        self.variables = variables
        self.edits = edits
        self.problems = _Found()
        self.used: set[str] = set()
        self.stack: tuple[str, ...] = ()
        self.level = WrittenLevel()
        self.count = 0
        self.depth = 0

    def body(self, node: Node, scope: Scope, where: str) -> list[Node]:
        """The ops of a body; a single op may stand without brackets.

        There are none where `when` leaves out all of them, or a variable holds none.
        """
        if isinstance(node, List) and not node.items:
            return self.nothing(node.mark, where)
        return self.each(node.items if isinstance(node, List) else (node,), scope, where)

    def heads(self, section: Node, scope: Scope) -> Node:
        """The section of auxiliary heads, each within the level of its name."""
        if not isinstance(section, Map):
            return substitute(section, scope)
        for name, head in section.entries.items():
            written = substitute(head.without("body"), scope) if isinstance(head, Map) else head
            if isinstance(head, Map) and isinstance(written, Map) and "body" in head.entries:
                body, key = head.entries["body"], head.key_marks["body"]
                outer, self.level = self.level, self.level.within(name)
                ops = self.body(body, scope, "body") or self.nothing(body.mark, "body")
                self.level = outer
                written = written.with_entry("body", List(tuple(ops), body.mark), key)
            section = section.with_entry(name, written)
        return section

    def nothing(self, mark: Mark, where: str) -> list[Node]:
        """What stands where there have to be ops, and are none."""
        fix = "write an op; `identity` does nothing"
        self.problems.add([Problem("no ops here", mark, where, fix, "empty")])
        return [identity_at(mark)]

    def each(self, entries: Sequence[Node], scope: Scope, where: str) -> list[Node]:
        """The ops that the entries of a body come to."""
        self.depth += 1
        if self.depth > MAX_LEVELS:
            what = f"ops are nested more than {MAX_LEVELS} levels deep"
            fix = "put ops after one another, or repeat them, instead of into each other"
            raise _TooLarge(Problem(what, entries[0].mark, where, fix, "too-large"))
        result: list[Node] = []
        for entry in entries:
            try:
                result += self.given(entry, scope) if is_reference(entry) else self.op(entry, scope)
            except _TooLarge:
                raise
            except SpecError as error:
                self.problems.add(error.problems)
                result.append(identity_at(entry.mark))
        self.depth -= 1
        return result

    def given(self, entry: Node, scope: Scope) -> list[Node]:
        """The ops that a variable or an argument holds."""
        self.counted(entry.mark)
        ops = substitute(entry, scope)
        if not isinstance(ops, List):
            return self.op(ops, scope)
        with self.from_elsewhere(ops, scope) as inner:
            return self.each(ops.items, inner, "model") if ops.items else []

    @contextmanager
    def from_elsewhere(self, ops: Node, scope: Scope) -> Iterator[Scope]:
        """The variables that ops see: an argument's are those of the place where it was written."""
        outer = self.stack
        if isinstance(ops, Ops):
            scope, self.stack = ops.scope, ops.within
        try:
            yield scope
        finally:
            self.stack = outer

    def op(self, node: Node, scope: Scope) -> list[Node]:
        """What one op comes to, with what patches put beside it or in its place."""
        node = op_mapping(node)
        if not self.edits.are_needed:
            return self.written(node, scope)
        change = self.edits.change(self.path(node, scope), node, scope)
        if not change.edits:
            return self.written(node, scope)
        items = self.put(change.before, scope)
        with self.edits.resting(change.edits):
            if change.node is None:
                self.level.count(1 if "id" in node.entries else None)
            else:
                items += self.written(change.node, scope)
        return items + self.put(change.after, scope)

    def path(self, node: Map, scope: Scope) -> str | None:
        """What patches find an op by: its id, else its name, numbered where it occurs again.

        A repetition without a level has none; each of its ops has one.
        """
        repeats = "repeat" in node.entries
        path: str | None = None
        if "id" in node.entries:
            if not (repeats and differs(node.entries["id"], index_name(node))):
                id = name_at(node.entries["id"], scope)
                word = id.value if isinstance(id, Scalar) else None
                path = self.level.path_of(word) if isinstance(word, str) else None
        elif not repeats and self.is_there(node, scope):
            path = self.level.next_of(op_name(node, scope, self.edits.blocks))
        if path is not None:
            name = node.text("op") or ""
            kinds = {} if name in self.edits.blocks.entries else kinds_of(name)
            is_layer = bool(kinds) and not next(iter(kinds.values())).bodies
            self.edits.paths[path] = repeats or not is_layer
        return path

    def put(self, given: Sequence[tuple[Node, Edit]], scope: Scope) -> list[Node]:
        """What patches put beside an op or in its place; those after them may change it."""
        items: list[Node] = []
        # They are no part of the blocks around, and may call them.
        outer = self.level, self.stack
        self.level, self.stack = self.level.beside(), ()
        try:
            for ops, edit in given:
                with self.edits.resting(self.edits.up_to(edit)):
                    items += self.body(ops, scope, "patch")
        finally:
            self.level, self.stack = outer
        return items

    def counted(self, mark: Mark) -> None:
        self.count += 1
        if self.count > MAX_OPS:
            what = f"the model has more than {MAX_OPS:,} ops"
            fix = "repeat fewer times"
            raise _TooLarge(Problem(what, mark, "model", fix, "too-large"))

    def is_there(self, node: Map, scope: Scope) -> bool:
        """Whether `when` lets an op stand; of a repetition perhaps not before it is known which."""
        given = node.get("when")
        if given is None or ("repeat" in node.entries and differs(given, index_name(node))):
            return True
        found = substitute(given, scope)
        if isinstance(found, Scalar) and isinstance(found.value, bool):
            return found.value
        what = f"`when` is true or false, not {plain(found)!r}"
        fix = "write when: $use_gate, or compare: when: $stride == 1"
        raise _problem(what, given.mark, "when", fix, "type")

    def written(self, node: Map, scope: Scope) -> list[Node]:
        """What one op comes to: itself, or as many as its `repeat` says."""
        repeats = any(key in node.entries for key in REPEAT_KEYS)
        if not self.is_there(node, scope):
            self.counted(node.mark)
            return []
        if repeats:
            return self.repeated(node, scope)
        self.counted(node.mark)
        name = op_name(node, scope, self.edits.blocks)
        if name in self.edits.blocks.entries:
            return self.call(name, node, scope)
        return self.builtin(name, node, scope)

    def builtin(self, name: str, node: Map, scope: Scope) -> list[Node]:
        classes = kinds_of(name)
        kinds = list(classes)
        if kinds != [""]:
            given = substitute(node.entries.get("kind", Scalar(kinds[0], node.mark)), scope)
            problem = unknown_kind(name, given, "kind")
            if problem is not None:
                self.problems.add([problem])
                node = _as_first_kind(node, list(classes.values()))
        op_class = next(iter(classes.values()))
        bodies = self.bodies(op_class, node, scope) if op_class.bodies else {}
        body = bodies.get("body")
        if op_class.is_its_body and isinstance(body, List) and not body.items:
            return []
        if not op_class.is_its_body or "id" in node.entries:
            self.level.count(None if op_class.bodies and "id" not in node.entries else 1)
        entries: dict[str, Node] = {}
        for key, value in node.entries.items():
            if key in bodies:
                entries[key] = bodies[key]
            elif key in _NAMES:
                entries[key] = name_at(value, scope)
            elif key != "when":
                entries[key] = substitute(value, scope)
        return [Map(entries, node.key_marks, node.mark)]

    def bodies(self, op_class: type[Op], node: Map, scope: Scope) -> dict[str, Node]:
        """The fields that hold ops."""
        with self.inside(node, scope):
            # In the order in which the ops run, by which those without an id are numbered.
            held = {key: node.get(key) for key in op_class.bodies}
            return {
                key: self.held(op_class, key, value, scope)
                for key, value in held.items()
                if value is not None
            }

    def held(self, op_class: type[Op], key: str, value: Node, scope: Scope) -> Node:
        """A field that holds ops: a word, or the ops written out."""
        word = substitute(value, scope) if is_reference(value) else value
        if isinstance(word, Scalar) and (word.value is None or word.value in op_class.bodies[key]):
            return word
        ops = (self.branches if key in op_class.parallel else self.body)(value, scope, key)
        if ops or op_class.is_its_body:
            return List(tuple(ops), value.mark)
        if key in op_class.without_ops:
            return Scalar(op_class.without_ops[key], value.mark)
        return List(tuple(self.nothing(value.mark, key)), value.mark)

    def branches(self, value: Node, scope: Scope, where: str) -> list[Node]:
        """Ops side by side. A branch in which nothing stands hands on its input."""
        given = substitute(value, scope) if is_reference(value) else value
        with self.from_elsewhere(given, scope) as inner:
            result: list[Node] = []
            for branch in branches_of(given):
                ops = self.body(branch, inner, where)
                if not ops and isinstance(branch, Map) and self.is_there(branch, inner):
                    ops = [identity_at(branch.mark, branch.get("id"))]
                result += ops
        return result

    @contextmanager
    def inside(self, node: Map, scope: Scope) -> Iterator[None]:
        """While entered, ops stand in the level that the id of an op opens, if there is one."""
        outer = self.level
        id = name_at(node.entries["id"], scope) if "id" in node.entries else None
        if isinstance(id, Scalar) and id.value is not None:
            self.level = outer.within(str(id.value))
        try:
            yield
        finally:
            self.level = outer

    def repeated(self, node: Map, scope: Scope) -> list[Node]:
        """The op once for each repetition; with an id, in a level in which they are numbered.

        An id that differs from one repetition to the next names each of them, without a level.
        """
        each = rounds(node, scope)
        index = index_name(node)
        own = [key for key in _NAMES if differs(node.get(key), index)]
        has_level = "id" in node.entries and "id" not in own
        common = node.without(*REPEAT_KEYS, *(key for key in _NAMES if key not in own))
        items: list[Node] = []
        with self.inside(node if has_level else node.without("id"), scope):
            for number, fields in enumerate(each):
                one = common
                if has_level:
                    one = one.with_entry("id", Scalar(str(number), node.key_marks["id"]))
                elif not items and "from" in node.entries:
                    # What comes after the first repetition takes the output of the one before it.
                    one = one.with_entry("from", node.entries["from"], node.key_marks["from"])
                inner = {**scope, index: Scalar(number, node.mark)} if index else scope
                items += self.body(with_fields(one, fields), inner, "repeat")
        return self.sequence(node.without(*own), items, scope) if has_level else items

    def sequence(self, node: Map, items: list[Node], scope: Scope) -> list[Node]:
        """The ops as one, under the names of the op that stands for them."""
        if not items:
            return []
        if "id" in node.entries:
            self.level.count(1)
        entries: dict[str, Node] = {"op": Scalar("sequence", node.mark)}
        for key in _NAMES:
            if key in node.entries:
                entries[key] = name_at(node.entries[key], scope)
        entries["body"] = List(tuple(items), node.mark)
        marks = {key: node.key_marks.get(key, node.mark) for key in entries}
        return [Map(entries, marks, node.mark)]

    def call(self, name: str, node: Map, scope: Scope) -> list[Node]:
        if name in self.stack:
            chain = " -> ".join((*self.stack, name))
            what = f"the block contains itself: {chain}"
            fix = "take this op out of the body; `repeat` puts a block several times"
            raise _problem(what, node.mark, name, fix, "block-cycle")
        block = Block(name, self.edits.blocks.entries[name], self.edits.blocks.key_marks[name])
        # A block sees the spec's variables and its own arguments, not those of its caller.
        bound = block.bind(node, scope, self.variables, self.stack)
        self.used.add(name)
        outer, self.stack = self.stack, (*self.stack, name)
        try:
            with self.inside(node, scope):
                items = self.body(block.body, {**self.variables, **bound}, f"blocks.{name}.body")
        finally:
            self.stack = outer
        return self.sequence(node, items, scope)


def _as_first_kind(node: Map, kinds: Sequence[type[Op]]) -> Map:
    """Without an unknown kind and the fields of others, so that what is left can be checked."""
    of_others = {name for kind in kinds[1:] for name in field_names(kind)}
    return node.without("kind", *(of_others - {*field_names(kinds[0])}))


def _problem(what: str, mark: Mark, path: str, fix: str, code: str = "invalid") -> SpecError:
    return SpecError(Problem(what, mark, path, fix, code))
