"""The model section written out: blocks, repeats, shorthands and variables.

What remains are the ops of `nifbuild.spec.ops` with plain values, each still at the place where it
was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nifbuild.errors import Mark, Problem, SpecError, did_you_mean, suggestion
from nifbuild.spec.expressions import is_expression, names_within, substitute
from nifbuild.spec.ops import OPS, Op
from nifbuild.spec.source import MAX_DEPTH, MAX_NODES, List, Map, Node, Scalar, Variable

Scope = Mapping[str, Node]

_REPEAT_KEYS = ("repeat", "first", "last")
_CALL_KEYS = ("op", "id", *_REPEAT_KEYS)
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "any": (),
}


def variables(tree: Map) -> dict[str, Node]:
    """The values of `vars`, expressions among them evaluated in the order of their need.

    Raises:
        SpecError: If `vars` is no mapping of names, or variables refer to each other in a circle.
    """
    node = tree.get("vars")
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Map):
        raise _problem("vars is a mapping of names to values", node.mark, "vars")
    waiting = dict(node.entries)
    for name in waiting:
        if not name.isidentifier():
            fix = "use letters, digits and underscores"
            raise _problem(f"'{name}' is not a variable name", node.key_marks[name], "vars", fix)
    done: dict[str, Node] = {}
    while waiting:
        ready = [n for n, value in waiting.items() if not names_within(value) & waiting.keys()]
        if not ready:
            circle = ", ".join(sorted(waiting))
            mark = node.key_marks[next(iter(waiting))]
            raise _problem(f"variables refer to each other in a circle: {circle}", mark, "vars")
        for name in ready:
            value = substitute(waiting.pop(name), done)
            if isinstance(value, Scalar) and value.origin is None:
                value = replace(value, origin=Variable(name, value.mark))
            done[name] = value
    return done


def expand_model(model: Node, blocks: Map, scope: Scope) -> tuple[List, list[Problem]]:
    """The model with blocks, repeats and variables written out.

    Returns:
        The ops, and all problems of the model's ops and of the blocks it uses. In the place of an
        op that cannot be written out stands `identity`, so that the others are checked as well.
    """
    expander = _Expander(blocks, scope)
    items = expander.body(model, scope, "model")
    if not expander.problems:
        for name in blocks.entries:
            if name not in expander.used:
                expander.check_unused(name)
    return List(tuple(items), model.mark), list(dict.fromkeys(expander.problems))


class _Expander:
    def __init__(self, blocks: Map, variables: Scope) -> None:
        self.blocks = blocks
        self.variables = variables
        self.problems: list[Problem] = []
        self.used: set[str] = set()
        self.stack: list[str] = []
        self.count = 0

    def body(self, node: Node, scope: Scope, where: str) -> list[Node]:
        """The ops of a body; a single op may stand without brackets."""
        entries = node.items if isinstance(node, List) else (node,)
        result: list[Node] = []
        for entry in entries:
            try:
                result.append(self.op(entry, scope))
            except SpecError as error:
                self.problems += error.problems
                result.append(_identity(entry.mark))
        if not entries:
            self.problems.append(Problem("no ops here", node.mark, where, code="empty"))
        return result

    def op(self, node: Node, scope: Scope) -> Node:
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
        if any(key in node.entries for key in _REPEAT_KEYS):
            return self.repeated(node, scope)
        self.count += 1
        if self.count > MAX_NODES // 4:
            raise _problem(f"the model has more than {MAX_NODES // 4:,} ops", node.mark, "model")
        name = self.name_of(node, scope)
        if name in self.blocks.entries:
            return self.call(name, node, scope)
        return self.builtin(name, node, scope)

    def name_of(self, node: Map, scope: Scope) -> str:
        given = substitute(node.entries["op"], scope)
        name = given.value if isinstance(given, Scalar) else None
        if not isinstance(name, str) or (name not in OPS and name not in self.blocks.entries):
            names = [*OPS, *self.blocks.entries]
            blocks = ", ".join(self.blocks.entries) or "none"
            listed = f"ops: {', '.join(OPS)}\nblocks of this spec: {blocks}"
            fix = suggestion(str(name), names, listed)
            raise _problem(f"unknown op '{name}'", given.mark, "model", fix, "unknown-op")
        return name

    def builtin(self, name: str, node: Map, scope: Scope) -> Map:
        entries: dict[str, Node] = {}
        classes = OPS[name]
        kinds = list(classes)
        if kinds != [""]:
            given = substitute(node.entries.get("kind", Scalar(kinds[0], node.mark)), scope)
            if not isinstance(given, Scalar) or given.value not in kinds:
                word = given.value if isinstance(given, Scalar) else "a collection"
                fix = suggestion(str(word), kinds, f"kinds: {', '.join(kinds)}")
                what = f"unknown kind '{word}'"
                self.problems.append(Problem(what, given.mark, "kind", fix, "unknown-kind"))
                node = _as_first_kind(node, list(classes.values()))
        bodies = next(iter(classes.values())).bodies
        for key, value in node.entries.items():
            if key in bodies and not _is_word(value, bodies[key]):
                entries[key] = List(tuple(self.body(value, scope, key)), value.mark)
            else:
                entries[key] = substitute(value, scope)
        return _with_text_id(Map(entries, node.key_marks, node.mark))

    def repeated(self, node: Map, scope: Scope) -> Map:
        count = substitute(node.entries.get("repeat", Scalar(None, node.mark)), scope)
        times = count.value if isinstance(count, Scalar) else None
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            what = f"repeat is a whole number of at least 1, not {times!r}"
            raise _problem(what, count.mark, "repeat", code="type")
        if times > MAX_NODES // 4:
            what = f"repeat: {times:,} gives more ops than a model may have ({MAX_NODES // 4:,})"
            raise _problem(what, count.mark, "repeat", code="too-large")
        plain = node.without("id", *_REPEAT_KEYS)
        items: list[Node] = []
        for index in range(times):
            one = plain
            if index == 0:
                one = _overridden(one, node, "first")
            if index == times - 1:
                one = _overridden(one, node, "last")
            if "id" in node.entries:
                mark = node.key_marks["id"]
                one = one.with_entry("id", Scalar(str(index), mark), mark)
            items += self.body(one, scope, "repeat")
        return self.sequence(node, items, scope)

    def sequence(self, node: Map, items: list[Node], scope: Scope) -> Map:
        entries: dict[str, Node] = {"op": Scalar("sequence", node.mark)}
        if "id" in node.entries:
            entries["id"] = substitute(node.entries["id"], scope)
        entries["body"] = List(tuple(items), node.mark)
        marks = {key: node.key_marks.get(key, node.mark) for key in entries}
        return _with_text_id(Map(entries, marks, node.mark))

    def call(self, name: str, node: Map, scope: Scope) -> Map:
        if name in self.stack or len(self.stack) >= MAX_DEPTH:
            chain = " -> ".join((*self.stack, name))
            raise _problem(
                f"the block contains itself: {chain}", node.mark, name, code="block-cycle"
            )
        block = _Block(name, self.blocks.entries[name], self.blocks.key_marks[name])
        # A block sees the spec's variables and its own arguments, not those of its caller.
        inner = {**self.variables, **block.bind(node, scope)}
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
            block = _Block(name, self.blocks.entries[name], self.blocks.key_marks[name])
        except SpecError as error:
            self.problems += error.problems
            return
        known = {*self.variables, *block.arguments}
        for node in _ops_within(block.body):
            given = node.text("op") or ""
            if not is_expression(given):
                try:
                    self.name_of(node, {})
                except SpecError as error:
                    self.problems += error.problems
            for missing in sorted(names_within(node) - known):
                what = f"unknown variable ${missing} in block '{name}'"
                fix = did_you_mean(missing, known)
                self.problems.append(Problem(what, node.mark, name, fix, "unknown-variable"))


class _Block:
    """A block's declaration."""

    def __init__(self, name: str, node: Node, mark: Mark) -> None:
        self.name = name
        if name in OPS:
            raise _problem(f"'{name}' is an op already", mark, f"blocks.{name}", "rename the block")
        if not isinstance(node, Map):
            raise _problem("a block is a mapping with `body`", mark, f"blocks.{name}")
        for key in node.entries:
            if key not in ("args", "body"):
                fix = did_you_mean(key, ["args", "body"]) or "a block has `args` and `body`"
                place = node.key_marks[key]
                raise _problem(
                    f"unknown field '{key}'", place, f"blocks.{name}", fix, "unknown-field"
                )
        body = node.get("body")
        if body is None:
            raise _problem("missing field `body`", mark, f"blocks.{name}", code="missing-field")
        self.body = body
        arguments = node.get("args")
        if arguments is not None and not isinstance(arguments, Map):
            fix = "write args: {out_channels: int, stride: 1}"
            raise _problem("args is a mapping", arguments.mark, f"blocks.{name}.args", fix)
        self.arguments = dict(arguments.entries) if isinstance(arguments, Map) else {}

    def bind(self, call: Map, scope: Scope) -> dict[str, Node]:
        """The arguments of one call: a type name declares a required one, a value a default."""
        problems = []
        given = {k: substitute(v, scope) for k, v in call.entries.items() if k not in _CALL_KEYS}
        listed = f"arguments of {self.name}: {', '.join(self.arguments) or 'none'}"
        for key in given:
            if key not in self.arguments:
                fix = suggestion(key, self.arguments, listed)
                what = f"block '{self.name}' has no argument '{key}'"
                problems.append(Problem(what, call.key_marks[key], key, fix, "unknown-field"))
        bound: dict[str, Node] = {}
        for key, declared in self.arguments.items():
            word = declared.value if isinstance(declared, Scalar) else None
            required = isinstance(word, str) and word in _TYPES
            if key not in given:
                if required:
                    what = f"block '{self.name}' needs the argument '{key}' ({word})"
                    problems.append(Problem(what, call.mark, key, listed, "missing-field"))
                else:
                    bound[key] = substitute(declared, {**scope, **bound})
                continue
            bound[key] = given[key]
            kind = str(word) if required else _kind_of(word) if word is not None else "any"
            if not _fits(given[key], kind):
                value = given[key]
                got = repr(value.value) if isinstance(value, Scalar) else "a collection"
                what = f"the argument '{key}' of block '{self.name}' is {kind}, not {got}"
                problems.append(Problem(what, value.mark, key, code="type"))
        if problems:
            raise SpecError(problems)
        return bound


def _kind_of(value: object) -> str:
    """The type that a default implies; an expression implies none."""
    if is_expression(value):
        return "any"
    return next((k for k, types in _TYPES.items() if type(value) in types), "any")


def _fits(node: Node, kind: str) -> bool:
    types = _TYPES[kind]
    return not types or (isinstance(node, Scalar) and type(node.value) in types)


def _identity(mark: Mark) -> Map:
    return Map({"op": Scalar("identity", mark)}, {"op": mark}, mark)


def _as_first_kind(node: Map, kinds: Sequence[type[Op]]) -> Map:
    """Without an unknown kind and the fields of others, so that what is left can be checked."""
    of_others = {name for kind in kinds[1:] for name in kind.model_fields}
    return node.without("kind", *(of_others - kinds[0].model_fields.keys()))


def _overridden(node: Map, call: Map, which: str) -> Map:
    extra = call.get(which)
    if extra is None:
        return node
    if not isinstance(extra, Map):
        raise _problem(f"{which} is a mapping of fields", extra.mark, which, code="type")
    for key, value in extra.entries.items():
        node = node.with_entry(key, value, extra.key_marks[key])
    return node


def _with_text_id(node: Map) -> Map:
    """Ids such as 0 are names, however they are written."""
    given = node.get("id")
    if isinstance(given, Scalar) and type(given.value) is int:
        return node.with_entry("id", Scalar(str(given.value), given.mark))
    return node


def _ops_within(node: Node) -> list[Map]:
    if isinstance(node, Scalar):
        named = isinstance(node.value, str) and not is_expression(node.value)
        return [Map({"op": node}, {"op": node.mark}, node.mark)] if named else []
    if isinstance(node, List):
        return [found for item in node.items for found in _ops_within(item)]
    kinds = OPS.get(node.text("op") or "")
    bodies = next(iter(kinds.values())).bodies if kinds else {}
    inner = [
        found
        for key, words in bodies.items()
        if key in node.entries and not _is_word(node.entries[key], words)
        for found in _ops_within(node.entries[key])
    ]
    return [node, *inner]


def _is_word(node: Node, words: tuple[str, ...]) -> bool:
    return isinstance(node, Scalar) and (node.value is None or node.value in words)


def _problem(
    what: str, mark: Mark, path: str = "", fix: str = "", code: str = "invalid"
) -> SpecError:
    return SpecError(Problem(what, mark, path, fix, code))
