"""Finished tiles of an output, on disk until all are there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from clippan_lib.data.pair.names import file_of, parts_of
from clippan_lib.errors import CheckpointError, OutputError
from clippan_lib.files import LOCK, held, read_json, read_tensors, write_json, write_tensors
from clippan_lib.sharpening.job import Job
from clippan_lib.sharpening.output import SceneTile, to_dtype
from clippan_lib.sharpening.tiles import Fused, Tile


class Parts:
    """The folder of finished tiles beside an output; picklable.

    Args:
        out: the output.
        job: whose tiles they are.
        copies: how many files as large as the output are there at once while it is made.
    """

    def __init__(self, out: Path, job: Job, copies: float = 1.0) -> None:
        self.out, self.key = out, job.key
        self.inputs = [file_of(part) for file in job.files for part in parts_of(file)]
        self.dtype, self.ratio = job.dtype, job.pair.ratio
        self.folder = out.with_name(f".{out.name}.tiles")
        # the tiles, and the output made of them, which compression may not make much smaller
        pixels = job.size[0] * job.size[1] * job.pair.n_bands
        self.bytes = (1 + copies) * pixels * np.dtype(self.dtype).itemsize

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder, made anew or as the same job left it; what another job left goes.

        Once all went well it goes too.
        Raises: OutputError if it cannot be made, another process holds it, its disk is too full, or the output is one
            of the inputs.
        """
        if self.out in [file and file.resolve() for file in self.inputs]:
            raise OutputError(
                f"{self.out}: is one of the files to be sharpened; give the output another name"
            )
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise self._unmade(error) from error
        writing = OutputError(
            f"{self.out}: another process is writing it; wait for that, or give the output another name"
        )
        with held(self.folder, writing):
            self._take_up()
            yield
            shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # gone, but on Windows, where the lock stays as long as it is held
            self.folder.rmdir()

    def _take_up(self) -> None:
        record = self.folder / "job.json"
        try:
            if read_json(record) != {"key": self.key}:
                for path in self.folder.iterdir():
                    if path.name != LOCK:
                        path.unlink()
            write_json(record, {"key": self.key})
            kept = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise self._unmade(error) from error
        needed = self.bytes - kept
        if free < needed:
            raise OutputError(
                f"{self.folder}: its disk has {free / 1e9:.2f} GB free, and the fused tiles "
                f"and the output need {needed / 1e9:.2f} GB; make room, or write to another disk"
            )

    def _unmade(self, error: OSError) -> OutputError:
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
        try:
            write_tensors(self.path(tile), tensors)
        except CheckpointError as error:
            raise OutputError(f"{error}; then the same command goes on from here") from error

    def load(self, tile: Tile) -> SceneTile:
        """A tile as it goes into the output.

        Raises: CheckpointError if its file is damaged.
        """
        tensors, _ = read_tensors(self.path(tile), "delete it, and the same command fuses that tile again")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        row, column = (self.ratio * part.start for part in (tile.rows, tile.columns))
        return SceneTile(row, column, arrays["image"], arrays.get("valid"))
