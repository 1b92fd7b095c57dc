"""What the results of a study depend on besides its specs, as it is here and now: data and code."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nifbuild.ablate.cells import UNKNOWN, Origin
from nifbuild.errors import Problem, SpecError
from nifbuild.spec.data import HubData
from nifbuild.spec.ops import installed
from nifbuild.spec.study import Study

if TYPE_CHECKING:
    from nifbuild.data import Catalog
    from nifbuild.spec.resolve import Resolved

_PACKAGE = Path(__file__).parents[1]
_SHOW_ONLY = ("cli", "report", "ablate")
_COMPUTE = ("report/filter_windows.py", "ablate/worker.py")
"""Within those, what a cell's figures come from."""


def versions() -> dict[str, str]:
    """The versions that results depend on, and the code."""
    from nifbuild.machine import VERSION

    torch = ".".join(version("torch").split(".")[:2])
    code = code_fingerprint()
    if installed.LOADED:  # ops of other packages compute, too
        parts = "\0".join((code, *installed.code_fingerprints()))
        code = hashlib.sha256(parts.encode()).hexdigest()[:16]
    return {"nifbuild": VERSION, "torch": torch, "code": code}


def origins(
    study: Study, *, fetch: bool, opened: "dict[str, Catalog | None] | None" = None
) -> dict[str, Origin]:
    """By the names of variants; each source of data is opened once, and specs are checked with it.

    Args:
        study: Which.
        fetch: Whether all data has to be there, and is downloaded if need be. Otherwise what is
            not at hand is unknown: results can be read where there is no data.
        opened: What an earlier call has opened, which is not opened again; more is added.

    Raises:
        SpecError: A spec does not suit its data.
        RunError: The data is broken.
    """
    catalogs = {} if opened is None else opened
    found = {}
    for variant in study.variants:
        resolved = variant.resolved
        data = resolved.spec.data
        name = "" if data is None else data.model_dump_json()
        with resolved.placing():
            if name not in catalogs:
                catalogs[name] = _opened(resolved, fetch=fetch)
            if study.space is not None and (catalog := catalogs[name]) is not None:
                _require_validation(catalog)
            data_hash, init_hash = _fingerprints(resolved, catalogs[name], fetch=fetch)
        found[variant.name] = Origin(data=data_hash, init=init_hash, **versions())
    return found


def _opened(resolved: "Resolved", *, fetch: bool) -> "Catalog | None":
    """The data; None where it need not be there, and is not."""
    from nifbuild.runs.opened_data import open_for

    if not fetch and isinstance(resolved.spec.data, HubData):
        return None
    try:
        return open_for(resolved)[0]
    except SpecError as error:
        missing = all(p.code in ("missing-file", "missing-folder") for p in error.problems)
        if fetch or not missing:
            raise
    return None


def _require_validation(catalog: "Catalog") -> None:
    if "validation" not in catalog.sizes:
        what = "a search needs a validation split to judge trials by, and the data has none"
        fix = "set some training images apart, as in set: {data.validation: 0.1}\n"
        fix += "test images must not decide which values are best: that would flatter the result"
        raise SpecError(Problem(what, path="data.validation", fix=fix, code="no-validation"))


def _fingerprints(
    resolved: "Resolved", catalog: "Catalog | None", *, fetch: bool
) -> tuple[str, str | None]:
    """Of the data, and of the weights that training starts from."""
    from nifbuild.data.batches import check_batch_size
    from nifbuild.train.initial_weights import read_pretrained

    if catalog is not None:
        resolved = resolved.adopt(catalog.num_classes)
        check_batch_size(resolved.spec.train, catalog.sizes["train"], 1)
    init = resolved.spec.train.init
    if init is not None and not fetch and not (catalog and Path(init.from_).exists()):
        start: str | None = UNKNOWN
    else:
        pretrained = read_pretrained(resolved)
        start = None if pretrained is None else pretrained.fingerprint
    return UNKNOWN if catalog is None else catalog.fingerprint, start


def computes_figures(module: str) -> bool:
    """Whether a cell's figures depend on a file of the package.

    All do but those that start cells, and show what came of them.

    Args:
        module: Its path within the package, such as `nn/fourier.py`.
    """
    return module in _COMPUTE or module.split("/")[0] not in _SHOW_ONLY


@cache
def code_fingerprint() -> str:
    """A hash of the source of all that figures depend on, as it lies on disk."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        module = path.relative_to(_PACKAGE).as_posix()
        if computes_figures(module):
            # As text: line ends are those of the system that wrote the files.
            digest.update(f"\0{module}\0{path.read_text(encoding='utf-8')}".encode())
    return digest.hexdigest()[:16]
