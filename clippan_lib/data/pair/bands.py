"""Which bands of an MS file are wanted, what they are called, and what masks them."""

from collections.abc import Sequence

from rasterio import DatasetReader
from rasterio.enums import MaskFlags

from clippan_lib.data.pair.raster import alpha_bands
from clippan_lib.errors import DataError
from clippan_lib.sensors import Sensor


def select_bands(
    ms: DatasetReader, bands: Sequence[int] | Sequence[str] | None, sensor: Sensor | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Numbers of the wanted bands in the file, and their names."""
    alpha = () if _counts_all(ms, sensor) else alpha_bands(ms)
    stored = [number for number in ms.indexes if number not in alpha]
    wanted = bands if bands is not None else sensor.bands if sensor else stored
    if min(len(stored), len(wanted)) < 2:
        raise DataError(
            f"{ms.name}: MS has {len(stored)} band, of which {len(wanted)} is wanted; two or more are needed: "
            "stack single-band files with gdalbuildvrt -separate, or give more `bands`"
        )
    described = {number: plain(ms.descriptions[number - 1] or f"band_{number}") for number in ms.indexes}
    if asked := [number for number in wanted if isinstance(number, int)]:
        numbers = [number for number in asked if number in described]
        names = [*sensor.bands] if sensor else [described[number] for number in numbers]
    else:
        places = {name: number for number, name in described.items()}
        names = [plain(name) for name in wanted if isinstance(name, str)]
        own_names = [*map(plain, sensor.bands)] if sensor else []
        if len(own_names) == len(stored) and places.keys().isdisjoint(own_names):
            places = dict(zip(own_names, stored, strict=True))
        numbers = [places[name] for name in names if name in places]
    if not len(numbers) == len(names) == len(wanted):
        raise DataError(
            f"{ms.name}: bands {', '.join(map(str, wanted))} are wanted"
            + (f" for sensor {sensor.name} of {sensor.n_bands} bands" if sensor else "")
            + f", but the file has {len(stored)} ({', '.join(described[number] for number in stored)}); correct "
            "`sensor`, or give as `bands` the number in the file, from 1, of each band"
        )
    return tuple(numbers), tuple(names)


def mask_of(
    ms: DatasetReader, numbers: tuple[int, ...], sensor: Sensor | None
) -> tuple[tuple[int, ...], bool]:
    """The alpha channels, and whether the file's mask counts: not where it is a band that is called alpha."""
    called = alpha_bands(ms)
    if called.isdisjoint(numbers) and not _counts_all(ms, sensor):
        return tuple(called), True
    return (), not any(MaskFlags.alpha in flags for flags in ms.mask_flag_enums)


def _counts_all(ms: DatasetReader, sensor: Sensor | None) -> bool:
    return sensor is not None and sensor.n_bands == ms.count


def plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")
