"""What a file may ask of this machine: more than it can hold, or than the file itself can have, is refused at once."""

import os
from collections.abc import Iterable
from math import prod
from pathlib import Path

from clippan_lib.errors import DataError

_LARGE = 2**30  # bytes: what claims less is simply read
_PACKED = 5000  # times smaller than its values is no file of measurements: deflate reaches 1032


def memory() -> int:
    """Bytes of this machine's memory."""
    import psutil  # it has a part for each system, which only that system can import

    return psutil.virtual_memory().total


def refuse_unheld(what: str, shapes: Iterable[tuple[int, ...]], remedy: str, each: int = 4) -> None:
    """Refuse what has to be in memory as a whole and cannot be.

    Args:
        what: has these values, for the message.
        shapes: shapes of its arrays.
        remedy: what a user does.
        each: bytes of a value.
    Raises: DataError with its size and that of the memory.
    """
    shapes = [*shapes]
    size, there = each * sum(map(prod, shapes)), memory()
    if size > there:
        raise DataError(
            f"{what}: {' and '.join(map(str, shapes))} values take {in_gib(size)}, and this machine has "
            f"{in_gib(there)} of memory; {remedy}"
        )


def refuse_hollow(what: object, claimed: int, files: Iterable[str | Path]) -> None:
    """Refuse what claims values that its files cannot have: sparse files, arrays and tiles that were never written.

    Args:
        what: makes the claim, for the message.
        claimed: bytes of values.
        files: that hold them.
    Raises: DataError with both sizes.
    """
    if claimed <= _LARGE:
        return
    stored = sum(map(_stored, files))
    if claimed > _PACKED * stored:
        raise DataError(
            f"{what}: claims {in_gib(claimed)} of values, of which {stored} bytes are on the disk: never written, or "
            f"truncated; get it again. (This machine has {in_gib(memory())} of memory)"
        )


def in_gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _stored(file: str | Path) -> int:
    """Bytes on the disk, without the holes of a sparse file."""
    found = os.stat(file)
    return found.st_size if found.st_size < _LARGE else min(found.st_size, 512 * found.st_blocks)
