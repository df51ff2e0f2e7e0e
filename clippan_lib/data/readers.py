"""Readers: one small class per kind of source; each gives the stack of scenes of a split at a resolution."""

import os
import re
from functools import cache, cached_property
from itertools import product
from pathlib import Path

import torch

from clippan_lib.data.arrays import (
    Region,
    check_exists,
    check_mat_layout,
    check_ratio,
    mat_shapes,
    read_mat,
    to_unit,
)
from clippan_lib.data.below import find_below
from clippan_lib.data.bounds import refuse_unheld
from clippan_lib.data.geotiff import LargeStack, Mask, complete
from clippan_lib.data.hdf5 import Hdf5Stack
from clippan_lib.data.manifest import (
    GeoTiffSource,
    Manifest,
    MatPairSource,
    NbuSource,
    PanCollectionSource,
    SyntheticSource,
)
from clippan_lib.data.pair import open_pair
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.sources import States, refuse_outside, states_read
from clippan_lib.data.reader import Key, MeasuredReader, Reader
from clippan_lib.data.splits import cut_side, deal
from clippan_lib.data.stacks import Batch, MemoryStack, Resolution, SceneStack
from clippan_lib.data.synthetic import render
from clippan_lib.errors import DataError
from clippan_lib.files import file_digest, file_state

SPLIT_SEEDS = {"train": 0, "val": 60_000, "test": 80_000}
ALONE = torch.zeros(1, dtype=torch.int64)  # index of a batch of one
# GeoTIFF pairs, lengths in LRMS px
GAP = 16  # between splits: no MS pixel is reached from both sides by the interpolation of `open_pair`
LEAST = 32  # sides of a split, for the block-wise metrics
SCAN = 512  # side of the windows in which NoData is looked for
OVERSHOOT = 0.6  # of that interpolation, where 2 x 2 MS px are saturated among zeros; an edge has 0.13


class SyntheticReader(MeasuredReader):
    """Scenes drawn from seeds: those of different splits are disjoint, whatever the manifest's seed."""

    source: SyntheticSource

    @cached_property
    def parts(self) -> dict[str, range]:
        """Each split's seeds, all under 100 000."""
        counts, seed = self.source.scenes.model_dump(), self.source.seed
        firsts = {split: SPLIT_SEEDS[split] + 500 * seed for split, count in counts.items() if count}
        return {split: range(first, first + counts[split]) for split, first in firsts.items()}

    def measured(self, split: str) -> MemoryStack:
        seeds, side = self.parts[split], self.source.size // self.sensor.ratio

        def load(index: int) -> Batch:
            # what lies there does not change with what is measured of it
            scene = render(seeds[index], self.manifest.resolve_sensor(), self.source.size)
            return Batch(scene["lrms"][None], scene["pan"][None], scene["gt"][None], ALONE)

        names = tuple(f"seed_{seed}" for seed in seeds)
        return MemoryStack(names, self.sensor, "full", side, side, True, self.max_value, load)


class MatReader(MeasuredReader):
    """What the two kinds of .mat sources share."""

    source: MatPairSource | NbuSource

    def pair_size(self, lrms: Path, pan: Path) -> tuple[int, int]:
        """Rows and columns of LRMS, once the headers of both files are found to be right."""
        keys = self.source.keys
        [of_lrms], [of_pan] = mat_shapes(lrms, keys.lrms), mat_shapes(pan, keys.pan)
        size = check_mat_layout(lrms, keys.lrms, of_lrms, self.sensor)
        check_ratio(pan, size, of_pan, self.sensor)
        refuse_unheld(
            f"{lrms}", (of_lrms, of_pan), "cut the scene, or store it as GeoTIFFs, which are read by windows"
        )
        return size

    def load_pair(self, lrms: Path, pan: Path, region: Region) -> Batch:
        """A region (in LRMS px) of the scene in a pair of files."""
        keys, ratio = self.source.keys, self.sensor.ratio
        rows, columns = (slice(ratio * side.start, ratio * side.stop) for side in region)
        ms = to_unit(read_mat(lrms, keys.lrms, region), f"{lrms}: key {keys.lrms!r}", self.max_value)
        pan_image = to_unit(
            read_mat(pan, keys.pan, (rows, columns)), f"{pan}: key {keys.pan!r}", self.max_value
        )
        return Batch(ms.permute(2, 0, 1)[None].contiguous(), pan_image[None, None], None, ALONE)


class MatPairReader(MatReader):
    """One scene, its sides cut into the splits' regions before anything is degraded."""

    source: MatPairSource

    def __init__(self, manifest: Manifest, root: Path) -> None:
        super().__init__(manifest, root)
        self.path = root / self.source.path
        check_exists(self.path)
        self._check_hash()
        self.size = self.pair_size(self.path, self.path)

    def _check_hash(self) -> None:
        if self.source.sha256 is None:
            return
        seen = file_digest(self.path)
        if seen != self.source.sha256:
            raise DataError(
                f"{self.path}: sha256 is {seen}, the manifest says {self.source.sha256}; "
                "get the file again, or correct the manifest if you mean this file"
            )

    def state(self) -> States:
        """The digest, where opening compared it with the file."""
        return super().state() if self.source.sha256 is None else {self.source.path: self.source.sha256}

    @cached_property
    def parts(self) -> dict[str, slice]:
        """The splits' slices along the manifest's axis, in LRMS px."""
        side = self.size[self.shares.axis == "columns"]
        try:
            return cut_side(side, self.shares.fractions, self.sensor.ratio)
        except ValueError as error:
            raise DataError(f"{self.path}: {error}") from error

    def measured(self, split: str) -> MemoryStack:
        rows, columns = (slice(0, side) for side in self.size)
        part = self.parts[split]
        region = (rows, part) if self.shares.axis == "columns" else (part, columns)
        height, width = (side.stop - side.start for side in region)

        def load(_: int) -> Batch:
            return self.load_pair(self.path, self.path, region)

        return MemoryStack(
            (f"{self.manifest.name}_{split}",),
            self.sensor,
            "full",
            height,
            width,
            False,
            self.max_value,
            load,
        )


class GeoTiffReader(MeasuredReader):
    """One scene as delivered, its sides cut into the splits' regions before anything is degraded.

    MS values are those that `data.pair.open_pair` interpolates, clipped to [0, max_value]; PAN values are those
    stored. A split is read once, window by window, to find its NoData and values that are refused.
    """

    source: GeoTiffSource

    def __init__(self, manifest: Manifest, root: Path) -> None:
        super().__init__(manifest, root)
        for path in self.source.paths:
            check_exists(root / path)
        self.ms, self.pan = located([root / path for path in self.source.paths[:-1]]), root / self.source.pan
        refuse_outside((self.ms, self.pan), root)
        # where some of its bands lie in a file that says nothing, only the whole sensor knows
        self.pair = open_pair(self.ms, self.pan, sensor=manifest.whole_sensor(), **self.source.opening)
        if self.pair.band_names != self.sensor.bands:
            raise DataError(
                f"{self.ms}: has bands {', '.join(self.pair.band_names)} of sensor {self.sensor.name}, which has "
                f"{', '.join(self.sensor.bands)}; give as `bands` the names of those in the file"
            )
        # which pixels hold data is kept of all of them
        refuse_unheld(f"{self.ms}", [(self.pair.height, self.pair.width)], "cut the scene", each=1)
        self._valid = cache(self._find_valid)

    def state(self) -> States:
        """Of all files that GDAL reads, such as those behind a VRT."""
        found = states_read([self.ms, self.pan])
        return {os.path.relpath(name, self.root): state for name, state in found.items()}

    @cached_property
    def parts(self) -> dict[str, slice]:
        """The splits' slices along the manifest's axis, in LRMS px of the common grid; gaps between them."""
        split, size = self.shares, (self.pair.height, self.pair.width)
        shares = {name: share for name, share in split.fractions.items() if share}
        side = size[split.axis == "columns"] - GAP * (len(shares) - 1)
        if min(size) < LEAST or min(shares.values()) * side < LEAST:
            raise DataError(
                f"{self.ms}: {size[0]} x {size[1]} LRMS px, cut along {split.axis} into {len(shares)} splits "
                f"{GAP} px apart, leave one with less than {LEAST} x {LEAST}; give fewer splits a share, "
                "or the smallest a larger one"
            )
        cut = cut_side(side, shares, self.sensor.ratio)
        return {
            name: slice(part.start + GAP * before, part.stop + GAP * before)
            for before, (name, part) in enumerate(cut.items())
        }

    def region(self, split: str) -> Region:
        """Rows and columns of a split, in LRMS px of the common grid."""
        part = self.parts[split]
        by_columns = self.shares.axis == "columns"
        return (slice(0, self.pair.height), part) if by_columns else (part, slice(0, self.pair.width))

    def measured(self, split: str) -> LargeStack:
        region, valid = self.region(split), self._valid(split)

        def load(*window: slice) -> Batch:
            sides = zip(region, window, strict=True)
            rows, columns = (slice(a.start + b.start, a.start + b.stop) for a, b in sides)
            return self._read((rows, columns))[0]

        name = (f"{self.manifest.name}_{split}",)
        height, width = valid.shape
        return LargeStack(
            name,
            self.sensor,
            "full",
            height,
            width,
            False,
            self.max_value,
            load,
            valid,
            self.source.areas,
        )

    def _find_valid(self, split: str) -> Mask:
        rows, columns = (
            [slice(at, min(at + SCAN, side.stop)) for at in range(side.start, side.stop, SCAN)]
            for side in self.region(split)
        )
        return torch.cat([torch.cat([self._read((row, column))[1] for column in columns], 1) for row in rows])

    def _read(self, region: Region) -> tuple[Batch, Mask]:
        """A region of the scene, and its LRMS pixels that hold no NoData, neither themselves nor in PAN."""
        window = self.pair.read(*region)
        where = "rows {0.start}..{0.stop}, columns {1.start}..{1.stop} (LRMS px)".format(*region)
        lrms = to_unit(window.lrms.numpy(), f"{self.ms}: {where}", self.max_value, OVERSHOOT).clamp(0, 1)
        pan = to_unit(window.pan.numpy(), f"{self.pan}: {where}", self.max_value)
        ratio = self.sensor.ratio
        valid = window.lrms_valid[0, 0] & complete(window.pan_valid[0, 0], ratio, ratio)
        return Batch(lrms, pan, None, ALONE), valid


def _numbers_by_value(name: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


class NbuReader(MatReader):
    """Two folders of .mat files, paired by name; the sorted scenes are dealt evenly to the splits.

    The collection of Meng et al. 2021 [meng2021large]. Evenly, because its numbers run through one land cover
    after the other.
    """

    source: NbuSource

    def __init__(self, manifest: Manifest, root: Path) -> None:
        super().__init__(manifest, root)
        self.lrms_dir, self.pan_dir = root / self.source.lrms_dir, root / self.source.pan_dir
        self.files = self._paired_names()
        first = self.files[0]
        self.size = self.pair_size(self.lrms_dir / first, self.pan_dir / first)

    def _paired_names(self) -> list[str]:
        found = [
            {path.name for path in folder.glob("*.mat")} if os.path.isdir(folder) else set()
            for folder in (self.lrms_dir, self.pan_dir)
        ]
        for folder, names in zip((self.lrms_dir, self.pan_dir), found, strict=True):
            if not names:
                raise DataError(f"{folder}: zero scenes, no .mat file; see how_to_get, check data_root")
        if found[0] != found[1]:
            alone = sorted(found[0] ^ found[1])
            raise DataError(
                f"{self.lrms_dir} and {self.pan_dir}: {len(alone)} files lack a partner of the same name, "
                f"e.g. {alone[:3]}; get them again or remove them"
            )
        for within, name in product((self.source.lrms_dir, self.source.pan_dir), found[0]):
            find_below(self.root, f"{within}/{name}")
        return sorted(found[0], key=_numbers_by_value)

    def state(self) -> States:
        folders = (self.source.lrms_dir, self.source.pan_dir)
        names = (f"{folder}/{name}" for folder in folders for name in self.files)
        return {name: file_state(self.root / name) for name in names}

    @cached_property
    def parts(self) -> dict[str, list[str]]:
        return deal(self.files, self.shares.fractions)

    def measured(self, split: str) -> MemoryStack:
        files = self.parts[split]

        def load(index: int) -> Batch:
            lrms, pan = self.lrms_dir / files[index], self.pan_dir / files[index]
            size = self.pair_size(lrms, pan)
            if size != self.size:
                raise DataError(f"{lrms}: LRMS is {size}, {self.files[0]} has {self.size}; all must be equal")
            height, width = size
            return self.load_pair(lrms, pan, (slice(0, height), slice(0, width)))

        names = tuple(Path(file).stem for file in files)
        return MemoryStack(names, self.sensor, "full", *self.size, False, self.max_value, load)


class PanCollectionReader(Reader):
    """PanCollection's HDF5 files (Deng et al. 2022 [deng2022machine]); each holds one split at one resolution.

    Their `lms` is not used.
    """

    source: PanCollectionSource

    def __init__(self, manifest: Manifest, root: Path) -> None:
        super().__init__(manifest, root)
        paths = [root / path for path in self.source.files.listed.values()]
        if not any(map(os.path.isfile, paths)):
            names = ", ".join(self.source.files.listed.values())
            raise DataError(f"{root}: none of {names} is there; see how_to_get, check data_root")

    @property
    def available(self) -> tuple[Key, ...]:
        return tuple(self.source.files.listed)

    def stack(self, split: str, resolution: Resolution) -> SceneStack:
        path = self.root / self.source.files.listed[split, resolution]
        return Hdf5Stack(path, self.sensor, resolution, self.max_value)


READERS: dict[str, type[Reader]] = {
    "synthetic": SyntheticReader,
    "mat_pair": MatPairReader,
    "geotiff": GeoTiffReader,
    "nbu": NbuReader,
    "pancollection": PanCollectionReader,
}
