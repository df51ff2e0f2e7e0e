"""What a run may be called and seeded with, and numbers beyond all reason."""

import re

from clippan_lib.errors import Refusal

_SEEDS = 2**32  # scikit-learn takes no larger ones


def refuse_seed(seed: int) -> None:
    """Raises: Refusal for a number that some generator of random numbers does not take."""
    if not 0 <= seed < _SEEDS:
        raise Refusal(f"--seed {seed}: a seed is 0 or more, and {_SEEDS - 1} at most")


def refuse_name(name: str) -> None:
    """Raises: Refusal for what is not the name of a folder on every system, with room for names of files in it."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        shown = name if len(name) <= 100 else f"{name[:100]}... ({len(name)} characters)"
        raise Refusal(
            f"--name {shown!r} is not the name of a folder; give letters, digits, and . _ - "
            "after the first, at most 100"
        )


def refuse_beyond(option: str, given: int, most: int, least: int = 1) -> None:
    """Raises: Refusal for a number beyond all reason, before anything of that size is made."""
    if given > most:
        raise Refusal(f"{option} {given}: give {most} or less")
    if given < least:
        raise Refusal(f"{option} {given}: give {least} or more")
