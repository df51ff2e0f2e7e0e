"""Refusals of outputs before anything is computed: of what cannot be written, and of what would replace an input."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from clippan_lib.data.pair.names import read_name
from clippan_lib.data.pair.sources import files_of
from clippan_lib.sharpening.output import target_of, written_with
from clippan_lib.sharpening.parts import folder_of
from clippan_lib.targets import refuse_replacing, refuse_unwritable

_LOCAL = "local-dir:"  # before the folder of a CLIP


def refuse_output(options: argparse.Namespace, networks: Sequence[Path]) -> None:
    """Look at the file that `clippan sharpen` is to write, and at the folder of its finished tiles.

    Args:
        options: options of the command.
        networks: files, or folders of runs, that are given as the method.
    Raises: OutputError saying why it cannot be; DataError where an image has a name that none can have.
    """
    refuse_unwritable(options.out)
    out = target_of(options.out)
    refuse_replacing(written_with(out), _given(options, networks))
    folder_of(out)


def refuse_folder(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Look at the folder, which may still have to be made, that `clippan compare` is to write into.

    Args:
        options: options of the command.
        names: names of the files that it writes.
    Raises: as `refuse_output`.
    """
    written = [options.out / name for name in names]
    for file in written:
        refuse_unwritable(file, made=True)
    refuse_replacing(written, _given(options, options.networks))


def _given(options: argparse.Namespace, networks: Sequence[Path]) -> list[Path]:
    """Every file by which a command is given a scene, a sensor, words or networks."""
    found = files_of([read_name(name) for name in (*options.ms, options.pan)])
    clip = str(vars(options).get("clip_model"))
    if clip.startswith(_LOCAL):
        found += Path(clip.removeprefix(_LOCAL)).glob("*")
    named = (options.sensor, vars(options).get("clip_weights"))
    found += [Path(name) for name in named if name and Path(name).is_file()]
    return [*found, *(file for path in networks for file in ([path] if path.is_file() else _of_run(path)))]


def _of_run(folder: Path) -> list[Path]:
    """What is read where a run's folder is given for its network."""
    from clippan_lib.runs.folder import SETTINGS, RunFolder  # the settings of a run: half a second to import

    return [folder / SETTINGS, *RunFolder(folder).networks]
