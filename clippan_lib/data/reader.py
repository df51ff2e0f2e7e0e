"""What every reader of a kind of source has, and what those have whose reduced resolution is simulated."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import cast

from clippan_lib.data.geotiff import LargeStack
from clippan_lib.data.manifest import Manifest, Split
from clippan_lib.data.pair.sources import States
from clippan_lib.data.stacks import RESOLUTIONS, MemoryStack, Resolution, SceneStack
from clippan_lib.files import file_state
from clippan_lib.sensors import Sensor

Key = tuple[str, Resolution]


class Reader(ABC):
    """What a kind of source can give. Opening checks what is cheap to check; values are checked when read.

    Args:
        manifest: of the reader's kind.
        root: folder that the manifest's paths are relative to.
    Raises: DataError for files that are missing or not what the manifest says.
    """

    def __init__(self, manifest: Manifest, root: Path) -> None:
        self.manifest, self.source, self.root = manifest, manifest.source, root
        self.sensor: Sensor = manifest.resolve_sensor()
        self.max_value = float(manifest.max_value or self.sensor.max_value)

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

    @property
    def available(self) -> tuple[Key, ...]:
        return tuple((split, resolution) for split in self.parts for resolution in RESOLUTIONS)

    def stack(self, split: str, resolution: Resolution) -> SceneStack:
        measured = self._measured(split)
        return measured if resolution == "full" else measured.degraded()
