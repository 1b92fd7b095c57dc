"""Texts for people, which stay theirs once they have changed them.

The last line of such a file is a comment, in Markdown as in HTML, with a hash of all before it.
Only a file whose hash is right is replaced or deleted.
"""

import hashlib
import os
import re
from pathlib import Path

from nifbuild.machine import MAKER
from nifbuild.machine.files import write_atomically

_LINE = "<!-- {maker}; sha256 {digest}; once changed, it stays as it is -->"
_SEAL = re.compile(rb"<!-- made by nifbuild [^;\n]*; sha256 ([0-9a-f]{64}); [^\n]*-->\n")


def sealed(text: str) -> bytes:
    """The content of a file with this text, and the line that tells whether it was changed."""
    content = text.rstrip("\n").encode() + b"\n"
    line = _LINE.format(maker=MAKER, digest=hashlib.sha256(content).hexdigest())
    return content + line.encode() + b"\n"


def write_sealed(path: Path, text: str) -> bool:
    """Writes such a file, over nothing that people have written or changed.

    Returns:
        Whether it is there now, rather than theirs.

    Raises:
        OSError: It cannot be written.
    """
    if os.path.lexists(path) and not is_sealed(path):
        return False
    write_atomically(path, sealed(text))
    return True


def kept(path: Path) -> str:
    """That a file is theirs, in words."""
    return f"{path} was not made by nifbuild, or was changed: it stays"


def is_sealed(path: Path) -> bool:
    """Whether a file is as nifbuild has written it; a link, or what cannot be read, is not."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        content = path.read_bytes()
    except OSError:
        return False
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    found = _SEAL.fullmatch(content[start:])
    return found is not None and found[1].decode() == hashlib.sha256(content[:start]).hexdigest()
