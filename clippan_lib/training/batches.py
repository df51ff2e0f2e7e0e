"""The patches a run visits: drawn by (seed, iteration) alone, and what is computed of them only once."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from clippan_lib.data import PatchSet
from clippan_lib.errors import CheckpointError
from clippan_lib.files import read_tensors, tensors_digest, throw_away, write_tensors
from clippan_lib.training.loop import mix

_CHUNK = 32
_ANEW = "it is thrown away, and computed anew"


def indices(seed: int, iteration: int, n: int, batch: int) -> Int64[Tensor, " size"]:
    """The patches of one iteration: a slice of the permutation of its epoch.

    Within a batch no patch comes twice, which a contrastive loss would take for two scenes; what does not
    fill a batch at the end of an epoch is left out of that epoch. With fewer patches than `batch`, each batch
    is all of them.

    Args:
        seed: seed of the permutations.
        iteration: from 0.
        n: number of patches, at least 1.
        batch: patches per iteration, at least 1.
    """
    per_epoch = max(1, n // batch)
    epoch, place = divmod(iteration, per_epoch)
    generator = torch.Generator().manual_seed(mix(seed, "epoch", epoch))
    return torch.randperm(n, generator=generator)[place * batch : (place + 1) * batch]


class PatchStore:
    """Patches in memory, with what does not change of them, each computed once, when first asked for.

    Runs that differ by seed, or by what they do with the patches, share one.

    Args:
        patches: what is stored.
        device: where things are computed and delivered; the store itself stays in main memory.
    """

    def __init__(self, patches: PatchSet, device: torch.device | str) -> None:
        self.patches, self.device = patches, device
        self._rows: dict[str, Tensor] = {}
        self._known: dict[str, Tensor] = {}

    def images(self, index: Int64[Tensor, " size"]) -> dict[str, Tensor]:
        """lrms, pan (and gt, if there is one) of some patches."""
        missing = self._missing("lrms", index)
        if len(missing):
            read = self.patches.batch(missing)
            given = {"lrms": read.lrms, "pan": read.pan, "gt": read.gt}
            for name, tensor in given.items():
                if tensor is not None:
                    self.put(name, missing, tensor)
        return {name: self._rows[name][index] for name in ("lrms", "pan", "gt") if name in self._rows}

    @torch.no_grad()
    def compute(
        self, name: str, make: Callable[[dict[str, Tensor]], Tensor], index: Int64[Tensor, " size"]
    ) -> None:
        """Compute something of those of the patches that lack it.

        Args:
            name: under which `rows` gives it; things that differ need names that differ.
            make: from the images of some patches to a tensor with one row per patch.
            index: the patches.
        """
        for chunk in self._missing(name, index).split(_CHUNK):
            if len(chunk):
                images = {key: value.to(self.device) for key, value in self.images(chunk).items()}
                self.put(name, chunk, make(images).cpu())

    def put(self, name: str, index: Int64[Tensor, " size"], rows: Tensor) -> None:
        """Store what is known of some patches, one row each, in main memory."""
        if name not in self._rows:
            self._rows[name] = torch.empty(len(self.patches), *rows.shape[1:], dtype=rows.dtype)
            self._known[name] = torch.zeros(len(self.patches), dtype=torch.bool)
        self._rows[name][index] = rows
        self._known[name][index] = True

    def rows(self, name: str, index: Int64[Tensor, " size"]) -> Tensor:
        """What was read or computed under a name, on the device."""
        return self._rows[name][index].to(self.device)

    def _missing(self, name: str, index: Int64[Tensor, " size"]) -> Int64[Tensor, " missing"]:
        known = self._known.get(name)
        return index if known is None else index[~known[index]]


class TrainingSet:
    """The patches that a run of known length visits, iteration by iteration.

    Args:
        store: what is drawn from.
        seed, iterations, batch: as in `indices`.
    """

    def __init__(self, store: PatchStore, *, seed: int, iterations: int, batch: int) -> None:
        n = len(store.patches)
        self._store = store
        self._draw = lambda iteration: indices(seed, iteration, n, batch)
        self._used = torch.cat([self._draw(iteration) for iteration in range(iterations)]).unique()
        self.images = store.images(self._used)
        self._names = {name: name for name in self.images}
        self._once: dict[str, tuple[Callable[[dict[str, Tensor]], Tensor], Path | None]] = {}

    def key(self) -> str:
        """What the images are, for the key of a checkpoint."""
        patches = self._store.patches
        about = f"{patches.sensor} {patches.ratio} {patches.resolution} {len(patches)}"
        return f"{about} {tensors_digest(self.images)}"

    def once(
        self,
        name: str,
        make: Callable[[dict[str, Tensor]], Tensor],
        of: str = "",
        folder: Path | None = None,
    ) -> None:
        """Compute something once per patch, before the first step that is taken; a finished run takes none.

        Args:
            name: under which `at` gives it.
            make: from lrms, pan (and gt) of some patches to a tensor with one row per patch.
            of: what the result depends on besides the patch, such as the weights of a network.
            folder: where the result is kept for other runs that visit the same patches; None keeps it here only.
        """
        self._names[name] = f"{name} {of}"
        self._once[self._names[name]] = make, folder

    def at(self, iteration: int) -> dict[str, Tensor]:
        """The images of an iteration's patches and all that was computed of them, on the device."""
        while self._once:
            name, (make, folder) = self._once.popitem()
            kept = (
                folder
                and folder / f"{hashlib.sha256(f'{self.key()} {name}'.encode()).hexdigest()}.safetensors"
            )
            rows = self._kept_rows(kept) if kept and os.path.lexists(kept) else None
            if rows is not None:
                self._store.put(name, self._used, rows)
                continue
            self._store.compute(name, make, self._used)
            if kept:
                write_tensors(kept, {"rows": self._store.rows(name, self._used)})
        index = self._draw(iteration)
        return {name: self._store.rows(stored, index) for name, stored in self._names.items()}

    def _kept_rows(self, path: Path) -> Tensor | None:
        """What a file keeps, a row for each patch that is visited; None of one that is damaged, which is gone then."""
        try:
            tensors, _ = read_tensors(path, _ANEW, finite=True)
            if tensors.keys() != {"rows"} or len(tensors["rows"]) != len(self._used):
                shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
                raise CheckpointError(
                    f"{path} holds {shapes}, not rows of {len(self._used)} patches; {_ANEW}"
                )
        except CheckpointError as error:
            throw_away(path, error)
            return None
        return tensors["rows"]
