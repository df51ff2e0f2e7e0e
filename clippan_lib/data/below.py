"""Paths of manifests: below the folder of the data, and nowhere else, whatever links say."""

import os
from pathlib import Path, PurePosixPath

from clippan_lib.errors import DataError

LONGEST_NAME, LONGEST_PATH = 255, 1000  # bytes: of any file system; with room for the folder's own path


def below_root(path: str) -> str:
    """A path as a manifest states it, unchanged.

    Raises: ValueError if it could lead out of data_root, or can be the name of no file.
    """
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or any(sign in path for sign in "\\:"):
        raise ValueError(
            "must lie below data_root; give a relative path with /, without .. and drive letters"
        )
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in path):
        raise ValueError(f"{path!r} has signs that no name of a file should have; give the path as text")
    name, whole = (len(text.encode()) for text in (max(parts, key=len), path))
    if name > LONGEST_NAME or whole > LONGEST_PATH:
        raise ValueError(
            f"a name has {name} bytes and the path {whole}; at most {LONGEST_NAME} and {LONGEST_PATH} are possible"
        )
    return path


def is_below(path: str | Path, folder: Path) -> bool:
    """Whether a file lies in a folder, or in one of its folders, once all links are followed."""
    inside = os.path.realpath(folder)
    return os.path.commonpath([inside, os.path.realpath(path)]) == inside


def find_below(root: Path, path: str) -> Path:
    """Where a path of a manifest leads.

    Args:
        root: the folder of the data; it may be a link itself.
        path: from `below_root`.
    Raises: DataError if a link on its way leads out of the folder.
    """
    found = root / path
    if not is_below(found, root):
        raise DataError(
            f"{found}: is a link to {os.path.realpath(found)}, outside of the data folder; put the file itself there, "
            "or give another data_root"
        )
    return found
