"""YAML text to a tree of values that know their place.

Every value keeps the file, line and column where it was written, through merging, substitution and
patching, so that any later error can point at the line to edit. Scalars follow YAML 1.2: `1e-3` is
a number, `on` and `no` are strings. Duplicate keys, tags, merge keys, endless aliases and absurd
nesting are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nifbuild.errors import Mark, Problem, SpecError, did_you_mean

MAX_DEPTH = 64
"""Deepest nesting that a spec may have."""
MAX_NODES = 200_000
"""Most values that a spec may hold once aliases, blocks and repeats are written out."""
MAX_BYTES = 4 * 2**20
"""Largest file that is read as a spec."""

ScalarValue = None | bool | int | float | str

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Variable:
    """Where a value comes from: the name of a variable, and where that was given its value."""

    name: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, or what the expression at `mark` comes to.

    Attributes:
        via: Where the values that went into the expression were written, for people who ask.
        origin: The one variable to edit where the value is wrong, if there is one.
    """

    value: ScalarValue
    mark: Mark
    num_nodes: int = 1
    via: tuple[Mark, ...] = field(default=(), compare=False, repr=False)
    origin: Variable | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class List:
    """A sequence of values."""

    items: tuple["Node", ...]
    mark: Mark
    num_nodes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_nodes", 1 + sum(item.num_nodes for item in self.items))


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping; `key_marks` tells where each key stands."""

    entries: dict[str, "Node"]
    key_marks: dict[str, Mark]
    mark: Mark
    num_nodes: int = field(init=False)

    def __post_init__(self) -> None:
        size = 1 + sum(node.num_nodes for node in self.entries.values())
        object.__setattr__(self, "num_nodes", size)

    def get(self, key: str) -> "Node | None":
        """The value of `key`, or None."""
        return self.entries.get(key)

    def text(self, key: str) -> str | None:
        """The value of `key` where it is a string."""
        node = self.entries.get(key)
        return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None

    def with_entry(self, key: str, node: "Node", mark: Mark | None = None) -> "Map":
        """A copy in which `key` has the value `node`; a new key is placed last."""
        marks = {**self.key_marks, key: mark or self.key_marks.get(key, node.mark)}
        return Map({**self.entries, key: node}, marks, self.mark)

    def without(self, *keys: str) -> "Map":
        """A copy that lacks `keys`."""
        entries = {key: node for key, node in self.entries.items() if key not in keys}
        return Map(entries, {key: self.key_marks[key] for key in entries}, self.mark)


Node = Scalar | List | Map
TreePath = tuple[str | int, ...]


def load(path: Path) -> Map:
    """Reads a YAML file.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(_missing_file(path)) from None
    except OSError as error:
        what = f"cannot read the file: {error.strerror}"
        raise SpecError(Problem(what, Mark(str(path)), code="unreadable-file")) from None
    if len(content) > MAX_BYTES:
        what = f"the file has {len(content):,} bytes; a spec has at most {MAX_BYTES:,}"
        raise SpecError(Problem(what, Mark(str(path)), code="too-large"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text (byte {error.start})"
        raise SpecError(Problem(what, Mark(str(path)), code="yaml")) from None
    node = parse(text, str(path))
    if not isinstance(node, Map):
        found = "a list" if isinstance(node, List) else "empty" if node.value is None else "a value"
        problem = Problem(
            f"a spec is a mapping of keys to values; this file is {found}",
            node.mark,
            fix="start with `version: 1` and `model:`",
            code="yaml",
        )
        raise SpecError(problem)
    return node


def _missing_file(path: Path) -> Problem:
    folder = path.parent
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    what = "no such file" if folder.is_dir() else f"no such file: there is no folder {folder}"
    return Problem(what, Mark(str(path)), fix=did_you_mean(path.name, names), code="missing-file")


def parse(text: str, file: str, flag: bool = False) -> Node:
    """Parses YAML text; `flag` gives every value the place `file`, which is a command-line flag.

    Raises:
        SpecError: With the place, if the text is not the YAML that specs may use.
    """
    try:
        return _Builder(file, flag).build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax_problem(error, text, file, flag)) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow has no mark
        what = " ".join(str(error).split())
        raise SpecError(Problem(what, Mark(file), code="yaml")) from None


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str, flag: bool) -> Problem:
    at = error.problem_mark or error.context_mark
    mark = Mark(file) if flag or at is None else Mark(file, at.line + 1, at.column + 1)
    lines = text.splitlines()
    line = lines[at.line] if at is not None and at.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in (error.problem or ""):
        return Problem("a tab indents this line", mark, fix="indent with spaces", code="yaml-tab")
    if "nesting depth" in (error.problem or ""):  # the parser's own limit, which it may meet first
        what = f"nested more than {MAX_DEPTH} levels deep"
        return Problem(what, mark, fix="is a bracket missing?", code="yaml")
    what = f"not valid YAML: {error.problem or error.context}"
    context = error.context_mark
    fix = ""
    if error.context and context is not None and not flag and context is not at:
        fix = f"{error.context} that starts at line {context.line + 1}"
    if "mapping values are not allowed" in what:
        fix = "is a quote missing, or is the indentation of this line off?"
    if re.search(r"\$\w+\[", line):
        fix = "within {...} quote an entry of a list: '$widths[0]'"
    return Problem(what, mark, fix=fix, code="yaml")


class _Builder:
    """Builds the tree from parser events; its own stack keeps nesting from exhausting Python's."""

    def __init__(self, file: str, flag: bool) -> None:
        self.file = file
        self.flag = flag
        self.anchors: dict[str, Node | None] = {}
        self.count = 0

    def build(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        stack: list[_Open] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self.problem(
                    event, "a spec file holds one document; a second `---` starts here"
                )
            if not isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
                continue
            if isinstance(event, yaml.CollectionStartEvent):
                self.refuse_tag(event)
                if len(stack) >= MAX_DEPTH:
                    raise self.problem(event, f"nested more than {MAX_DEPTH} levels deep")
                is_map = isinstance(event, yaml.MappingStartEvent)
                stack.append(_Open(is_map, self.mark(event), event.anchor))
                if event.anchor:
                    self.anchors[event.anchor] = None
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                opened = stack.pop()
                node, anchor = opened.close(), opened.anchor
            else:
                node, anchor = self.leaf(event), getattr(event, "anchor", None)
            if anchor and not isinstance(event, yaml.AliasEvent):
                self.anchors[anchor] = node
            if stack:
                self.place(stack[-1], node, event)
            else:
                root = node
        return root if root is not None else Scalar(None, Mark(self.file, 0 if self.flag else 1, 1))

    def leaf(self, event: Any) -> Node:
        if isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(str(event.anchor))
            if target is None:
                known = event.anchor in self.anchors
                what = "contains itself" if known else "is not defined above"
                raise self.problem(event, f"the alias *{event.anchor} {what}")
            self.count += target.num_nodes
            if self.count > MAX_NODES:
                raise self.problem(event, f"aliases expand to more than {MAX_NODES:,} values")
            return target
        self.refuse_tag(event)
        self.count += 1
        value = resolve_scalar(event.value) if event.implicit[0] else event.value
        return Scalar(value, self.mark(event))

    def place(self, parent: "_Open", node: Node, event: Any) -> None:
        if not parent.is_map:
            parent.items.append(node)
        elif parent.key is None:
            if not isinstance(node, Scalar) or isinstance(event, yaml.AliasEvent):
                raise self.problem(event, "a key must be a single word or number")
            # The key as it is written: `0:` names a module "0".
            key = str(event.value)
            if key == "<<":
                fix = "use `extends`, `defaults` or a block with arguments"
                raise self.problem(event, "merge keys (<<) are not supported", fix)
            if key in parent.entries:
                first = parent.key_marks[key].line
                raise self.problem(
                    event, f"the key '{key}' is given twice", f"it stands first at line {first}",
                    code="duplicate-key",
                )  # fmt: skip
            parent.key = key
            parent.key_marks[key] = node.mark
        else:
            parent.entries[parent.key] = node
            parent.key = None

    def mark(self, event: Any) -> Mark:
        if self.flag:
            return Mark(self.file)
        return Mark(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def problem(self, event: Any, what: str, fix: str = "", code: str = "yaml") -> SpecError:
        return SpecError(Problem(what, self.mark(event), fix=fix, code=code))

    def refuse_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            fix = "a spec is plain data: leave the tag out"
            raise self.problem(event, f"the tag {event.tag} is not allowed", fix)


@dataclass
class _Open:
    """A collection whose end has not been reached."""

    is_map: bool
    mark: Mark
    anchor: str | None
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    key_marks: dict[str, Mark] = field(default_factory=dict)
    key: str | None = None

    def close(self) -> Node:
        if self.is_map:
            return Map(self.entries, self.key_marks, self.mark)
        return List(tuple(self.items), self.mark)


_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, ScalarValue] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf"], float("inf")),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
}


def resolve_scalar(text: str) -> ScalarValue:
    """The value of an unquoted scalar under YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    # Longer digit strings are not numbers that a spec means, and int() is quadratic in them.
    if len(text) <= 40:
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def plain(node: Node) -> Any:
    """The tree as Python dicts, lists and values, without places."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, List):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.entries.items()}


def at(node: Node, path: TreePath) -> Node | None:
    """The value at `path`, or None."""
    found: Node | None = node
    for key in path:
        if isinstance(found, Map) and isinstance(key, str):
            found = found.entries.get(key)
        elif isinstance(found, List) and isinstance(key, int) and 0 <= key < len(found.items):
            found = found.items[key]
        else:
            return None
    return found


def replace_at(node: Node, path: TreePath, new: Node) -> Node:
    """A copy of the tree in which the value at `path` is `new`; missing keys are added.

    Raises:
        LookupError: If `path` leads through a scalar or past the end of a list.
    """
    if not path:
        return new
    key, rest = path[0], path[1:]
    if isinstance(node, Map) and isinstance(key, str):
        child = node.entries.get(key)
        if child is None:
            child = Map({}, {}, new.mark)
        mark = None if rest else new.mark  # a key is written where its value is
        return node.with_entry(key, replace_at(child, rest, new), mark)
    if isinstance(node, List) and isinstance(key, int) and 0 <= key < len(node.items):
        items = list(node.items)
        items[key] = replace_at(items[key], rest, new)
        return List(tuple(items), node.mark)
    raise LookupError(key)
