"""Datasets and patches: scenes of a split become batches of equally sized, non-overlapping patches."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from clippan_lib.data.geotiff import least_side
from clippan_lib.data.lowered import LoweredReader
from clippan_lib.data.manifest import Manifest
from clippan_lib.data.pair.sources import States
from clippan_lib.data.reader import Reader
from clippan_lib.data.readers import READERS
from clippan_lib.data.splits import SPLITS, shares_with
from clippan_lib.data.stacks import RESOLUTIONS, Batch, Resolution, Scene, SceneStack, Windows
from clippan_lib.errors import DataError
from clippan_lib.optics import Optics, measure_optics
from clippan_lib.sensors import Sensor

_MEASURED = 256  # LRMS px: largest side of what the optics are measured on


class PatchSet:
    """Square patches that tile every scene of a stack from the top left.

    What does not fill a patch at the bottom and right edges is left out, and so are patches with NoData.

    Args:
        stack: the scenes.
        size: side of a patch in LRMS px.
        stride: step between patches in LRMS px; None is `size`, without overlap. Overlap stays within the split.
        most: number of patches, the first ones, that are kept; None keeps all.
    Raises: DataError if a patch is larger than the scenes, the stride below 1, or NoData in every patch, wherever it is
        laid.
    """

    def __init__(
        self, stack: SceneStack, size: int, stride: int | None = None, most: int | None = None
    ) -> None:
        if not 1 <= size <= min(stack.height, stack.width):
            raise DataError(
                f"{stack.names[0]}: patch size {size} does not fit {stack.height} x {stack.width} LRMS px "
                f"({stack.resolution} resolution); choose 1 to {min(stack.height, stack.width)}"
            )
        if stride is not None and stride < 1:
            raise DataError(f"stride {stride} between patches is below 1; choose 1 to {size}")
        self.stack, self.size = stack, size
        self.stride, places = stack.usable(size, stride or size)
        self._places = places[:most]
        self._columns = (stack.width - size) // self.stride + 1
        self._per_scene = self._columns * ((stack.height - size) // self.stride + 1)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def sensor(self) -> Sensor:
        return self.stack.sensor

    @property
    def ratio(self) -> int:
        return self.stack.sensor.ratio

    @property
    def resolution(self) -> Resolution:
        return self.stack.resolution

    @property
    def has_gt(self) -> bool:
        return self.stack.has_gt

    def scene_of(self, index: int) -> int:
        """The position, in the list of scenes, of the scene that a patch was cut from."""
        return self._places[index] // self._per_scene

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """Patches side by side.

        Args:
            indices: 0..len-1, in any order, repeats allowed, at least one.
        Returns: a batch whose rows follow `indices`.
        Raises: DataError on an index outside the set, or none at all.
        """
        index = torch.as_tensor(indices, dtype=torch.int64).cpu()
        if index.ndim != 1 or not len(index) or index.min() < 0 or index.max() >= len(self):
            raise DataError(
                f"patch indices {index.tolist()} must be a list, not empty, within 0..{len(self) - 1}"
            )
        places = [divmod(self._places[number], self._per_scene) for number in index.tolist()]
        scenes = [scene for scene, _ in places]
        tops = [place // self._columns * self.stride for _, place in places]
        lefts = [place % self._columns * self.stride for _, place in places]
        read = self.stack.read(Windows(scenes, tops, lefts, self.size, self.size))
        return Batch(read.lrms, read.pan, read.gt, index)


def _middle(scene: Scene) -> Batch:
    height, width = min(scene.height, _MEASURED), min(scene.width, _MEASURED)
    return scene.read((scene.height - height) // 2, (scene.width - width) // 2, height, width)


class Most(NamedTuple):
    """What is given of a split at most, see `Dataset.shortened`."""

    scenes: int | None = None
    patches: int | None = None


ALL = Most()


class Dataset:
    """The scenes and patches of one manifest. Open it with `open_dataset`."""

    def __init__(self, manifest: Manifest, reader: Reader, most: Most = ALL) -> None:
        self.manifest, self._reader, self._most = manifest, reader, most
        self._stack = cache(reader.stack)
        self._areas = cache(lambda split, resolution: self._open(split, resolution).areas())

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def sensor(self) -> Sensor:
        return self._reader.sensor

    @property
    def ratio(self) -> int:
        return self.sensor.ratio

    @property
    def n_bands(self) -> int:
        return self.sensor.n_bands

    @property
    def available(self) -> tuple[tuple[str, Resolution], ...]:
        """The (split, resolution) combinations this dataset can give."""
        return self._reader.available

    def state(self) -> States:
        """What tells that the data are still the same, as long as the manifest is.

        Returns: every file that is read, by its path below the data's folder, with its size and the time of its last
            change, or with its digest where the manifest has one. Nothing for scenes that are computed.
        """
        return self._reader.state()

    @property
    def measurable(self) -> bool:
        """Whether measured gains can be used: reduced resolution is made of what was measured at full resolution."""
        return self._reader.simulates

    def measure_optics(self) -> Optics:
        """MTF gains, and the shift between MS and PAN, measured at full resolution.

        On training scenes, so that nothing that is judged is looked at; on test scenes where there are no others. Two
        to four of them, evenly spread, and 256 LRMS px of the middle of each: a few seconds.
        Raises: DataError if there is no scene; ValueError as `optics.measure_optics` does.
        """
        split = "train" if ("train", "full") in self.available else "test"
        scenes = self.scenes(split, "full")
        pixels = min(scenes[0].height, _MEASURED) * min(scenes[0].width, _MEASURED)
        count = min(len(scenes), 4 if 2 * pixels < _MEASURED**2 else 2)
        chosen = {round(at) for at in torch.linspace(0, len(scenes) - 1, count).tolist()}
        read = [_middle(scenes[at]) for at in sorted(chosen)]
        lrms, pan = (torch.cat([getattr(batch, name) for batch in read]) for name in ("lrms", "pan"))
        return measure_optics(lrms, pan, self.ratio, wide=True)

    def through(self, gnyq: tuple[float, ...]) -> "Dataset":
        """The same dataset with other MTF gains than the sensor's, one per band, such as measured ones.

        All that depends on gains follows: what is degraded, methods, training, scores, files of networks.
        Raises: DataError where the source brings its own reduced resolution, made with others.
        """
        return self if gnyq == self.sensor.gnyq else self._with(self._reader.through(gnyq))

    def sharpened_truth(self) -> "Dataset":
        """The same dataset with a sharp truth wherever reduced resolution is simulated.

        Of sensors whose mean gain at Nyquist is 0.25 or more nothing changes; `wald` explains why of others.
        Raises: DataError where the source brings its own reduced resolution.
        """
        return self._with(self._reader.sharpened())

    def lowered(self, judged: bool = False) -> "Dataset":
        """The same dataset one scale down: the setting without a truth, with a truth that judges.

        Its scenes at "full" resolution are those at "reduced" resolution here, and its scenes at "reduced" resolution
        are these degraded once more (Wald's protocol). So what is trained without ground truth at full resolution
        sees degraded LRMS and PAN alone, its pseudo-supervisor is trained one scale lower still, and the LRMS of
        before is the truth. Training scenes come without theirs.

        Args:
            judged: take the test scenes for training too, which is fair where no truth is seen. The lower scale of
                the test scenes is then trained on with its truth, and is not available to be judged.

        >>> from clippan_lib.data import load_manifest
        >>> dataset = open_dataset(load_manifest("data_manifests/synthetic_wv3.yaml"))
        >>> lowered = dataset.lowered()
        >>> dataset.size("test", "reduced"), lowered.size("test", "full"), lowered.size("test", "reduced")
        ((24, 24), (24, 24), (6, 6))
        >>> lowered.has_gt("test", "full"), lowered.has_gt("train", "full")
        (True, False)
        """
        return self._with(LoweredReader(self._reader, judged))

    def shortened(self, scenes: int | None, patches: int | None) -> "Dataset":
        """The same dataset with less of each split, to try in little time whether a run works.

        Args:
            scenes: largest number of scenes that `scenes` gives, the first ones; None gives all.
            patches: largest number of patches, the first ones; None gives all.
        """
        return Dataset(self.manifest, self._reader, Most(scenes, patches))

    def _with(self, reader: Reader) -> "Dataset":
        return Dataset(self.manifest, reader, self._most)

    def size(self, split: str, resolution: str) -> tuple[int, int]:
        """Rows and columns of LRMS, px, of each scene of a split, or of the one that areas are cut from.

        Raises: DataError as `scenes` does.
        """
        stack = self._open(split, resolution)
        return stack.height, stack.width

    def too_small(self, sharp: bool, patch: int = 0) -> str:
        """Which splits of one scene are too small at reduced resolution, and which shares would do; "" if none is.

        Args:
            sharp: whether the truth is halved first, see `wald`.
            patch: side of the patches that are trained on there, LRMS px; 0 if there is no training.
        """
        if self.manifest.source.kind not in ("geotiff", "mat_pair") or self.manifest.split is None:
            return ""
        splits = dict.fromkeys(split for split, resolution in self.available if resolution == "full")
        sizes = {split: self.size(split, "full") for split in splits}
        step = self.ratio * (2 if sharp else 1)
        least = dict.fromkeys(sizes, least_side(self.ratio, step))
        if "train" in least:
            least["train"] = max(least["train"], patch * step)
        small = [split for split, size in sizes.items() if min(size) < least[split]]
        if not small:
            return ""
        along = self.manifest.split.axis == "columns"
        side = sum(size[along] for size in sizes.values())
        shares = shares_with(side, self.manifest.split.fractions, least)
        across = min(size[not along] for size in sizes.values())
        remedy = (
            "give a larger scene"
            if shares is None or across < max(least.values())
            else "give the manifest split: {"
            + ", ".join(f"{name}: {share:g}" for name, share in shares.items())
            + "}"
        )
        said = ", ".join(
            "{0} has {2} x {3} LRMS px and needs {1} x {1}".format(split, least[split], *sizes[split])
            for split in small
        )
        return f"{said} for reduced resolution; {remedy}"

    def has_gt(self, split: str, resolution: str) -> bool:
        """Whether there is a ground truth.

        Raises: DataError as `scenes` does.
        """
        return self._open(split, resolution).has_gt

    def scenes(self, split: str, resolution: str) -> list[Scene]:
        """Whole scenes of a split: of a single scene its region, or areas without NoData if it is a GeoTIFF.

        Areas of which a band or PAN has one value throughout are left out, unless all have, see `unscored`.

        Args:
            split: "train", "val" or "test".
            resolution: "full", as measured, or "reduced", degraded by `ratio` so that a reference exists.
        Raises: DataError if the data cannot give it, saying what there is.

        >>> from clippan_lib.data import load_manifest
        >>> dataset = open_dataset(load_manifest("data_manifests/synthetic_wv3.yaml"))
        >>> scenes = dataset.scenes("test", "reduced")  # nothing is drawn before scenes[0].read()
        >>> len(scenes), scenes[0].height, scenes[0].width
        (5, 24, 24)
        """
        stack = self._areas(split, resolution)
        return [Scene(stack, position) for position in range(len(stack.names))[: self._most.scenes]]

    def unscored(self) -> tuple[str, ...]:
        """Which test areas `scenes` leaves out since nothing could be scored on them, and why; one remark each.

        If no area is left, `scenes` has them all, and the one remark says that they have no scores.
        Raises: NoWindow if a split has no area that is free of NoData.
        """
        stacks = {key: self._areas(*key) for key in self.available}
        said: dict[str, str] = {}
        for (split, _), stack in stacks.items():
            if split == "test":
                said |= {
                    **stack.left_out,
                    **said,
                }  # once, though an area is the same ground at both resolutions
        return tuple(f"{what}: {why}" for what, why in said.items())

    def patches(self, split: str, resolution: str, size: int, stride: int | None = None) -> PatchSet:
        """Patches of a split; those of different splits share no pixel.

        Args:
            split, resolution: as in `scenes`.
            size: side of a patch in LRMS px.
            stride: step between patches in LRMS px; None is `size`, without overlap.
        Raises: DataError if the data cannot give it, saying what there is.
        """
        return PatchSet(self._open(split, resolution), size, stride, self._most.patches)

    def _open(self, split: str, resolution: str) -> SceneStack:
        for what, value, known in (("split", split, SPLITS), ("resolution", resolution, RESOLUTIONS)):
            if value not in known:
                raise DataError(f"{self.name}: {what} {value!r} is unknown; choose one of {', '.join(known)}")
        if (split, resolution) not in self.available:
            have = ", ".join(f"{s} {r}" for s, r in self.available)
            reason = self._reader.absence(split, resolution)
            raise DataError(f"{self.name}: no {split} at {resolution} resolution{reason}; there is: {have}")
        return self._stack(split, resolution)


def open_dataset(manifest: Manifest, data_root: str | Path | None = None) -> Dataset:
    """Open the data a manifest describes; pixels are read when asked for.

    Args:
        manifest: from `load_manifest`.
        data_root: folder the manifest's paths are relative to; None or "" is the manifest's own folder.
    Raises: DataError for files that are missing or not what the manifest says.

    >>> from clippan_lib.data import load_manifest
    >>> dataset = open_dataset(load_manifest("data_manifests/synthetic_wv3.yaml"))
    >>> dataset.available[:2]
    (('train', 'full'), ('train', 'reduced'))
    """
    if not data_root:
        data_root = manifest.file.parent if manifest.file else Path()
    return Dataset(manifest, READERS[manifest.source.kind](manifest, Path(data_root)))
