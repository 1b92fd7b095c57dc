"""Which of several processes this is, as launchers say in environment variables."""

import os
import socket
from collections.abc import Iterator

from nifbuild.errors import Problem, SpecError

_SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
_RANKS = ("RANK", "LOCAL_RANK")
_MAX_PORT = 2**16 - 1
_FIX = "start several with `--processes N`, torchrun or `accelerate launch`; for one, unset it"


def world_size() -> int:
    """The number of processes that train together.

    Raises:
        SpecError: The variable holds no such number.
    """
    return _number("WORLD_SIZE", 1)


def local_processes() -> int:
    """How many of them are on this machine.

    Raises:
        SpecError: The variable holds no such number.
    """
    return _number("LOCAL_WORLD_SIZE", world_size())


def available_cores() -> int:
    """Processors that this process may use: a cluster's scheduler may leave it fewer than all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def own_cores() -> int:
    """This process's share of them: those of a run on this machine use the same ones; at least 1.

    Raises:
        SpecError: The variable that says how many these are holds no number.
    """
    return max(1, available_cores() // local_processes())


def is_first() -> bool:
    """Whether this process is the one that writes, or the only one.

    Raises:
        SpecError: The variable holds no number.
    """
    return _number("RANK", 0) == 0


def is_launched() -> bool:
    """Whether a launcher has started this process, as one of several or alone.

    Raises:
        SpecError: The variables that launchers set do not fit together.
    """
    require_consistent()
    return "RANK" in os.environ


def require_consistent() -> None:
    """Raises SpecError where the variables that launchers set do not fit together.

    Processes that believe different things would wait for each other, or write to one run.
    """
    if problems := list(_problems()):
        raise SpecError(problems)


def _problems() -> Iterator[Problem]:
    wrong = [name for name in (*_SIZES, *_RANKS) if not _is_number(name)]
    if wrong:
        yield from map(_no_number, wrong)
        return
    given = {name: int(os.environ[name]) for name in (*_SIZES, *_RANKS) if name in os.environ}
    ranks = [name for name in _RANKS if name in given]
    if "WORLD_SIZE" not in given:
        if ranks:
            yield _problem(f"{ranks[0]} is set, and WORLD_SIZE is not")
        return
    if given["WORLD_SIZE"] > 1 or ranks:
        for name in (*_RANKS, "MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                yield _problem(f"WORLD_SIZE is set, and {name} is not")
    local = given.get("LOCAL_WORLD_SIZE", given["WORLD_SIZE"])
    if local > given["WORLD_SIZE"]:
        yield _problem(f"LOCAL_WORLD_SIZE is {local}, and WORLD_SIZE {given['WORLD_SIZE']}")
    for name, size in (("RANK", given["WORLD_SIZE"]), ("LOCAL_RANK", local)):
        if given.get(name, 0) >= size:
            yield _problem(f"{name} is {given[name]}, and there are {size} processes, from 0 on")
    if ranks:
        yield from _problems_of_address()


def _problems_of_address() -> Iterator[Problem]:
    address, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if port and not (_is_number("MASTER_PORT") and 0 < int(port) <= _MAX_PORT):
        yield _problem(f"MASTER_PORT is '{port}', which is no port: 1 to {_MAX_PORT}")
    if address:
        try:
            socket.getaddrinfo(address, None)
        except (OSError, UnicodeError):  # processes would try for half an hour
            yield _problem(f"MASTER_ADDR is '{address}', and no machine of that name is found")


def _number(name: str, default: int) -> int:
    if not _is_number(name):
        raise SpecError(_no_number(name))
    return int(os.environ.get(name, default))


def _is_number(name: str) -> bool:
    """Whether a variable is unset or holds a whole number; a count is 1 at least."""
    text = os.environ.get(name)
    if text is None:
        return True
    is_number = text.isascii() and text.isdecimal() and len(text) < 8
    return is_number and (name not in _SIZES or int(text) > 0)


def _no_number(name: str) -> Problem:
    kind = "number of processes" if name in _SIZES else "whole number from 0 on"
    return _problem(f"{name} is '{os.environ[name]}', which is no {kind}")


def _problem(what: str) -> Problem:
    return Problem(f"environment variable {what}", fix=_FIX, code="launcher")
