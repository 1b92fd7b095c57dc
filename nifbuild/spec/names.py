"""Names of modules: levels of ids, and what a reference under `from` means."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from nifbuild.errors import Mark, Problem, SpecError, suggestion, told
from nifbuild.spec.ops import AnyOp, Value
from nifbuild.spec.source import Map, TreePath, at
from nifbuild.spec.source import Node as TreeNode

POSITION = "position"
"""The id that stands for the number of modules before it in its level."""

TAKEN = {
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children",
    "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward",
    "get_buffer", "get_extra_state", "get_parameter", "get_submodule", "half", "ipu",
    "load_state_dict", "modules", "mtia", "named_buffers", "named_children", "named_modules",
    "named_parameters", "parameters", "register_backward_hook", "register_buffer",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_",
    "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
}  # fmt: skip
"""Attributes of every torch module, which no child can be named after."""

PRIVATE = {
    "_apply", "_backward_hooks", "_backward_pre_hooks", "_buffers", "_call_impl",
    "_compiled_call_impl", "_forward_hooks", "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
    "_get_backward_hooks", "_get_backward_pre_hooks", "_get_name", "_inputs",
    "_is_full_backward_hook", "_load_from_state_dict",
    "_load_state_dict_post_hooks", "_load_state_dict_pre_hooks",
    "_maybe_warn_non_full_backward_hook", "_modules", "_named_members",
    "_non_persistent_buffers_set", "_outputs", "_parameters", "_plan", "_plans", "_recompute",
    "_register_load_state_dict_pre_hook", "_register_state_dict_hook",
    "_replicate_for_data_parallel", "_run", "_save_to_state_dict", "_slow_forward",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_steps", "_training_outputs", "_version",
    "_wrapped_call_impl",
}  # fmt: skip
"""Those that begin with an underscore, of `nifbuild.nn.step_graph` as well; and all names that
begin with two."""


@dataclass
class Leaf:
    """A module that runs: its id, else the name of its op, and its index among all of them."""

    id: str | None
    op: str
    index: int
    where: TreePath


@dataclass
class Level:
    """A level of names, and what the ops with an id in it have given so far."""

    outer: "Level | None" = None
    id: str | None = None
    where: TreePath = ()
    members: list["Level | Leaf"] = field(default_factory=list)
    outputs: dict[str, Value] = field(default_factory=dict)

    def enter(self, id: str, where: TreePath) -> "Level":
        """A new level within this one."""
        level = Level(self, id, where)
        self.members.append(level)
        return level

    def outwards(self) -> "Iterator[Level]":
        """This level, the one around it, and so on."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.outer

    @property
    def path(self) -> str:
        """The ids of the levels around, and its own."""
        ids = [level.id for level in self.outwards() if level.id is not None]
        return ".".join(reversed(ids))

    def inner(self, id: str) -> "Level | None":
        """The level of this id right within this one."""
        levels = (m for m in self.members if isinstance(m, Level) and m.id == id)
        return next(levels, None)

    def find(self, reference: str) -> Value | None:
        """What an earlier op gives, by its id; the closest level around that knows it counts."""
        *levels, last = reference.split(".")
        for start in self.outwards():
            level: Level | None = start
            for id in levels:
                level = level.inner(id) if level is not None else None
            if level is not None and last in level.outputs:
                return level.outputs[last]
        return None


def module_names(root: Level, tree: TreeNode) -> dict[int, str]:
    """Dotted names of all modules, by index; `tree` has the places for errors.

    Raises:
        SpecError: If two members of a level have one id, or an id cannot name a module.
    """
    names: dict[int, str] = {}
    problems: list[Problem] = []
    _name(root, "", names, problems, tree)
    if problems:
        raise SpecError(told(_once_for_each_place(problems)))
    return names


def _once_for_each_place(problems: Iterable[Problem]) -> list[Problem]:
    """An id in a block, or under `repeat`, names many modules, and there is one to be edited."""
    by_place: dict[object, list[Problem]] = {}
    for problem in problems:
        by_place.setdefault((problem.where, problem.code), []).append(problem)
    return [
        first if not others else replace(first, what=f"{first.what} ({len(others)} more like it)")
        for first, *others in by_place.values()
    ]


def _name(
    level: Level, prefix: str, names: dict[int, str], problems: list[Problem], tree: TreeNode
) -> None:
    taken = {member.id for member in level.members if member.id is not None}
    seen: set[str] = set()
    numbers: Counter[str] = Counter()
    for member in level.members:
        name = member.id
        if name is None:
            assert isinstance(member, Leaf)  # a level exists because of its id
            name = _free_name(member.op, taken, numbers)
        elif name in seen:
            fix = "give one of them another id, or the structure around one an id of its own"
            what = f"two modules are named '{prefix}{name}'"
            mark = _id_mark(tree, member.where)
            problems.append(Problem(what, mark, prefix + name, fix, "duplicate-id"))
        elif name in TAKEN or name in PRIVATE or name.startswith("__"):
            what = f"no module can be named '{name}': every torch module has such an attribute"
            mark = _id_mark(tree, member.where)
            problems.append(Problem(what, mark, prefix + name, "choose another id", "taken-id"))
        seen.add(name)
        if isinstance(member, Leaf):
            names[member.index] = prefix + name
        else:
            _name(member, f"{prefix}{name}.", names, problems, tree)


def _id_mark(tree: TreeNode, where: TreePath) -> Mark | None:
    op = at(tree, where)
    given = op.get("id") if isinstance(op, Map) else None
    return given.mark if given is not None else op.mark if op is not None else None


def _free_name(base: str, taken: set[str], numbers: Counter[str]) -> str:
    """The op's name, with the first free number from the second on."""
    while True:
        numbers[base] += 1
        name = base if numbers[base] == 1 else f"{base}_{numbers[base]}"
        if name not in taken:
            return name


def why_unknown(
    reference: str, level: Level, id: str | None, model: tuple[AnyOp, ...]
) -> tuple[str, str]:
    """What is wrong with a reference that `Level.find` does not find, and how to mend it.

    Args:
        reference: The name.
        level: Where it stands.
        id: The id of the op that refers.
        model: All ops, those after the reference included.
    """
    declared = list(_declared(model, ""))
    prefixes = [f"{outer.path}." if outer.path else "" for outer in level.outwards()]
    full = next((p + reference for p in prefixes if p + reference in declared), None)
    if full is not None and f"{level.path}.".startswith(f"{full}."):
        return f"this op is a part of '{full}' and cannot take its output", "take an earlier op's"
    if full is not None and full == prefixes[0] + (id or ""):
        return "an op cannot take its own output", "take an earlier op's"
    if full is not None:
        what = f"'{full}' comes later, and an op can only take what earlier ones gave"
        return what, "move the op behind it"
    inner = [name for name in declared if name.endswith(f".{reference}")]
    if len(inner) > 1:
        what = f"'{reference}' may be any of {len(inner)} ops"
        return what, f"write the ids around it, too: {', '.join(inner[:4])}"
    what = f"no op has the id '{reference}'"
    if inner:
        return what, f"write the ids around it, too: {inner[0]}"
    listed = f"ids of earlier ops: {', '.join(_earlier(level)) or 'none'}"
    return what, suggestion(reference, [*declared, "previous", "input"], listed)


def _declared(ops: tuple[AnyOp, ...], prefix: str) -> Iterator[str]:
    for op in ops:
        if op.id == POSITION:
            continue
        if op.id is not None:
            yield prefix + op.id
        for name in op.bodies:
            inner = getattr(op, name)
            if isinstance(inner, tuple):
                yield from _declared(inner, prefix if op.id is None else f"{prefix}{op.id}.")


def _earlier(level: Level) -> list[str]:
    """The ids that may be referred to as they are, closest first."""
    ids = [id for outer in level.outwards() for id in reversed(outer.outputs)]
    return list(dict.fromkeys(ids))[:12]
