"""One tree from several files and flags: `extends`, `--data`, `--set`.

How two mappings merge: mappings merge key by key, anything else is replaced. Three exceptions keep
the result what people mean: `patch` lists are appended to; a block is replaced whole; and `data`
with another `source`, or an `optimizer` or `schedule` with another `name`, replaces the old one
instead of inheriting its fields.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nifbuild.errors import Mark, Problem, SpecError, closest_beside, listing, suggestion
from nifbuild.spec.file_text import require_printable
from nifbuild.spec.shipped import shipped_as, shipped_name, spec_path
from nifbuild.spec.source import (
    MAX_DEPTH,
    List,
    Map,
    Node,
    Scalar,
    TreePath,
    at,
    load,
    parse,
    path_key,
    replace_at,
    require_bounded,
)

MAX_FILES = 64
"""Most files that a spec may extend, directly or not; one that is named again counts again."""
_SHOWN = 100
"""Characters of a flag that errors show."""

_IDENTITY = {"data": "source", "optimizer": "name", "schedule": "name"}
"""Mappings that are replaced, not merged, when this field of theirs differs."""


def compose(path: Path, data: Path | None = None, overrides: Sequence[str] = ()) -> Map:
    """Reads a spec with all that it extends, then applies the flags.

    Args:
        path: The spec file.
        data: A file whose `data` section takes the place of the spec's.
        overrides: `a.b.c=value` texts, applied in order.

    Raises:
        SpecError: If a file is missing or malformed, files extend each other in a circle, or an
            override is malformed.
    """
    tree = _Files().read(path)
    if data is not None:
        tree = tree.with_entry("data", *data_section(data))
    for override in overrides:
        tree = _with_override(tree, override)
    require_bounded(tree, "files and flags")
    return tree


class _Files:
    """Reads a file with all that it extends."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, path: Path, chain: tuple[Path, ...] = (), named: Mark | None = None) -> Map:
        """The file merged over those that it extends.

        Args:
            path: The file.
            chain: Those that led to it, each named by the one before.
            named: Where the last of them names it.
        """
        own = load(path)
        resolved = path.resolve()  # once it is known that there is such a file
        if resolved in chain:
            circle = " -> ".join(file.name for file in (*chain, resolved))
            what = f"the files extend each other in a circle: {circle}"
            raise SpecError(Problem(what, named, "extends", code="extends-cycle"))
        chain = (*chain, resolved)
        base: Map | None = None
        for entry in _extends(own):
            loaded = self._extended(entry, chain)
            base = loaded if base is None else merge(base, loaded)
        own = own.without("extends")
        return own if base is None else merge(base, own)

    def _extended(self, entry: Scalar, chain: tuple[Path, ...]) -> Map:
        self.count += 1
        if self.count > MAX_FILES:
            what = f"a spec extends at most {MAX_FILES} files, those that they extend included"
            fix = "join some of them; a file that is named again counts again"
            raise SpecError(Problem(what, entry.mark, "extends", fix, "too-large"))
        try:
            target = spec_path(str(entry.value), Path(entry.mark.file).parent)
        except SpecError as error:
            raise SpecError(
                replace(p, where=entry.mark, path="extends") for p in error.problems
            ) from None
        try:
            return self.read(target, chain, entry.mark)
        except SpecError as error:
            raise SpecError([_named_by(p, entry, target) for p in error.problems]) from None


def _extends(tree: Map) -> list[Scalar]:
    node = tree.get("extends")
    entries = list(node.items) if isinstance(node, List) else [] if node is None else [node]
    for entry in entries:
        if not isinstance(entry, Scalar) or not isinstance(entry.value, str):
            fix = "write `extends: other.yaml` or a list of files"
            raise SpecError(Problem("not a file name", entry.mark, "extends", fix, "type"))
    return [entry for entry in entries if isinstance(entry, Scalar)]


def _named_by(problem: Problem, entry: Scalar, target: Path) -> Problem:
    """A base file that cannot be read is mended where it is named."""
    if problem.where != Mark(str(target)):
        return problem
    what, fix = f"{problem.what}: {target}", problem.fix
    if problem.code == "missing-file":
        shipped = shipped_as(str(entry.value))
        lines = [f"one of this name comes with nifbuild: extends: {shipped}"] if shipped else []
        # A copy has a name like the original's, and would extend itself.
        near = closest_beside(target, whole=False, never=Path(entry.mark.file))
        fix = "\n".join([*lines, *filter(None, [near])])
    return Problem(what, entry.mark, "extends", fix, problem.code)


def shipped_bases(path: Path) -> list[str]:
    """What a file that comes with nifbuild extends, by names that hold anywhere; else nothing."""
    if shipped_name(path) is None:
        return []
    targets = (spec_path(str(entry.value), path.parent) for entry in _extends(load(path)))
    return [name for name in map(shipped_name, targets) if name is not None]


def merge(base: Map, child: Map, path: TreePath = ()) -> Map:
    """`child` over `base`, by the rules of this module's docstring."""
    entries, marks = dict(base.entries), dict(base.key_marks)
    for key, node in child.entries.items():
        old = entries.get(key)
        entries[key] = _merged(old, node, (*path, key)) if old is not None else node
        marks[key] = child.key_marks[key]
    return Map(entries, marks, child.mark)


def _merged(old: Node, new: Node, path: TreePath) -> Node:
    if path == ("patch",) and isinstance(old, List) and isinstance(new, List):
        return List(old.items + new.items, new.mark)
    if not (isinstance(old, Map) and isinstance(new, Map)):
        return new
    is_block = len(path) == 2 and path[0] == "blocks"
    identity = _IDENTITY.get(str(path[-1]))
    changes = identity is not None and new.text(identity) not in (None, old.text(identity))
    if is_block:
        return replace(new, replaces=old)
    return new if changes else merge(old, new, path)


def data_section(path: Path) -> tuple[Node, Mark]:
    """The `data` section of what `--data` names, and the place of its key.

    That is a file with nothing else; or a folder, whose images are meant.

    Raises:
        SpecError: If the file is missing or malformed, has none, or has other sections too.
    """
    if path.is_dir():
        mark = Mark(f"--data {path}")
        images: dict[str, Node] = {
            "source": Scalar("imagefolder", mark),
            "path": Scalar(str(path), mark),
        }
        return Map(images, dict.fromkeys(images, mark), mark), mark
    file = _Files().read(path)
    node = file.get("data")
    if node is None:
        fix = "such a file starts with `data:`, as specs/data/cifar10.yaml does"
        raise SpecError(Problem("no `data` section", Mark(str(path)), "data", fix, "missing-field"))
    for key in file.entries:
        if key not in ("data", "version"):
            raise SpecError(
                Problem(
                    f"'{key}' has no place in a data file",
                    file.key_marks[key],
                    fix="--data takes only the `data` section; to combine specs use `extends`",
                    code="unknown-field",
                )
            )
    return node, file.key_marks["data"]


def _with_override(tree: Map, override: str) -> Map:
    shown = override if len(override) <= _SHOWN else f"{override[:_SHOWN]} ..."
    mark = Mark(f"--set {shown}")
    require_printable(override, mark.file, flag=True)
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        fix = "write --set train.epochs=3"
        raise SpecError(Problem("not of the form a.b.c=value", mark, fix=fix, code="override"))
    return with_value(tree, name.strip(), parse(text, mark.file, flag=True), mark)


def with_value(tree: Map, name: str, value: Node, mark: Mark) -> Map:
    """The tree with another value at a path such as `train.epochs` or `model.0.stride`.

    Args:
        tree: The spec.
        name: The path: keys, and positions in lists, joined by dots.
        value: What is to stand there.
        mark: Where that was said.

    Raises:
        SpecError: If there is no such place.
    """
    words = name.split(".")
    if len(words) > MAX_DEPTH:
        what = f"a path of {len(words):,} names; a spec has at most {MAX_DEPTH} levels"
        raise SpecError(Problem(what, mark, code="override"))
    keys = [path_key(word) for word in words]
    if keys[0] in ("extends", "patch"):
        by = "a flag" if mark.line == 0 else "a path"
        fix = "write it in a file" if mark.line == 0 else "write a fragment: {patch: [...]}"
        raise SpecError(Problem(f"{keys[0]} cannot be set by {by}", mark, fix=fix, code="override"))
    if keys[0] == "vars" and len(keys) == 2:
        _check_variable(tree, str(keys[1]), mark)
    # Numbers are positions in a list, and names in a mapping.
    for depth, key in enumerate(keys):
        if isinstance(key, int) and isinstance(at(tree, tuple(keys[:depth])), Map):
            keys[depth] = str(key)
    try:
        changed = replace_at(tree, tuple(keys), value)
    except LookupError as error:
        what = f"'{error.args[0]}' is not there to be set"
        raise SpecError(Problem(what, mark, name, code="override")) from None
    assert isinstance(changed, Map)  # the path is not empty, so the root stays a mapping
    return changed.with_entry(str(keys[0]), changed.entries[str(keys[0])], mark)


def _check_variable(tree: Map, name: str, mark: Mark) -> None:
    known = tree.get("vars")
    names = list(known.entries) if isinstance(known, Map) else []
    if name not in names:
        listed = f"variables of this spec: {listing(names)}"
        fix = suggestion(name, names, listed)
        problem = Problem(f"no variable '{name}'", mark, f"vars.{name}", fix, "unknown-variable")
        raise SpecError(problem)
