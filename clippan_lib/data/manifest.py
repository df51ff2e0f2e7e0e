"""Manifests: one YAML file says where a dataset's scenes are, whose they are and how they are split."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from clippan_lib.data.below import below_root
from clippan_lib.data.fields import Block, explain, read_fields
from clippan_lib.data.pair.grid import STILL, Shift
from clippan_lib.data.pair.identity import own_name
from clippan_lib.data.splits import Split
from clippan_lib.errors import ManifestError
from clippan_lib.sensors import Sensor, get_sensor, read_sensor

_Count = Annotated[int, Field(ge=0, le=500)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _all_below_root(paths: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Args: paths: a file, or a file per band."""
    for path in (paths,) if isinstance(paths, str) else paths or ("",):
        below_root(path)
    return paths


_Path = Annotated[str, AfterValidator(below_root)]


class Download(Block):
    """Where one file can be had without login or consent, and its hash if it is known."""

    url: str = Field(pattern="^https?://")
    sha256: _Sha256 | None = None


class SceneCounts(Block):
    train: _Count
    val: _Count
    test: _Count


class MatKeys(Block):
    """Names of the two variables in the .mat file(s)."""

    lrms: str
    pan: str


class SyntheticSource(Block):
    """Procedural scenes with ground truth at full resolution; nothing is read from disk."""

    kind: Literal["synthetic"]
    scenes: SceneCounts
    size: int = Field(ge=16, description="side of PAN, px")
    seed: int = Field(ge=0, le=39)

    @property
    def paths(self) -> tuple[str, ...]:
        """Files, or folders of files, below data_root."""
        return ()


class MatPairSource(Block):
    """One scene in one .mat file (v5, v7 or v7.3): LRMS (row, column, band) and PAN (row, column), DN."""

    kind: Literal["mat_pair"]
    path: _Path
    keys: MatKeys
    sha256: _Sha256 | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Files, or folders of files, below data_root."""
        return (self.path,)


class GeoTiffSource(Block):
    """One scene as delivered: an MS and a PAN GeoTIFF (or VRT) of one place, DN, read by `data.pair.open_pair`.

    `ms` may be a list of files on one grid, with a band each. `bands` says which of the MS file each band of the sensor
    is, by number from 1 or by description, or names those of the sensor that are wanted; without it what the file says
    decides, else the order. `nodata`, `shift`, `georeference` are as for `open_pair`. As scenes a split gives at most
    `areas` squares without NoData.
    """

    kind: Literal["geotiff"]
    ms: Annotated[str | tuple[str, ...], AfterValidator(_all_below_root)]
    pan: _Path
    bands: tuple[Annotated[int, Field(ge=1)], ...] | tuple[str, ...] | None = None
    shift: Shift = STILL
    georeference: bool = True
    nodata: Annotated[float, Field(allow_inf_nan=False)] | Literal["none"] | None = None
    areas: int = Field(default=20, ge=1)

    @property
    def opening(self) -> dict[str, Any]:
        """What is said of the two files, for `open_pair`; no shift where none is said."""
        said = {"bands": self.bands, "nodata": self.nodata, "georeference": self.georeference}
        return said if self.shift == STILL else said | {"shift": self.shift}

    @property
    def paths(self) -> tuple[str, ...]:
        """Files, or folders of files, below data_root."""
        return (self.ms, self.pan) if isinstance(self.ms, str) else (*self.ms, self.pan)


class NbuSource(Block):
    """NBU's two folders of .mat files: the same file name in both is one scene."""

    kind: Literal["nbu"]
    lrms_dir: _Path
    pan_dir: _Path
    keys: MatKeys

    @property
    def paths(self) -> tuple[str, ...]:
        """Files, or folders of files, below data_root."""
        return (self.lrms_dir, self.pan_dir)


class PanCollectionFiles(Block):
    """HDF5 files, NCHW float64 DN; those not listed are not there."""

    train_reduced: _Path | None = None
    val_reduced: _Path | None = None
    test_reduced: _Path | None = None
    test_full: _Path | None = None

    @property
    def listed(self) -> dict[tuple[str, Literal["full", "reduced"]], str]:
        """(split, resolution) -> file."""
        files: dict[tuple[str, Literal["full", "reduced"]], str | None] = {
            ("train", "reduced"): self.train_reduced,
            ("val", "reduced"): self.val_reduced,
            ("test", "reduced"): self.test_reduced,
            ("test", "full"): self.test_full,
        }
        return {key: path for key, path in files.items() if path is not None}

    @model_validator(mode="after")
    def _not_empty(self) -> "PanCollectionFiles":
        if not self.listed:
            raise ValueError(f"no file is listed; give at least one of {', '.join(type(self).model_fields)}")
        return self


class PanCollectionSource(Block):
    """PanCollection's HDF5 files with keys gt (reduced resolution only), ms and pan."""

    kind: Literal["pancollection"]
    files: PanCollectionFiles

    @property
    def paths(self) -> tuple[str, ...]:
        """Files, or folders of files, below data_root."""
        return tuple(self.files.listed.values())


Source = Annotated[
    SyntheticSource | MatPairSource | GeoTiffSource | NbuSource | PanCollectionSource,
    Field(discriminator="kind"),
]


class Manifest(Block):
    """All the package knows of one dataset. Read it with `load_manifest`.

    `sensor` is a name in `clippan_lib.sensors.SENSORS` or a block that describes another sensor. `max_value`
    is what stored values are divided by where that is not the sensor's largest DN (float data: 1.0).
    `split` belongs to sources that are cut here (mat_pair, geotiff, nbu) and to no other. `downloads` says
    where files of the source can be had directly, by path below data_root; a user gets the others by hand.
    """

    name: str = Field(pattern="^[a-z0-9_]+$", max_length=200)
    title: str
    sensor: str | Sensor
    source: Source
    split: Split | None = None
    max_value: float | None = Field(default=None, ge=1e-6, le=2**32, allow_inf_nan=False)
    licence: str
    citation: str
    homepage: str
    how_to_get: str
    downloads: dict[_Path, Download] = Field(default_factory=dict)
    _file: Path | None = PrivateAttr(default=None)

    @field_validator("sensor")
    @classmethod
    def _known_sensor(cls, value: str | Sensor) -> str | Sensor:
        if isinstance(value, str):
            get_sensor(value)
        return value

    @model_validator(mode="after")
    def _parts_agree(self) -> "Manifest":
        kind, cut_here = self.source.kind, isinstance(self.source, MatPairSource | GeoTiffSource | NbuSource)
        if cut_here and self.split is None:
            raise ValueError(
                f"split is missing; give a {kind} source shares, e.g. train 0.6, val 0.2, test 0.2"
            )
        if not cut_here and self.split is not None:
            raise ValueError(f"split is given, but a {kind} source brings its own; remove it")
        if isinstance(self.source, SyntheticSource) and self.source.size % self.resolve_sensor().ratio ** 2:
            step = self.resolve_sensor().ratio ** 2
            raise ValueError(f"source.size {self.source.size} must be a multiple of ratio squared, {step}")
        return self

    @model_validator(mode="after")
    def _bands_are_the_sensors(self) -> "Manifest":
        if not isinstance(self.source, GeoTiffSource) or self.source.bands is None:
            return self
        bands, sensor = self.source.bands, self.whole_sensor()
        names = self._named_bands()
        if all(names):
            sensor.only(names)  # refuses one that stands twice
            return self
        if len(bands) != sensor.n_bands:
            raise ValueError(
                f"source.bands lists {len(bands)}, but sensor {sensor.name} has {sensor.n_bands}; give one for each, "
                f"names of those you want ({', '.join(sensor.bands)}), or describe a sensor that has only those"
            )
        for band, name, own in zip(bands, names, sensor.bands, strict=True):
            if name not in ("", own):
                raise ValueError(
                    f"source.bands has {band} where sensor {sensor.name} has {own}; keep to its order, "
                    f"{', '.join(sensor.bands)}"
                )
        return self

    def _named_bands(self) -> list[str]:
        """The sensor's own names of `source.bands`, "" where it is a number, or a description of another meaning."""
        bands = self.source.bands or () if isinstance(self.source, GeoTiffSource) else ()
        return [own_name(band, self.whole_sensor()) if isinstance(band, str) else "" for band in bands]

    @model_validator(mode="after")
    def _downloads_are_of_the_source(self) -> "Manifest":
        for path, download in self.downloads.items():
            if not {path, str(PurePosixPath(path).parent)} & set(self.source.paths):
                named = ", ".join(self.source.paths) or "nothing"
                raise ValueError(f"downloads has {path}, but the source reads {named}; correct one of them")
            if download.sha256 is not None and isinstance(self.source, MatPairSource):
                raise ValueError(
                    f"downloads.{path}.sha256: a mat_pair source states it as source.sha256; move it"
                )
        return self

    @property
    def file(self) -> Path | None:
        """The file this manifest was read from, None if it was made in memory."""
        return self._file

    def whole_sensor(self) -> Sensor:
        """The sensor's row: from the table, or built from the manifest's own block."""
        return get_sensor(self.sensor) if isinstance(self.sensor, str) else self.sensor

    def resolve_sensor(self) -> Sensor:
        """The sensor with the bands that the source has: all, or those that `source.bands` names, in that order."""
        names = self._named_bands()
        return self.whole_sensor().only(names) if names and all(names) else self.whole_sensor()

    def sha256(self, path: str) -> str | None:
        """The hash stated for a file (by its path below data_root), None if none is."""
        if isinstance(self.source, MatPairSource):
            return self.source.sha256 if path == self.source.path else None
        return self.downloads[path].sha256 if path in self.downloads else None

    def digest(self) -> str:
        """SHA-256 of the content (comments and layout do not count), as hexadecimal text."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest.

    Args:
        path: a YAML file; paths inside it are relative to the data root given to `open_dataset`.
    Returns: the manifest, which remembers its file.
    Raises: ManifestError naming file, field, value and remedy.

    >>> manifest = load_manifest("data_manifests/synthetic_wv3.yaml")
    >>> manifest.name, manifest.resolve_sensor().name
    ('synthetic_wv3', 'WV3')
    """
    path = Path(path)
    content = read_fields(path, "a manifest")
    try:
        # through JSON, whose strict mode still takes a list for a tuple
        manifest = Manifest.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise ManifestError("\n".join(explain(path, item) for item in error.errors())) from error
    manifest._file = path
    return manifest


def load_sensor(path: str | Path) -> Sensor:
    """Read a sensor that the package does not know: the block `sensor` of a manifest, as a file of its own.

    Args:
        path: a YAML file with name, bands, bits, ratio, gnyq, gnyq_pan, rgb and gbnir.
    Raises: ManifestError naming file, field, value and remedy.
    """
    path = Path(path)
    try:
        return read_sensor(read_fields(path, "a sensor"))
    except ValidationError as error:
        raise ManifestError("\n".join(explain(path, item) for item in error.errors())) from error
