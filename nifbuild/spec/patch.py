"""Patches: changes of the ops that a selector finds; the primitive of an ablation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nifbuild.errors import Mark, Problem, SpecError, did_you_mean
from nifbuild.spec.base import field_names
from nifbuild.spec.compose import shipped_bases
from nifbuild.spec.defaults import op_class_of, unknown_kind, unknown_op
from nifbuild.spec.document import Patch
from nifbuild.spec.graph import Graph, Node
from nifbuild.spec.ops import OPS, all_op_classes, kinds_of
from nifbuild.spec.select import agrees, path_pattern
from nifbuild.spec.source import List, Map, Scalar, TreePath, at, plain, replace_at
from nifbuild.spec.source import Node as TreeNode


def apply_patch(
    tree: Map, graph: Graph, patch: Patch, place: TreeNode, levels: Sequence[str] = ()
) -> tuple[Map, list[Problem]]:
    """The tree with one patch applied to the ops that it selects.

    Args:
        tree: The spec's tree, written out.
        graph: The nodes of that tree; selectors see their inferred fields.
        patch: What to select and set.
        place: The patch's own tree, for the places in errors and of the new values.
        levels: Paths of ops that stand for others, which it might have meant.

    Returns:
        The tree, and a problem if another number of ops is found than the patch expects. Those
        found are changed all the same, so that later patches are not wrong for that alone.

    Raises:
        SpecError: If the patch makes no sense, whatever it finds.
    """
    pattern = path_pattern(patch.match)
    _check_where(patch, place)
    named = [node for node in graph.nodes if pattern.fullmatch(node.path)]
    found = [node for node in named if agrees(_fields(node), patch.where)]
    expected = patch.expect
    problems = []
    if len(found) != expected if expected is not None else not found:
        misspelt = _unknown_word(place) if not found else None
        paths = [[node.path for node in nodes] for nodes in (graph.nodes, named, found)]
        names = [*paths[0], *levels]
        problems.append(misspelt or wrong_count(patch, place, names, paths[1], paths[2]))
    try:
        for node in found:
            tree = _set_fields(tree, graph, node, patch, place)
    except SpecError as error:
        raise SpecError([*problems, *error.problems]) from None
    return tree, problems


def _fields(node: Node) -> dict[str, Any]:
    fields = node.op.model_dump(mode="json", by_alias=True)
    if fields.get("out_channels", 0) is None:
        fields["out_channels"] = node.output_shape.channels
    return {**fields, "in_channels": node.input_shapes[0].channels}


def _check_where(patch: Patch, place: TreeNode) -> None:
    known = {name for op_class in all_op_classes() for name in field_names(op_class)} | {
        "in_channels"
    }
    for name in patch.where:
        if name not in known:
            where = at(place, ("where",))
            mark = where.key_marks.get(name, place.mark) if isinstance(where, Map) else place.mark
            fix = did_you_mean(name, known)
            raise SpecError(Problem(f"no op has a field '{name}'", mark, "patch", fix, "patch"))


def _unknown_word(place: TreeNode) -> Problem | None:
    """A misspelt `op` or `kind` under `where`, which finds nothing."""
    op, kind = at(place, ("where", "op")), at(place, ("where", "kind"))
    name = str(plain(op)) if op is not None else None
    if op is not None and not kinds_of(str(name)):
        return unknown_op(op, "patch.where.op")
    if kind is None:
        return None
    having = [name] if name is not None else [n for n, kinds in OPS.items() if "" not in kinds]
    problems = [unknown_kind(n, kind, "patch.where.kind") for n in having]
    return problems[0] if None not in problems else None


def wrong_count(
    patch: Patch,
    place: TreeNode,
    names: Sequence[str],
    named: Sequence[str],
    found: Sequence[str],
) -> Problem:
    """That a patch finds another number of ops than it expects.

    Args:
        patch: The patch.
        place: Its tree.
        names: Paths of all ops.
        named: Of those that its selector finds.
        found: Of those among them that agree with `where`.
    """
    wanted = "at least 1" if patch.expect is None else str(patch.expect)
    what = f"the patch is for {wanted} ops and finds {len(found)}"
    if found:
        fix = f"found: {', '.join(found[:8])}{' ...' if len(found) > 8 else ''}\n"
        fix += f"if they are meant, write `expect: {len(found)}` in the patch, or no `expect`"
    elif named:
        fix = f"`match` finds {len(named)} ops, but none agrees with `where`: "
        fix += ", ".join(named[:8])
    else:
        near = did_you_mean(patch.match, names)
        fix = near or f"modules of the model: {', '.join(names[:8])} ..."
    node = at(place, ("expect",)) or at(place, ("match",)) or place
    if bases := shipped_bases(Path(node.mark.file)):
        base = bases[0] if len(bases) == 1 else f"[{', '.join(bases)}]"
        fix += "\nits file comes with nifbuild: to leave that as it is, write the patches that you "
        fix += f"want of it in a spec of your own, with `extends: {base}`"
    return Problem(what, node.mark, "patch", fix, "patch-count")


def _set_fields(tree: Map, graph: Graph, node: Node, patch: Patch, place: TreeNode) -> Map:
    tree = _with_implied_ops(tree, graph, node.where)
    target = at(tree, node.where)
    values = at(place, ("set",))
    assert isinstance(target, Map)  # every node has an op behind it
    assert isinstance(values, Map)  # it was validated
    for key, value in values.entries.items():
        target = target.with_entry(key, value, values.key_marks[key])
    name = target.text("op") or ""
    if "kind" in values.entries and kinds_of(name):
        problem = unknown_kind(name, values.entries["kind"], "patch.set.kind")
        if problem is not None:
            raise SpecError(problem)
    if "kind" in values.entries or "op" in values.entries:
        op_class = op_class_of(target)
        if op_class is not None:
            stale = [k for k in target.entries if k not in field_names(op_class)]
            target = target.without(*(k for k in stale if k not in values.entries))
    changed = replace_at(tree, node.where, target)
    assert isinstance(changed, Map)  # the root stays
    return changed


def _with_implied_ops(tree: Map, graph: Graph, where: TreePath) -> Map:
    """Writes out what a word such as `shortcut: auto` implies, so that a patch can change it."""
    for end in range(len(where)):
        ops = graph.implied.get(where[:end])
        if ops is None or isinstance(at(tree, where[:end]), List):
            continue
        structure = at(tree, where[: end - 1])
        assert structure is not None  # the op that implies them
        fields = [op.model_dump(mode="json", by_alias=True, exclude_unset=True) for op in ops]
        changed = replace_at(tree, where[:end], as_tree(fields, structure.mark))
        assert isinstance(changed, Map)  # the root stays
        tree = changed
    return tree


def as_tree(value: Any, mark: Mark) -> TreeNode:
    """Dicts, lists and plain values as a tree that was all written at `mark`."""
    if isinstance(value, dict):
        entries = {key: as_tree(item, mark) for key, item in value.items()}
        return Map(entries, dict.fromkeys(entries, mark), mark)
    if isinstance(value, list):
        return List(tuple(as_tree(item, mark) for item in value), mark)
    return Scalar(value, mark)
