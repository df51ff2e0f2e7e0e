"""Outputs: whether they can be written, and whether they would replace what is read."""

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from clippan_lib.errors import OutputError

_LONGEST = "compared.json.1234567.tmp"  # what names of temporary files add to that of an output, at most


def refuse_unwritable(path: Path, made: bool = False) -> None:
    """Refuse an output that cannot become a file, before the work for it begins; nothing is left.

    Args:
        path: path of the output, which may be there.
        made: whether folders that are missing will be made.
    Raises: OutputError naming what is there, or why the folder takes no file.
    """
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is {_kind(path)}, and no file; give the output another name")
        target = Path(os.path.realpath(path))
        target.with_name(f"..{target.name}.{_LONGEST}").exists()  # an error if it is longer than can be
        folder = target.parent
        while made and not folder.exists():
            folder = folder.parent
        if not folder.exists():
            raise OutputError(f"{folder}: no such folder; make it, or name an output in another")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); name a file in a folder that can be written"
        ) from error


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def refuse_replacing(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Refuse to write, or to remove, what is read: the same file under whatever name, through whatever link.

    Args:
        written: names of what will be written or removed.
        read: files of what is read.
    Raises: OutputError naming both, or a folder that has the name of such a file.
    """
    known = {identity: path for path in read if (identity := _identity(path))}
    for path in written:
        if path.is_dir():
            raise OutputError(
                f"{path}: is a folder, where a file goes; move it away, or give the output another name"
            )
        if (identity := _identity(path)) and (same := known.get(identity)):
            also = f", by another name {same}" if os.path.abspath(same) != os.path.abspath(path) else ""
            raise OutputError(
                f"{path}: is one of the files that are read{also}; give the output another name, so that it replaces "
                "none of them"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
