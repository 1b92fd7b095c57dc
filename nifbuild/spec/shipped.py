"""The specs that come with nifbuild, by names that hold anywhere: `nifbuild:resnet18_nif`."""

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nifbuild.errors import Mark, Problem, SpecError, closest_beside, did_you_mean

PREFIX = "nifbuild:"
_PACKAGE = Path(__file__).parents[1]
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+(?=[A-Z])")


def shipped_folder() -> Path:
    """Where they lie: in an installed package, or beside the package in a clone."""
    installed = _PACKAGE / "specs"
    return installed if installed.is_dir() else _PACKAGE.parent / "specs"


def shipped_names() -> list[str]:
    """Their names, as in `architectures/resnet18`."""
    folder = shipped_folder()
    found = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return sorted(path.as_posix() for path in found)


def shipped_name(path: Path) -> str | None:
    """What a file is called from anywhere, as in `nifbuild:resnet18`; None for one of people's."""
    folder = shipped_folder().resolve()
    resolved = path.resolve()
    if not resolved.is_relative_to(folder):
        return None
    name = resolved.relative_to(folder).with_suffix("").as_posix()
    return PREFIX + name if name in shipped_names() else None


def shipped_as(text: str) -> str | None:
    """The shipped spec that a path which leads nowhere is named like, if there is one."""
    parts = Path(text.removeprefix(PREFIX)).with_suffix("").parts
    names = shipped_names()
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((PREFIX + tail for tail in tails if tail in names), None)


@dataclass(frozen=True, slots=True)
class Shipped:
    """A file that comes with nifbuild.

    Attributes:
        name: As commands take it, with the prefix.
        purpose: The first sentence of the comment that it begins with.
    """

    name: str
    purpose: str

    def document(self) -> dict[str, str]:
        """As plain data."""
        return {"name": self.name, "purpose": self.purpose}


def shipped() -> list[Shipped]:
    """All of them: what can be run first, then what it is made of."""
    names = sorted(shipped_names(), key=lambda name: (name.count("/"), name))
    return [Shipped(PREFIX + name, _purpose(shipped_folder() / f"{name}.yaml")) for name in names]


def _purpose(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.removeprefix("#").strip() for line in comment)
    return _SENTENCE_END.split(text, maxsplit=1)[0]


def spec_path(name: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """The file that a spec, a study or a data file is named by.

    Args:
        name: A path, which may begin with `~`; or `nifbuild:` and the name of a shipped one. On a
            command line the name alone will do where no file has it.
        beside: The folder that paths in a file are relative to; None: the working directory.

    Raises:
        SpecError: No spec of that name is shipped, or a file's is meant.
    """
    text = str(name)
    if not text.startswith(PREFIX):
        path = Path(os.path.expanduser(text))  # noqa: PTH111 (`Path` refuses an unknown user)
        if beside is not None:
            return beside / path
        return path if path.exists() else _unless_shipped(text, path)
    wanted = text.removeprefix(PREFIX).removesuffix(".yaml")
    names = shipped_names()
    if wanted in names:
        return shipped_folder() / f"{wanted}.yaml"
    fix = _meant(wanted, names) or f"shipped: {', '.join(names)}"
    raise SpecError(Problem(f"no spec '{wanted}' comes with nifbuild", path=text, fix=fix))


def _meant(word: str, names: list[str]) -> str:
    """A hint that names what is called so in one of the folders, else what is called alike."""
    within = [name for name in names if name.rpartition("/")[2] == word]
    return did_you_mean(within[0], within) if within else did_you_mean(word, names)


def _unless_shipped(text: str, path: Path) -> Path:
    """A file that is not there, or the shipped one that its name alone stands for."""
    names = shipped_names()
    if text in names:
        return shipped_folder() / f"{text}.yaml"
    meant = path.as_posix().removeprefix("specs/").removesuffix(".yaml")
    found = _meant(meant, names)
    if not path.parent.is_dir() or path.suffix == "":
        fix = f"did you mean {PREFIX}{meant}?" if meant in names else found
        if path.suffix == "":
            lines = (fix or closest_beside(path), "`nifbuild specs` lists what does")
            fix = "\n".join(filter(None, lines))
        if fix:
            what = "no such file or folder, and nothing of this name comes with nifbuild"
            raise SpecError(Problem(what, Mark(text), fix=fix, code="missing-file"))
    return path
