"""The model section written out: blocks, repeats, shorthands and variables.

What remains are the ops of `nifbuild.spec.ops` with plain values, each still at the place where it
was written.
"""

from collections.abc import Iterable, Sequence

from nifbuild.errors import (
    MAX_PROBLEMS,
    Mark,
    Problem,
    SpecError,
    did_you_mean,
    more_problems,
)
from nifbuild.spec.base import field_names
from nifbuild.spec.blocks import REPEAT_KEYS, Block, Scope
from nifbuild.spec.defaults import unknown_kind, unknown_op
from nifbuild.spec.expressions import interpolate, is_expression, names_within, substitute
from nifbuild.spec.names import POSITION
from nifbuild.spec.ops import OPS, Op, kinds_of
from nifbuild.spec.source import MAX_DEPTH, MAX_NODES, List, Map, Node, Scalar, plain

_NAMES = ("id", "from")
"""Fields that hold names, in which `$i` and `$($i + 1)` are parts of the text."""

MAX_OPS = MAX_NODES // 4
"""Most ops that a model may come to."""
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


def expand_model(model: Node, blocks: Map, scope: Scope) -> tuple[List, list[Problem]]:
    """The model with blocks, repeats and variables written out.

    Returns:
        The ops, and all problems of the model's ops and of the blocks it uses. In the place of an
        op that cannot be written out stands `identity`, so that the others are checked as well.
    """
    expander = _Expander(blocks, scope)
    try:
        items = expander.body(model, scope, "model")
        if not expander.problems:
            for name in blocks.entries:
                if name not in expander.used:
                    expander.check_unused(name)
    except _TooLarge as error:
        return List((_identity(model.mark),), model.mark), [*expander.problems, *error.problems]
    return List(tuple(items), model.mark), list(expander.problems)


class _Expander:
    def __init__(self, blocks: Map, variables: Scope) -> None:
        self.blocks = blocks
        self.variables = variables
        self.problems = _Found()
        self.used: set[str] = set()
        self.stack: list[str] = []
        self.count = 0
        self.depth = 0

    def body(self, node: Node, scope: Scope, where: str) -> list[Node]:
        """The ops of a body; a single op may stand without brackets."""
        entries = node.items if isinstance(node, List) else (node,)
        self.depth += 1
        if self.depth > MAX_LEVELS:
            what = f"ops are nested more than {MAX_LEVELS} levels deep"
            fix = "put ops after one another, or repeat them, instead of into each other"
            raise _TooLarge(Problem(what, node.mark, where, fix, "too-large"))
        result: list[Node] = []
        for entry in entries:
            try:
                result += self.op(entry, scope)
            except _TooLarge:
                raise
            except SpecError as error:
                self.problems.add(error.problems)
                result.append(_identity(entry.mark))
        self.depth -= 1
        if not entries:
            fix = "write an op; `identity` does nothing"
            self.problems.add([Problem("no ops here", node.mark, where, fix, "empty")])
            result.append(_identity(node.mark))
        return result

    def op(self, node: Node, scope: Scope) -> list[Node]:
        """What one op comes to: itself, or as many as its `repeat` says."""
        if (
            isinstance(node, Scalar)
            and isinstance(node.value, str)
            and not is_expression(node.value)
        ):
            node = Map({"op": node}, {"op": node.mark}, node.mark)
        if not isinstance(node, Map) or "op" not in node.entries:
            fix = "write `- relu` or `- {op: conv, out_channels: 64}`"
            keys = node.entries if isinstance(node, Map) else {}
            close = did_you_mean("op", keys)
            hint = close.replace("did you mean", "is `op` meant by") or fix
            raise _problem("an op is its name, or a mapping with `op`", node.mark, "model", hint)
        if any(key in node.entries for key in REPEAT_KEYS):
            return self.repeated(node, scope)
        self.count += 1
        if self.count > MAX_OPS:
            what = f"the model has more than {MAX_OPS:,} ops"
            fix = "repeat fewer times"
            raise _TooLarge(Problem(what, node.mark, "model", fix, "too-large"))
        name = self.name_of(node, scope)
        if name in self.blocks.entries:
            return [self.call(name, node, scope)]
        return [self.builtin(name, node, scope)]

    def name_of(self, node: Map, scope: Scope) -> str:
        given = substitute(node.entries["op"], scope)
        name = given.value if isinstance(given, Scalar) else None
        if not isinstance(name, str) or not (name in self.blocks.entries or kinds_of(name)):
            raise SpecError(unknown_op(given, "model", self.blocks.entries))
        return name

    def builtin(self, name: str, node: Map, scope: Scope) -> Map:
        entries: dict[str, Node] = {}
        classes = OPS[name]
        kinds = list(classes)
        if kinds != [""]:
            given = substitute(node.entries.get("kind", Scalar(kinds[0], node.mark)), scope)
            problem = unknown_kind(name, given, "kind")
            if problem is not None:
                self.problems.add([problem])
                node = _as_first_kind(node, list(classes.values()))
        op_class = next(iter(classes.values()))
        for key, value in node.entries.items():
            if key in op_class.bodies and not _is_word(value, op_class.bodies[key]):
                ops = _branches(value) if key in op_class.parallel else value
                entries[key] = List(tuple(self.body(ops, scope, key)), value.mark)
            elif key in _NAMES:
                entries[key] = _name(value, scope)
            else:
                entries[key] = substitute(value, scope)
        return Map(entries, node.key_marks, node.mark)

    def repeated(self, node: Map, scope: Scope) -> list[Node]:
        """The op once for each repetition; with an id, in a level in which they are numbered.

        An id that differs from one repetition to the next names each of them, without a level.
        """
        rounds = self.rounds(node, scope)
        index = _index_name(node)
        own = [key for key in _NAMES if _differs(node.get(key), index)]
        has_level = "id" in node.entries and "id" not in own
        common = node.without(*REPEAT_KEYS, *(key for key in _NAMES if key not in own))
        items: list[Node] = []
        for number, fields in enumerate(rounds):
            one = common
            if has_level:
                one = one.with_entry("id", Scalar(str(number), node.key_marks["id"]))
            elif number == 0 and "from" in node.entries:
                # What comes after the first repetition takes the output of the one before it.
                one = one.with_entry("from", node.entries["from"], node.key_marks["from"])
            one = _with_fields(one, fields)
            if number == 0:
                one = _with_fields(one, _overrides(node, "first"))
            if number == len(rounds) - 1:
                one = _with_fields(one, _overrides(node, "last"))
            inner = {**scope, index: Scalar(number, node.mark)} if index else scope
            items += self.body(one, inner, "repeat")
        return [self.sequence(node.without(*own), items, scope)] if has_level else items

    def rounds(self, node: Map, scope: Scope) -> list[Map]:
        """For each repetition the fields that are its own."""
        if "repeat" not in node.entries:
            key = next(key for key in REPEAT_KEYS if key in node.entries)
            what = f"`{key}` is for ops that have `repeat`"
            raise _problem(what, node.key_marks[key], key, "add `repeat: 2`, or leave it out")
        given = substitute(node.entries["repeat"], scope)
        if isinstance(given, List) and given.items:
            fields = [item for item in given.items if isinstance(item, Map)]
            if len(fields) < len(given.items):
                what = "an entry of a list under repeat is a mapping of fields"
                fix = "write repeat: [{stride: 2}, {}]"
                raise _problem(what, given.mark, "repeat", fix, "type")
            return fields
        times = given.value if isinstance(given, Scalar) else plain(given)
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            what = "repeat is a whole number of at least 1, or a list with the fields of each "
            what += f"repetition, not {times!r}"
            raise _problem(what, given.mark, "repeat", "write repeat: 2", "type")
        if times > MAX_OPS:
            what = f"repeat: {times:,} gives more ops than a model may have ({MAX_OPS:,})"
            raise _problem(what, given.mark, "repeat", "repeat fewer times", "too-large")
        return [Map({}, {}, given.mark)] * times

    def sequence(self, node: Map, items: list[Node], scope: Scope) -> Map:
        entries: dict[str, Node] = {"op": Scalar("sequence", node.mark)}
        for key in _NAMES:
            if key in node.entries:
                entries[key] = _name(node.entries[key], scope)
        entries["body"] = List(tuple(items), node.mark)
        marks = {key: node.key_marks.get(key, node.mark) for key in entries}
        return Map(entries, marks, node.mark)

    def call(self, name: str, node: Map, scope: Scope) -> Map:
        if name in self.stack:
            chain = " -> ".join((*self.stack, name))
            what = f"the block contains itself: {chain}"
            fix = "take this op out of the body; `repeat` puts a block several times"
            raise _problem(what, node.mark, name, fix, "block-cycle")
        block = Block(name, self.blocks.entries[name], self.blocks.key_marks[name])
        # A block sees the spec's variables and its own arguments, not those of its caller.
        inner = {**self.variables, **block.bind(node, scope, self.variables)}
        self.used.add(name)
        self.stack.append(name)
        try:
            items = self.body(block.body, inner, f"blocks.{name}.body")
        finally:
            self.stack.pop()
        return self.sequence(node, items, scope)

    def check_unused(self, name: str) -> None:
        """Finds mistakes in an unused block, as far as they do not depend on its arguments."""
        try:
            block = Block(name, self.blocks.entries[name], self.blocks.key_marks[name])
        except SpecError as error:
            self.problems.add(error.problems)
            return
        ops = _ops_within(block.body)
        known = {*self.variables, *block.arguments, *(node.text("index") for node in ops)}
        for node in ops:
            given = node.text("op") or ""
            if not is_expression(given):
                try:
                    self.name_of(node, {})
                except SpecError as error:
                    self.problems.add(error.problems)
            for missing in sorted(names_within(node) - known):
                what = f"unknown variable ${missing} in block '{name}'"
                fix = did_you_mean(missing, {*self.variables, *block.arguments})
                self.problems.add([Problem(what, node.mark, name, fix, "unknown-variable")])


def _differs(name: Node | None, index: str) -> bool:
    """Whether an id or `from` is another one in each repetition."""
    return name is not None and (index in names_within(name) or plain(name) == POSITION)


def _identity(mark: Mark) -> Map:
    return Map({"op": Scalar("identity", mark)}, {"op": mark}, mark)


def _as_first_kind(node: Map, kinds: Sequence[type[Op]]) -> Map:
    """Without an unknown kind and the fields of others, so that what is left can be checked."""
    of_others = {name for kind in kinds[1:] for name in field_names(kind)}
    return node.without("kind", *(of_others - {*field_names(kinds[0])}))


def _overrides(node: Map, which: str) -> Map:
    extra = node.get(which)
    if extra is None:
        return Map({}, {}, node.mark)
    if not isinstance(extra, Map):
        fix = f"write {which}: {{stride: 2}}"
        raise _problem(f"{which} is a mapping of fields", extra.mark, which, fix, "type")
    return extra


def _with_fields(node: Map, fields: Map) -> Map:
    for key, value in fields.entries.items():
        node = node.with_entry(key, value, fields.key_marks[key])
    return node


def _index_name(node: Map) -> str:
    """The variable that counts the repetitions; empty where there is none."""
    given = node.get("index")
    if given is None:
        return ""
    name = node.text("index")
    if name is None or not name.isidentifier():
        fix = "write `index: i`, and $i where the number should stand"
        raise _problem("index is the name of a variable", given.mark, "index", fix, "type")
    return name


def _branches(value: Node) -> Node:
    """Branches as ops: a list of ops is a sequence, a mapping of names holds named sequences."""
    if isinstance(value, Map) and "op" not in value.entries:
        named = value.entries.items()
        items = [_sequence_of(ops, Scalar(id, value.key_marks[id])) for id, ops in named]
        return List(tuple(items), value.mark)
    if not isinstance(value, List):
        return value
    return List(
        tuple(_sequence_of(i) if isinstance(i, List) else i for i in value.items), value.mark
    )


def _sequence_of(ops: Node, id: Scalar | None = None) -> Map:
    entries: dict[str, Node] = {"op": Scalar("sequence", ops.mark), "body": ops}
    if id is not None:
        entries["id"] = id
    return Map(entries, {key: node.mark for key, node in entries.items()}, ops.mark)


def _name(node: Node, scope: Scope) -> Node:
    """An id, or what `from` holds. Ids such as 0 are names, however they are written."""
    if isinstance(node, List):
        return List(tuple(_name(item, scope) for item in node.items), node.mark)
    if isinstance(node, Scalar) and type(node.value) is int:
        return Scalar(str(node.value), node.mark)
    return interpolate(node, scope) if isinstance(node, Scalar) and node.value else node


def _ops_within(node: Node) -> list[Map]:
    if isinstance(node, Scalar):
        named = isinstance(node.value, str) and not is_expression(node.value)
        return [Map({"op": node}, {"op": node.mark}, node.mark)] if named else []
    if isinstance(node, List):
        return [found for item in node.items for found in _ops_within(item)]
    inner: list[Map] = []
    for op_class in list(OPS.get(node.text("op") or "", {}).values())[:1]:
        for key, words in op_class.bodies.items():
            value = node.get(key)
            if value is not None and not _is_word(value, words):
                ops = _branches(value) if key in op_class.parallel else value
                inner += _ops_within(ops)
    return [node, *inner]


def _is_word(node: Node, words: tuple[str, ...]) -> bool:
    return isinstance(node, Scalar) and (node.value is None or node.value in words)


def _problem(what: str, mark: Mark, path: str, fix: str, code: str = "invalid") -> SpecError:
    return SpecError(Problem(what, mark, path, fix, code))
