"""The two words in the printed addresses: who has the first may draw, who has the second may look.

They are kept in the state folder, so that a page which waits with unsent strokes reaches the next server by itself, and
a bookmark lasts. The file is its owner's alone (mode 0600): what tokens protect from is other users of the machine, and
whoever can read the owner's files needs no page to change the journal. A file that others could read is not trusted,
and where the disk knows no modes nothing is kept.
"""

import json
import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILE = "token"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """
    Args:
        draw: of those who may draw.
        guest: of those who may look.
        kept: they are on disk, and the next server has them too.
    """

    draw: str
    guest: str
    kept: bool = False


def tokens_of(folder: Path | None, *, anew: bool = False) -> Tokens:
    """The tokens of a state folder, made and kept where there are none.

    Args:
        folder: the state folder; None for tokens that are not kept.
        anew: make new ones, so that addresses given before end.
    """
    if folder is None:
        return _made()
    found = None if anew else _read(folder / FILE)
    return found or _written(folder, _made())


def _made() -> Tokens:
    return Tokens(draw=secrets.token_urlsafe(24), guest=secrets.token_urlsafe(24))


def _read(path: Path) -> Tokens | None:
    """None for a file that is not there, not ours alone, or damaged."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not _private(handle):
            return None
        try:
            told = json.loads(file.read(4096))
            draw, guest = told["draw"], told["guest"]
            if _TOKEN.fullmatch(draw) and _TOKEN.fullmatch(guest) and draw != guest:
                return Tokens(draw=draw, guest=guest, kept=True)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            pass
    return None


def _written(folder: Path, made: Tokens) -> Tokens:
    aside = ""
    try:
        handle, aside = tempfile.mkstemp(dir=folder, prefix=f"{FILE}.")  # mode 0600
        with os.fdopen(handle, "wb") as file:
            if not _private(handle):
                raise OSError("no modes on this disk")
            file.write(json.dumps({"draw": made.draw, "guest": made.guest}).encode())
            file.flush()
            os.fsync(handle)
        os.replace(aside, folder / FILE)
    except OSError:
        for path in filter(None, (aside, str(folder / FILE))):  # an older one would bring ended addresses back
            with suppress(OSError):
                os.unlink(path)
        return made
    return Tokens(draw=made.draw, guest=made.guest, kept=True)


def _private(handle: int) -> bool:
    """A plain file of this user, which nobody else may read or write."""
    about = os.fstat(handle)
    return stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077
