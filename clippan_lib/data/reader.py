"""What every reader of a kind of source has, and what those have whose reduced resolution is simulated."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from clippan_lib.data.below import find_below
from clippan_lib.data.geotiff import LargeStack
from clippan_lib.data.manifest import Manifest
from clippan_lib.data.pair.sources import States
from clippan_lib.data.splits import Split
from clippan_lib.data.stacks import RESOLUTIONS, MemoryStack, Resolution, SceneStack
from clippan_lib.errors import DataError
from clippan_lib.files import file_state
from clippan_lib.sensors import Sensor

Key = tuple[str, Resolution]


class Reader(ABC):
    """What a kind of source can give. Opening checks what is cheap to check; values are checked when read.

    What its stacks depend on beside the source, `sensor` and `sharp_truth`, is set before any is made: see `again`.

    Args:
        manifest: manifest of the reader's kind.
        root: folder that the manifest's paths are relative to.
    Raises: DataError for files that are missing, not what the manifest says, or outside of the folder.
    """

    sharp_truth = False
    simulates = False  # whether reduced resolution is made of what was measured

    def __init__(self, manifest: Manifest, root: Path) -> None:
        self.manifest, self.source, self.root = manifest, manifest.source, root
        self.sensor: Sensor = manifest.resolve_sensor()
        self.max_value = float(manifest.max_value or self.sensor.max_value)
        for path in self.source.paths:
            find_below(root, path)

    def again(self, **changed: Any) -> "Reader":
        """The same source, opened once more.

        Args:
            changed: `sensor` or `sharp_truth`, if not as they are here.
        """
        opened = type(self)(self.manifest, self.root)
        opened.sensor = changed.get("sensor", self.sensor)
        opened.sharp_truth = changed.get("sharp_truth", self.sharp_truth)
        return opened

    def through(self, gnyq: tuple[float, ...]) -> "Reader":
        """The same source seen with other MTF gains, one per band.

        Raises: DataError where the source brings its own reduced resolution.
        """
        raise DataError(
            f"{self.manifest.name}: gains='measured' would not be those that its reduced resolution was made with, "
            f"which a source of kind {self.source.kind} brings; keep gains='table'"
        )

    def sharpened(self) -> "Reader":
        """The same source with a sharp truth wherever reduced resolution is simulated, see `wald`.

        Raises: DataError where the source brings its own reduced resolution.
        """
        raise DataError(
            f"{self.manifest.name}: truth='sharp' resizes measured scenes before they are degraded, and a source of "
            f"kind {self.source.kind} brings reduced resolution and truth as they are; keep truth='delivered'"
        )

    def absence(self, split: str, resolution: str) -> str:
        """Why a combination is not available, if there is more to say than that."""
        return ""

    @property
    @abstractmethod
    def available(self) -> tuple[Key, ...]:
        """The (split, resolution) combinations there are."""

    @abstractmethod
    def stack(self, split: str, resolution: Resolution) -> SceneStack:
        """The scenes of an available combination."""

    def state(self) -> States:
        """What tells that the data are still the same; see `Dataset.state`."""
        return {path: file_state(self.root / path) for path in self.source.paths}


class MeasuredReader(Reader):
    """A source of full-resolution scenes; reduced resolution is simulated from them, split by split."""

    simulates = True

    def __init__(self, manifest: Manifest, root: Path) -> None:
        super().__init__(manifest, root)
        self._measured = cache(self.measured)

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, range | slice | list[str]]:
        """What each split that is not empty is made of: seeds, a slice of the scene's side, or files."""

    @abstractmethod
    def measured(self, split: str) -> MemoryStack | LargeStack:
        """The split's scenes at full resolution."""

    @property
    def shares(self) -> Split:
        """How the manifest cuts the source."""
        return cast(Split, self.manifest.split)  # `Manifest` refuses a kind that is cut here without it

    def through(self, gnyq: tuple[float, ...]) -> Reader:
        return self.again(sensor=replace(self.sensor, gnyq=tuple(gnyq), measured=True))

    def sharpened(self) -> Reader:
        return self.again(sharp_truth=True)

    @property
    def available(self) -> tuple[Key, ...]:
        return tuple((split, resolution) for split in self.parts for resolution in RESOLUTIONS)

    def stack(self, split: str, resolution: Resolution) -> SceneStack:
        measured = self._measured(split)
        return measured if resolution == "full" else measured.degraded(self.sharp_truth)
