"""Which bands of an MS file are wanted, what they are called, and what masks them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio import DatasetReader
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from clippan_lib.data.pair.identity import Said, in_words, number_of, own_name, plain, read_identity
from clippan_lib.data.pair.raster import alpha_bands
from clippan_lib.errors import DataError
from clippan_lib.sensors import Sensor

_SAMPLED = 3, 64  # windows along each axis, and their side, px


@dataclass(frozen=True)
class Chosen:
    """Bands of a file.

    Args:
        numbers: from 1, in the order wanted.
        names: what they are: the sensor's own names if there is a sensor, else what the file says.
        remarks: what a user should know of it, in words.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def select_bands(
    ms: DatasetReader, bands: Sequence[int] | Sequence[str] | None, sensor: Sensor | None
) -> Chosen:
    """Which bands are wanted, and what they are; `open_pair` has the rules.

    Raises: DataError naming what is wanted and what the file has.
    """
    asked = {band for band in bands or () if isinstance(band, int)}
    masks = mask_bands(ms) - asked
    stored = [number for number in ms.indexes if number not in masks]
    wanted = [*bands] if bands is not None else [*sensor.bands] if sensor else stored
    if min(len(stored), len(wanted)) < 2:
        raise DataError(
            f"{ms.name}: MS has {len(stored)} band, of which {len(wanted)} is wanted; two or more are needed: "
            "give each file of a band (--ms B2.TIF --ms B3.TIF), stack them with gdalbuildvrt -separate, or give more "
            "`bands`"
        )
    choice = _Choice(ms, stored, sensor, read_identity(ms, stored, sensor))
    if bands is None:
        chosen = choice.of_sensor(sensor) if sensor else Chosen((*stored,), choice.called(stored))
    elif asked:
        chosen = choice.by_number(wanted)
    else:
        chosen = choice.by_name([str(name) for name in wanted])
    if twice := [number for number in chosen.numbers if chosen.numbers.count(number) > 1]:
        raise DataError(
            f"{ms.name}: bands {_listed(wanted)} ask for band {twice[0]} of the file twice; give each once"
        )
    data = sorted((alpha_bands(ms) - masks).intersection(chosen.numbers))
    remarks = [f"band {n} of MS is tagged alpha, but holds data, not a mask: it is sharpened" for n in data]
    return Chosen(chosen.numbers, chosen.names, (*remarks, *chosen.remarks))


@dataclass(frozen=True)
class _Choice:
    """One file's bands to choose from."""

    ms: DatasetReader
    stored: list[int]
    sensor: Sensor | None
    said: Said

    def of_sensor(self, sensor: Sensor) -> Chosen:
        """The sensor's own bands, in its order: by what the file says, else by the file's order."""
        names = self.said.names
        self._refuse_alike(sensor.bands)
        if not names:
            return self._in_order(sensor)
        left = [n for n in self.stored if n not in names and n not in self.said.others]
        missing = [band for band in sensor.bands if band not in names.values()]
        if missing and left and len(self.stored) == sensor.n_bands:
            if all(sensor.bands[self.stored.index(number)] == name for number, name in names.items()):
                return Chosen((*self.stored,), sensor.bands)
            if len(left) == 1:
                names, missing, left = names | {left[0]: missing[0]}, [], []
        if missing and left:
            raise self._refusal(sensor.bands)
        numbers = sorted(names, key=lambda number: sensor.bands.index(names[number]))
        return self._told(numbers, [names[number] for number in numbers], sensor)

    def by_number(self, wanted: list) -> Chosen:
        """Numbers, and which band each is."""
        if wrong := [band for band in wanted if band not in self.ms.indexes]:
            hint = "; they count from 1, as GDAL's do" if 0 in wrong else ""
            raise DataError(
                f"{self.ms.name}: bands {_listed(wanted)} are wanted, but the file has {self._has()}{hint}; give "
                f"numbers from 1 to {self.ms.count}"
            )
        sensor, names = self.sensor, self.said.names
        if sensor is None:
            return Chosen((*wanted,), self.called(wanted))
        if len(wanted) == sensor.n_bands:
            for number, band in zip(wanted, sensor.bands, strict=True):
                if number not in self.said.doubtful and names.get(number, band) != band:
                    raise DataError(
                        f"{self.ms.name}: `bands` {_listed(wanted)} say that {band} of {sensor.name} is band {number}, "
                        f"which the file calls {self.said.words[number]!r}; leave `bands` out or give names "
                        f"({_listed(sensor.bands)}), or correct what the file says"
                    )
            return Chosen((*wanted,), sensor.bands)
        whole = sensor.whole
        if not names and len(self.stored) == whole.n_bands:
            names = dict(zip(self.stored, whole.bands, strict=True))
        if unknown := [number for number in wanted if names.get(number) not in sensor.bands]:
            raise DataError(
                f"{self.ms.name}: bands {_listed(wanted)} are wanted for sensor {sensor.name} of {sensor.n_bands} "
                f"bands, and which of those band {unknown[0]} is cannot be told: the file has {self._has()}; give "
                f"names ({_listed(sensor.bands)}), or leave `sensor` out"
            )
        return self._told(wanted, [names[number] for number in wanted], sensor)

    def by_name(self, wanted: list[str]) -> Chosen:
        """Names, looked up in descriptions and tags; without those, see `_unsaid`."""
        places = {name: self._place(name) for name in wanted}
        targets = [own_name(name, self.sensor) if self.sensor else in_words(name) for name in wanted]
        if not self.said.names and None in places.values():
            return self._unsaid(wanted, targets)
        lost = [index for index, name in enumerate(wanted) if places[name] is None]
        left = [n for n in self.stored if n not in self.said.words and n not in places.values()]
        if len(lost) == len(left) == 1 and len(wanted) == len(self.stored) and targets[lost[0]]:
            places[wanted[lost[0]]] = left[0]
        numbers = [number for name in wanted if (number := places[name]) is not None]
        if len(numbers) < len(wanted):
            raise self._refusal(wanted)
        if self.sensor is None:
            return Chosen((*numbers,), self.called(numbers))
        names = [self.said.names.get(n) or target for n, target in zip(numbers, targets, strict=True)]
        own = self.sensor.bands
        if len(names) == len(own) and all(name in ("", band) for name, band in zip(names, own, strict=True)):
            names = [*own]  # descriptions that mean nothing by themselves, in the sensor's order
        if "" in names:
            raise self._refusal(wanted)
        return self._told(numbers, names, self.sensor)

    def called(self, numbers: list[int]) -> tuple[str, ...]:
        """Names without a sensor: what the file says, where that is one band's alone, else its descriptions."""
        names = [*self.said.names.values()]
        return tuple(
            name
            if (name := self.said.names.get(number, "")) and names.count(name) == 1
            else plain(self.ms.descriptions[number - 1] or f"band_{number}")
            for number in numbers
        )

    def _place(self, name: str) -> int | None:
        """The band that a name means: by its description, letter by letter, else by what it is."""
        meant = own_name(name, self.sensor) if self.sensor else in_words(name)
        texts = {number: self.ms.descriptions[number - 1] or "" for number in self.stored}
        ways = (
            [number for number, text in texts.items() if plain(text) == plain(name)],
            [number for number, called in self.said.names.items() if meant and called == meant],
            [
                n
                for n, text in texts.items()
                if number_of(name) is not None and number_of(text) == number_of(name)
            ],
        )
        for found in ways:
            if len(found) > 1:
                raise DataError(
                    f"{self.ms.name}: band {name} is wanted, and bands {_listed(found)} of the file are both called "
                    f"that ({self._has()}); give `bands` as numbers"
                )
            if found:
                return found[0]
        return None

    def _unsaid(self, wanted: list[str], targets: list[str]) -> Chosen:
        """Names for a file that says nothing: of all its bands in its order, or some of its sensor's."""
        if len(wanted) == len(self.stored) and all(targets):
            told = f"MS does not say what its bands are: they are taken for {_listed(targets)}, as `bands` has them"
            return Chosen((*self.stored,), (*targets,), (told,))
        if self.sensor and len(self.stored) == self.sensor.whole.n_bands and all(targets):
            of_file = dict(zip(self.sensor.whole.bands, self.stored, strict=True))
            return Chosen(tuple(of_file[target] for target in targets), (*targets,))
        raise self._refusal(wanted)

    def _in_order(self, sensor: Sensor) -> Chosen:
        if len(self.stored) == sensor.n_bands:
            return Chosen((*self.stored,), sensor.bands)
        if len(self.stored) != sensor.whole.n_bands:
            raise self._refusal(sensor.bands)
        numbers = [self.stored[sensor.whole.bands.index(band)] for band in sensor.bands]
        return self._told(numbers, [*sensor.bands], sensor)

    def _told(self, numbers: list[int], names: list[str], sensor: Sensor) -> Chosen:
        """With a remark, unless the file is as the sensor has it."""
        if (*names,) == sensor.bands and numbers == self.stored:
            return Chosen((*numbers,), (*names,))
        said = []
        for number, name in zip(numbers, names, strict=True):
            word = self.said.words.get(number, name)
            said.append(f"{name} is band {number}" + f" ({word!r})" * (plain(word) != plain(name)))
        return Chosen((*numbers,), (*names,), (f"bands of {sensor.name} in MS: {_listed(said)}",))

    def _refuse_alike(self, bands: Sequence[str]) -> None:
        for band in bands:
            alike = [number for number, name in self.said.names.items() if name == band]
            if len(alike) > 1:
                raise DataError(
                    f"{self.ms.name}: bands {_listed(alike)} of the file are both {band} ({self._has()}); give `bands` "
                    "as numbers"
                )

    def _has(self) -> str:
        return f"{len(self.stored)} ({_listed(self.called(self.stored))})"

    def _refusal(self, wanted: Sequence[str]) -> DataError:
        of = ""
        if self.sensor:
            own = "" if (*wanted,) == self.sensor.bands else f" ({_listed(self.sensor.bands)})"
            of = f" for sensor {self.sensor.name} of {self.sensor.n_bands} bands{own}"
        return DataError(
            f"{self.ms.name}: bands {_listed(wanted)} are wanted{of}, but the file has {self._has()}, which does not "
            f"say where each of them is; {'correct' if self.sensor else 'give'} `sensor`, or give as `bands` the "
            "number in the file, from 1, of each band, or the names of all that the file has, in its order"
        )


def mask_bands(dataset: DatasetReader) -> set[int]:
    """Numbers of the alpha channels that are masks: half or more of the pixels that are not 0 have the largest value.

    Writers tag the fourth band of any 8-bit file alpha, near infrared too. A few small windows are read.
    """
    return {number for number in alpha_bands(dataset) if _is_mask(dataset, number)}


def mask_of(ms: DatasetReader, numbers: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """The alpha channels, and whether the file's mask counts: not where it is a band of data that is called alpha."""
    masks = mask_bands(ms).difference(numbers)
    if masks == alpha_bands(ms):
        return tuple(masks), True
    return tuple(masks), not any(MaskFlags.alpha in flags for flags in ms.mask_flag_enums)


def _is_mask(dataset: DatasetReader, number: int) -> bool:
    count, side = _SAMPLED
    starts = [
        np.unique(np.linspace(0, max(0, length - side), count).astype(int)).tolist()
        for length in dataset.shape
    ]
    windows = [Window(left, top, side, side) for top in starts[0] for left in starts[1]]
    try:
        values = np.concatenate([dataset.read(number, window=window).ravel() for window in windows])
    except RasterioError:  # corrupt: refused where it is read
        return True
    values = values[values != 0]
    return not values.size or bool((values == values.max()).mean() >= 0.5)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
