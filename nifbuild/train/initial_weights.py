"""The weights that a run starts from: freshly drawn, or those of a checkpoint (`train.init`)."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nifbuild.compile import build_model, build_skeleton
from nifbuild.errors import Problem, SpecError, did_you_mean
from nifbuild.machine.seeds import derive_seed
from nifbuild.nn.global_conv import GlobalConv2d
from nifbuild.runs.weights import non_finite, odd, other_type, read_weights, shape_text
from nifbuild.spec.select import select_weights
from nifbuild.spec.training import InitSpec

if TYPE_CHECKING:
    from nifbuild.spec.resolve import Resolved

_MAX_PROBLEMS = 8
_MAX_LISTED = 12

_DENSENET_OF_OLD = re.compile(r"(?<=denselayer)(\d+\.(?:norm|conv))\.([12])(?=\.)")
"""torchvision's published DenseNets were saved as `denselayer1.norm.1.weight`, before names with a
dot within were given up; torchvision renames them as it loads them."""


@dataclass(frozen=True)
class Pretrained:
    """The weights of a checkpoint that a model takes over.

    Attributes:
        file: Where they come from.
        weights: By their names in the model.
        fresh: Names of the model's other weights, which start as drawn.
        unused: Names of the file's other tensors.
        global_convs: Paths of the model's convolutions with filters as large as the image.
        fingerprint: SHA-256 of `weights`, in hexadecimal digits.
    """

    file: Path
    weights: Mapping[str, Tensor]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    global_convs: tuple[str, ...]
    fingerprint: str

    def as_document(self) -> dict[str, Any]:
        """The content of a run's `init.json`."""
        return {
            "file": str(self.file),
            "fingerprint": self.fingerprint,
            "loaded": list(self.weights),
            "fresh": list(self.fresh),
            "unused": list(self.unused),
        }

    def __str__(self) -> str:
        """What was loaded and what was not, by module."""
        total = len(self.weights) + len(self.fresh)
        lines = [f"weights from {self.file}: {len(self.weights)} of {total} tensors"]
        if self.fresh:
            lines.append(f"  freshly drawn: {self._modules(self.fresh)}")
        if self.unused:
            lines.append(f"  in the file, and not used: {self._modules(self.unused)}")
        return "\n".join(lines)

    def _modules(self, names: tuple[str, ...]) -> str:
        convs = {name: path for path in self.global_convs for name in _within(path, names)}
        modules = list(dict.fromkeys(convs.get(n) or n.rpartition(".")[0] or n for n in names))
        more = len(modules) - _MAX_LISTED
        tail = f", and {more} more (all in init.json)" if more > 0 else ""
        return f"{', '.join(modules[:_MAX_LISTED])}{tail}"


def _within(module: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{module}.")]


def fresh_model(resolved: "Resolved", pretrained: Pretrained | None = None) -> nn.Module:
    """The model with the weights that a run of this spec starts from, on the CPU.

    The caller's random state is left alone.

    Args:
        resolved: The spec.
        pretrained: What `train.init` comes to, where that was read before.

    Raises:
        SpecError: If what `train.init` names does not fit the model.
        RunError: If it is damaged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(resolved.spec.train.seed, "weights"))
        model = build_model(resolved)
    pretrained = pretrained or read_pretrained(resolved)
    if pretrained is not None:
        model.load_state_dict(dict(pretrained.weights), strict=False)
    return model


def read_pretrained(resolved: "Resolved") -> Pretrained | None:
    """What `train.init` comes to; None where a spec has none.

    Every tensor of the model has to be in the file, in its shape, and none may be left over, but
    for those that `skip` selects and those of convolutions with filters as large as the image:
    there the file may have an ordinary convolution.

    Raises:
        SpecError: If there is no such file, or it does not fit the model.
        RunError: If it is damaged.
    """
    init = resolved.spec.train.init
    if init is None:
        return None
    file, found = read_weights(Path(init.from_))
    model = build_skeleton(resolved)
    wanted = model.state_dict()
    found = _renamed(found, wanted)
    convs = tuple(path for path, m in model.named_modules() if isinstance(m, GlobalConv2d))
    match = _Match(init, wanted, found, convs)
    match.require_fit()
    weights = {name: found[name] for name in wanted if name in match.loaded}
    if not weights:
        what = f"nothing in {file} is used: all of the model starts freshly drawn"
        fix = "leave train.init out, or skip less"
        raise SpecError(Problem(what, path="train.init", fix=fix, code="init"))
    fresh = tuple(n for n in wanted if n not in weights and not _is_optional(n))
    unused = tuple(name for name in found if name not in weights)
    return Pretrained(file, weights, fresh, unused, convs, _fingerprint(weights))


def _renamed(found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that the model has for them, where the difference is known."""
    # A wrapper, such as DataParallel's `module` or Lightning's `model`, adds a level to all names.
    first, *others = {name.partition(".")[0] for name in found}
    if not others and not any(name.partition(".")[0] == first for name in wanted):
        found = {name.partition(".")[2]: tensor for name, tensor in found.items()}
    renamed = {}
    for name, tensor in found.items():
        today = _DENSENET_OF_OLD.sub(r"\1\2", name)
        renamed[today if today in wanted else name] = tensor
    return renamed


def _is_optional(name: str) -> bool:
    """Whether files may lack it: published weights are older than this counter of batch norms."""
    return name.endswith(".num_batches_tracked")


class _Match:
    """What of a file goes where in a model, and what does not fit."""

    def __init__(
        self,
        init: InitSpec,
        wanted: Mapping[str, Tensor],
        found: Mapping[str, Tensor],
        global_convs: tuple[str, ...],
    ) -> None:
        self.init, self.wanted, self.found = init, wanted, found
        self.skipped, self.useless = _skipped(init.skip, [*wanted, *found])
        bound = [n for n in {**wanted, **found} if n not in self.skipped]
        self.odd = {n: what for n in bound if n in found and (what := odd(found[n]))}
        bound = [n for n in bound if n not in self.odd]
        self.loaded = {n for n in bound if n in wanted and n in found and self._same_shape(n)}
        self.odd |= {n: what for n in self.loaded if (what := self._unusable(n))}
        free = tuple(f"{path}." for path in global_convs)
        strict = [n for n in bound if n not in self.loaded and not n.startswith(free)]
        self.other_shape = [n for n in strict if n in wanted and n in found]
        self.missing = [n for n in strict if n not in found and not _is_optional(n)]
        self.left_over = [n for n in strict if n not in wanted]

    def _same_shape(self, name: str) -> bool:
        return self.wanted[name].shape == self.found[name].shape

    def _unusable(self, name: str) -> str:
        if what := other_type(self.found[name], self.wanted[name]):
            return what
        bad = non_finite([(name, self.found[name])])
        return "" if bad is None else f"holds {bad[1]}"

    def require_fit(self) -> None:
        """Raises SpecError with what does not fit, a problem for each module."""
        problems = [
            *(self._odd(name) for name in self.odd),
            *(self._useless(selector) for selector in self.useless),
            *(self._other_shape(m, names) for m, names in _by_module(self.other_shape)),
            *(self._missing(m, names) for m, names in _by_module(self.missing)),
            *(self._left_over(m, names) for m, names in _by_module(self.left_over)),
        ]
        more = len(problems) - _MAX_PROBLEMS
        if more > 0:
            what = f"{more} more modules do not fit"
            fix = "is this a checkpoint of another architecture?"
            problems = [*problems[:_MAX_PROBLEMS], _problem(what, fix)]
        if problems:
            raise SpecError(problems)

    def _useless(self, selector: str) -> Problem:
        modules = [module for module, _ in _by_module([*self.wanted, *self.found])]
        near = did_you_mean(selector, [*modules, *self.wanted, *self.found])
        listed = f"modules: {', '.join(modules[:_MAX_LISTED])} ..."
        what = f"skip: '{selector}' selects neither a weight nor a module"
        return _problem(what, near or listed, "train.init.skip")

    def _odd(self, name: str) -> Problem:
        fix = "save it as plain numbers, as `tensor.float()` on the CPU has them"
        return _problem(f"{name} {self.odd[name]}", f"{fix}\n{self._skip_hint(name)}")

    def _other_shape(self, module: str, names: list[str]) -> Problem:
        both = ", ".join(
            f"{name.rpartition('.')[2]} is {shape_text(self.found[name])} in the file and "
            f"{shape_text(self.wanted[name])} in the model"
            for name in names
        )
        fix = self._skip_hint(module)
        if module == self._classifier:
            there, here = (side[names[0]].shape[0] for side in (self.found, self.wanted))
            fix = f"the file is for {there} classes and the model for {here}\n{fix}"
        return _problem(f"{module}: {both}", fix)

    def _missing(self, module: str, names: list[str]) -> Problem:
        listed = ", ".join(f"{n.rpartition('.')[2]} ({shape_text(self.wanted[n])})" for n in names)
        near = _near(names[0], self.left_over, self.found)
        return _problem(f"{module}: the file has no {listed}", f"{near}{self._skip_hint(module)}")

    def _left_over(self, module: str, names: list[str]) -> Problem:
        listed = ", ".join(f"{n.rpartition('.')[2]} ({shape_text(self.found[n])})" for n in names)
        near = _near(names[0], self.missing, self.wanted)
        what = f"{module}: the file has {listed}, for which the model has no place"
        return _problem(what, f"{near}{self._skip_hint(names[0] if len(names) == 1 else module)}")

    @property
    def _classifier(self) -> str:
        return list(self.wanted)[-1].rpartition(".")[0]

    def _skip_hint(self, selector: str) -> str:
        skip = ", ".join((*self.init.skip, selector))
        return f"to leave it as drawn: train.init: {{from: {self.init.from_}, skip: [{skip}]}}"


def _skipped(selectors: Iterable[str], names: list[str]) -> tuple[set[str], list[str]]:
    """The names that selectors choose, by themselves or by a module around; what chooses none."""
    skipped: set[str] = set()
    useless = []
    for selector in selectors:
        chosen = select_weights(selector, names)
        skipped.update(chosen)
        if not chosen:
            useless.append(selector)
    return skipped, useless


def _by_module(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return list(groups.items())


def _near(name: str, candidates: Iterable[str], tensors: Mapping[str, Tensor]) -> str:
    """A line with the closest name on the other side, and its shape; empty where none is close."""
    hint = did_you_mean(name, candidates)
    named = re.findall(r"'([^']+)'", hint)
    shapes = ", ".join(f"{other} is {shape_text(tensors[other])}" for other in named)
    return f"{hint} ({shapes})\n" if hint else ""


def _problem(what: str, fix: str, path: str = "train.init") -> Problem:
    return Problem(what, path=path, fix=fix, code="init")


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
