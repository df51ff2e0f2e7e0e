"""What counts of the files, and of the user's own code, that a configuration names."""

from os.path import isfile
from pathlib import Path
from typing import Any

from clippan_lib.files import file_state
from clippan_lib.fusion.plugins import state_of

FOLDER = "local-dir:"  # a CLIP that begins so is a folder


def state_of_clip(given: str | None) -> Any:
    """Size and time of the file or files that a CLIP is read from; a name that is no file stays as it is."""
    path = Path((given or "").removeprefix(FOLDER))
    if given and isfile(path):
        return file_state(path)
    if given and given.startswith(FOLDER):
        return {file.relative_to(path).as_posix(): file_state(file) for file in sorted(path.rglob("*.*"))}
    return given


def own_code(*names: str | None) -> list[str]:
    """The digests of the own methods among some names of methods."""
    return [state for name in names if name and (state := state_of(name)) is not None]
