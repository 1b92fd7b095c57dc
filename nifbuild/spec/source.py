"""YAML text to a tree of values that know their place.

Every value keeps the file, line and column where it was written, through merging, substitution and
patching, so that any later error can point at the line to edit. Scalars follow YAML 1.2: `1e-3` is
a number, `on` and `no` are strings. Duplicate keys, tags, merge keys, endless aliases, absurd
nesting and size, and characters that no editor shows are refused.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from nifbuild.errors import Mark, Problem, SpecError
from nifbuild.spec.file_text import FORBIDDEN, forbidden, read_text, require_printable

MAX_DEPTH = 64
"""Deepest nesting that a spec may have."""
MAX_NODES = 200_000
"""Most values that a spec may hold once aliases, blocks and repeats are written out."""
MAX_KEYS = 10_000
"""Most keys that one mapping may have."""
MAX_NUMBER = 40
"""Most characters of a number."""
MAX_TEXT = 10_000
"""Most characters that one value may have."""
MAX_KEY = 500
"""Most characters that a key may have, as many as a reference to an op."""
_TEXT_OF_A_NODE = 100
"""Characters that count as one value more, so that a few long texts cannot grow without bound."""

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
    via: tuple[Mark, ...] = field(default=(), compare=False, repr=False)
    origin: Variable | None = field(default=None, compare=False, repr=False)

    @property
    def num_nodes(self) -> int:
        """What it counts as: 1, and more for a long text."""
        return 1 + len(self.value) // _TEXT_OF_A_NODE if isinstance(self.value, str) else 1

    @property
    def depth(self) -> int:
        """Levels of collections within it: none."""
        return 0


@dataclass(frozen=True, slots=True)
class List:
    """A sequence of values."""

    items: tuple["Node", ...]
    mark: Mark
    num_nodes: int = field(init=False)
    depth: int = field(init=False)

    def __post_init__(self) -> None:
        _measure(self, self.items)


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping; `key_marks` tells where each key stands.

    Attributes:
        replaces: What an extended file has in its place, where the two were not merged; only what
            was merged knows it, and no copy of that.
    """

    entries: dict[str, "Node"]
    key_marks: dict[str, Mark]
    mark: Mark
    num_nodes: int = field(init=False)
    depth: int = field(init=False)
    replaces: "Map | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _measure(self, self.entries.values())

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


def _measure(collection: List | Map, inner: Collection[Node]) -> None:
    """Writes down how many values a new collection holds, and how deep."""
    size, depth = 1, 0
    for node in inner:
        size += node.num_nodes
        if not isinstance(node, Scalar) and node.depth > depth:
            depth = node.depth
    object.__setattr__(collection, "num_nodes", size)
    object.__setattr__(collection, "depth", depth + 1)


def require_bounded(node: Node, by: str) -> None:
    """Raises SpecError where a tree has grown beyond what a spec may hold.

    Args:
        node: The tree.
        by: What it has grown by, such as `variables`.
    """
    if node.num_nodes > MAX_NODES:
        what = f"{by} expand to more than {MAX_NODES:,} values"
        fix = "let fewer lists hold lists of other variables"
        raise SpecError(Problem(what, node.mark, fix=fix, code="too-large"))
    if node.depth > MAX_DEPTH:
        what = f"{by} nest values more than {MAX_DEPTH} levels deep"
        raise SpecError(Problem(what, node.mark, fix="use fewer levels", code="too-large"))


def load(path: Path, kind: str = "spec", keys: str = "`version: 1` and `model:`") -> Map:
    """Reads a YAML file.

    Args:
        path: The file.
        kind: What it is to be, for errors.
        keys: What such a file starts with, for errors.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or is not a mapping.
    """
    node = parse(read_text(path), str(path))
    if not isinstance(node, Map):
        found = "a list" if isinstance(node, List) else "empty" if node.value is None else "a value"
        problem = Problem(
            f"a {kind} is a mapping of keys to values; this file is {found}",
            node.mark,
            fix=f"start with {keys}",
            code="yaml",
        )
        raise SpecError(problem)
    return node


@lru_cache(maxsize=8)
def parse(text: str, file: str, flag: bool = False) -> Node:
    """Parses YAML text; `flag` gives every value the place `file`, which is a command-line flag.

    The last few trees are kept: a command looks at a file more than once.

    Raises:
        SpecError: With the place, if the text is not the YAML that specs may use.
    """
    require_printable(text, file, flag)
    try:
        return _Builder(file, flag).build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax_problem(error, text, file, flag)) from None


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
        """Values so far, those that aliases stand for included; keys are none."""

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
                name = str(event.anchor)[:MAX_KEY]
                raise self.problem(event, f"the alias *{name} {what}")
            self.count += target.num_nodes - 1
            self.refuse_excess(event, "aliases expand to")
            return target
        self.refuse_tag(event)
        if len(event.value) > MAX_TEXT:
            what = f"a text of {len(event.value):,} characters; a value has at most {MAX_TEXT:,}"
            raise self.problem(event, what, "is a quote missing?", "too-large")
        if found := FORBIDDEN.search(event.value):  # written as an escape
            raise self.problem(event, forbidden(found[0]), "leave it out")
        value = resolve_scalar(event.value) if event.implicit[0] else event.value
        return Scalar(value, self.mark(event))

    def refuse_excess(self, event: Any, how: str = "this file has") -> None:
        if self.count > MAX_NODES:
            raise self.problem(event, f"{how} more than {MAX_NODES:,} values", code="too-large")

    def place(self, parent: "_Open", node: Node, event: Any) -> None:
        if not parent.is_map or parent.key is not None:
            self.count += node.num_nodes if isinstance(node, Scalar) else 1
            self.refuse_excess(event)
        if not parent.is_map:
            parent.items.append(node)
        elif parent.key is None:
            if not isinstance(node, Scalar) or isinstance(event, yaml.AliasEvent):
                raise self.problem(event, "a key must be a single word or number")
            # The key as it is written: `0:` names a module "0".
            key = str(event.value)
            if len(key) > MAX_KEY:
                what = f"a key of {len(key):,} characters; it has at most {MAX_KEY}"
                raise self.problem(event, what, "is a colon or a quote missing?", "too-large")
            if key == "<<":
                fix = "use `extends`, `defaults` or a block with arguments"
                raise self.problem(event, "merge keys (<<) are not supported", fix)
            if key in parent.entries:
                first = parent.key_marks[key].line
                raise self.problem(
                    event, f"the key '{key}' is given twice", f"it stands first at line {first}",
                    code="duplicate-key",
                )  # fmt: skip
            if len(parent.key_marks) >= MAX_KEYS:
                what = f"a mapping of more than {MAX_KEYS:,} keys"
                raise self.problem(event, what, code="too-large")
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
            tag = str(event.tag)[:MAX_KEY]
            raise self.problem(event, f"the tag {tag} is not allowed", fix)


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
    if len(text) <= MAX_NUMBER:
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


def files_of(node: Node) -> set[str]:
    """The files that the values of a tree were written in."""
    own = {node.mark.file} if node.mark.line else set()
    if isinstance(node, Scalar):
        return own
    return own.union(
        *map(files_of, node.items if isinstance(node, List) else node.entries.values())
    )


def path_key(word: str) -> str | int:
    """One word of a path as people write it: a position in a list, or else a key."""
    # No list is as long as a number of more digits says, and int() refuses thousands of them.
    return int(word) if word.isdecimal() and len(word) < 10 else word


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
