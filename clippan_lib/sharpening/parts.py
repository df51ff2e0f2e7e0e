"""Finished tiles of an output, on disk until all are there."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from clippan_lib.errors import CheckpointError, OutputError
from clippan_lib.files import (
    LOCK,
    held,
    keep,
    kept,
    read_tensors,
    write_tensors,
)
from clippan_lib.sharpening.job import Job
from clippan_lib.sharpening.output import SceneTile, to_dtype, written_with
from clippan_lib.sharpening.tiles import Fused, Tile
from clippan_lib.targets import refuse_replacing, refuse_unwritable

MARK = ".clippan-tiles"  # in every folder that was made here
RECORD = "job.json"
_TILE = r"\d+_\d+\.safetensors"
_OURS = re.compile(rf"{re.escape(MARK)}|{re.escape(LOCK)}|\.?({re.escape(RECORD)}|{_TILE})(\.\d+\.tmp)?")
_LOG = logging.getLogger(__name__)


def folder_of(out: Path) -> Path:
    """Where the finished tiles of an output are.

    Raises: OutputError if what has that name was not made here, or holds what was not: it is left as it is.
    """
    folder = out.with_name(f".{out.name}.tiles")
    if not os.path.lexists(folder):
        return folder
    if folder.is_symlink() or not folder.is_dir() or not (folder / MARK).is_file():
        raise OutputError(
            f"{folder}: is no folder that CLIPPan made, which would keep finished tiles there; move it away, or give "
            "the output another name"
        )
    for path in folder.iterdir():
        if path.is_symlink() or not path.is_file() or not _OURS.fullmatch(path.name):
            raise OutputError(
                f"{path}: was not written by CLIPPan, which keeps finished tiles in that folder and removes it in the "
                "end; move it away, or give the output another name"
            )
    return folder


class Parts:
    """The folder of finished tiles beside an output; picklable.

    Args:
        out: the output.
        job: whose tiles they are.
        copies: how many files as large as the output are there at once while it is made.
    """

    def __init__(self, out: Path, job: Job, copies: float = 1.0) -> None:
        self.out, self.key, self.read = out, job.key, job.read
        self.dtype, self.ratio, self.bands = job.dtype, job.pair.ratio, job.pair.n_bands
        self.folder = out.with_name(f".{out.name}.tiles")
        # the tiles, and the output made of them, which compression may not make much smaller
        pixels = job.size[0] * job.size[1] * self.bands
        self.bytes = (1 + copies) * pixels * np.dtype(self.dtype).itemsize

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder, made anew or as the same job left it; what another job left goes.

        Once all went well it goes too, and so it does where not one tile was finished.
        Raises: OutputError if it cannot be made, another process holds it, its disk is too full, what has its name is
            not ours, or the output cannot be written or is one of the files that the job reads.
        """
        refuse_unwritable(self.out)
        refuse_replacing(written_with(self.out), self.read)
        writing = OutputError(
            f"{self.out}: another process is writing it; wait for that, or give the output another name"
        )
        try:
            _make(folder_of(self.out))
        except OSError as error:
            raise self._unmade(error) from error
        with held(self.folder, writing):
            try:
                self._take_up()
                yield
            except BaseException:
                if not self._tiles:
                    self._clear()
                raise
            self._clear()
        with suppress(OSError):  # gone, but on Windows, where the lock stays as long as it is held
            self.folder.rmdir()

    def _take_up(self) -> None:
        record = self.folder / RECORD
        try:
            same = kept(record) == {"key": self.key}
            there = sum(path.stat().st_size for path in self._tiles)
            free = shutil.disk_usage(self.folder).free
            if free < self.bytes - there:
                raise OutputError(
                    f"{self.folder}: its disk has {free / 1e9:.2f} GB free, and the fused tiles "
                    f"and the output need {(self.bytes - there) / 1e9:.2f} GB; make room, or write to another disk"
                )
            if not same:
                for path in self._tiles:
                    path.unlink()
                keep(record, {"key": self.key})
        except OutputError:
            raise
        except OSError as error:
            raise self._unmade(error) from error

    @property
    def _tiles(self) -> list[Path]:
        """The files of finished tiles, of whatever job."""
        return [path for path in self.folder.glob("*") if re.fullmatch(_TILE, path.name)]

    def _clear(self) -> None:
        """Remove the folder with what was written there, and nothing else; the mark goes last."""
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == MARK):
            if _OURS.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def _unmade(self, error: OSError) -> OutputError:
        if isinstance(error, OutputError):
            return error
        return OutputError(
            f"{self.folder}: cannot be made ({error.strerror}); name an output in a folder that can be written"
        )

    def path(self, tile: Tile) -> Path:
        return self.folder / f"{tile.rows.start}_{tile.columns.start}.safetensors"

    def save(self, tile: Tile, fused: Fused) -> None:
        """Keep a tile, at once or not at all.

        Raises: OutputError if it cannot be written.
        """
        tensors = {"image": torch.from_numpy(to_dtype(fused.hrms, self.dtype))}
        if not fused.valid.all():
            tensors["valid"] = fused.valid[0, 0]
        if not self.folder.is_dir():  # a worker of a job that was stopped
            raise OutputError(f"{self.folder}: is gone; another process has stopped or finished this job")
        try:
            write_tensors(self.path(tile), tensors, self._said(tile))
        except CheckpointError as error:
            raise OutputError(f"{error}; then the same command goes on from here") from error

    def _said(self, tile: Tile) -> dict[str, str]:
        return {"tile": f"{self.path(tile).stem} of job {self.key}"}

    def has(self, tile: Tile) -> bool:
        """Whether a tile is there as it was written; one that is not is named, and thrown away."""
        if not self.path(tile).exists():
            return False
        try:
            self.load(tile)
        except CheckpointError as error:
            _LOG.warning("%s", error)
            self.path(tile).unlink()
            return False
        return True

    def load(self, tile: Tile) -> SceneTile:
        """A tile as it goes into the output.

        Raises: CheckpointError if its file is cut short, altered, or another's.
        """
        path, remedy = self.path(tile), "it is thrown away, and that tile fused again"
        tensors, said = read_tensors(path, remedy)
        size = [self.ratio * (part.stop - part.start) for part in (tile.rows, tile.columns)]
        seen = {name: (tensor.dtype, [*tensor.shape]) for name, tensor in tensors.items()}
        expected = {"valid": (torch.bool, size), "image": (getattr(torch, self.dtype), [self.bands, *size])}
        if said != self._said(tile) or seen not in (expected, {"image": expected["image"]}):
            raise CheckpointError(f"{path} is not as it was written, or another tile; {remedy}")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        row, column = (self.ratio * part.start for part in (tile.rows, tile.columns))
        return SceneTile(row, column, arrays["image"], arrays.get("valid"))


def _make(folder: Path) -> None:
    """Make a folder with its mark, both at once, unless it is there."""
    if folder.exists():
        return
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        fresh.mkdir()
        (fresh / MARK).touch()
        os.rename(fresh, folder)
    except OSError:
        if not folder.exists():  # else another process was faster
            raise
    finally:
        with suppress(OSError):
            (fresh / MARK).unlink(missing_ok=True)
            fresh.rmdir()
