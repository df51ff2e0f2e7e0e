"""What the package knows of each sensor: one frozen row per sensor.

MTF gains at the Nyquist frequency are those of the public MATLAB toolbox (genMTF, MTF_PAN of DLPan-Toolbox;
Vivone et al. 2015 [vivone2015critical]). For sensors that are not in it no published measurement per band was found:
they carry the toolbox's default (0.3 MS, 0.15 PAN), and `measured` says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar


@dataclass(frozen=True)
class Sensor:
    """Bands and optics of one satellite sensor.

    Args:
        name: key of the table.
        bands: band names, in file order.
        bits: radiometric depth; digital numbers run from 0 to 2**bits - 1.
        ratio: PAN-to-MS scale.
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        gnyq_pan: the same of PAN.
        rgb: 0-based indices of the bands shown as red, green and blue.
        gbnir: 0-based indices of green, blue and near infrared (the paper's Table 4).
        measured: False where the gains are a default and not a published measurement.
    Raises: ValueError on a gain outside (0, 1), a count that does not fit the bands, or an index out of range.
    """

    # How pydantic reads one from JSON: in a manifest, in the header of a network or of a supervisor
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "strict": True,
        "allow_inf_nan": False,
    }

    name: str
    bands: tuple[str, ...]
    bits: int
    ratio: int
    gnyq: tuple[float, ...]
    gnyq_pan: float
    rgb: tuple[int, int, int]
    gbnir: tuple[int, int, int]
    measured: bool = True

    def __post_init__(self) -> None:
        for what, seen, most in (
            ("bands", len(self.bands), 1000),
            ("bits", self.bits, 32),
            ("ratio", self.ratio, 64),
        ):
            if not 1 <= seen <= most:
                raise ValueError(f"sensor {self.name}: {what} {seen} must be 1 to {most}")
        if len(self.gnyq) != len(self.bands):
            raise ValueError(
                f"sensor {self.name}: {len(self.gnyq)} gains for {len(self.bands)} bands; give one per band"
            )
        for gain in (*self.gnyq, self.gnyq_pan):
            if not 0 < gain < 1:
                raise ValueError(f"sensor {self.name}: MTF gain {gain} is not between 0 and 1")
        for index in (*self.rgb, *self.gbnir):
            if not 0 <= index < len(self.bands):
                raise ValueError(
                    f"sensor {self.name}: band index {index} is outside 0..{len(self.bands) - 1}"
                )
        if self.ratio < 2:
            raise ValueError(f"sensor {self.name}: ratio {self.ratio} must be 2 or more")

    @property
    def n_bands(self) -> int:
        return len(self.bands)

    @property
    def kind(self) -> tuple[str, tuple[str, ...], int]:
        """What a network is built for: name, bands and ratio. Gains may have been measured, and differ."""
        return self.name, self.bands, self.ratio

    @property
    def max_value(self) -> int:
        """The largest digital number: what DN are divided by, once, on reading."""
        return 2**self.bits - 1

    @property
    def whole(self) -> "Sensor":
        """The row of the table that these bands are a part of; the sensor itself if there is none."""
        row = SENSORS.get(self.name, self)
        return row if set(self.bands) <= set(row.bands) else self

    def only(self, bands: Sequence[str]) -> "Sensor":
        """The sensor with some of its bands, or with all in another order.

        Args:
            bands: names of its own.
        Returns: gains follow their bands; so do `rgb` and `gbnir`, which are (0, 0, 0) where one of the three is gone.
        Raises: ValueError on a name that it lacks, or that stands twice.

        >>> part = get_sensor("L8").only(["red", "green", "blue"])
        >>> part.bands, part.rgb, part.gbnir
        (('red', 'green', 'blue'), (0, 1, 2), (0, 0, 0))
        """
        if unknown := [band for band in bands if band not in self.bands]:
            raise ValueError(
                f"sensor {self.name} has no band {', '.join(unknown)}; its own are {', '.join(self.bands)}"
            )
        if len(set(bands)) != len(bands):
            raise ValueError(f"bands {', '.join(bands)} of sensor {self.name}: give each once")

        def moved(three: tuple[int, int, int]) -> tuple[int, int, int]:
            if not {self.bands[index] for index in three} <= set(bands):
                return 0, 0, 0
            first, second, third = (bands.index(self.bands[index]) for index in three)
            return first, second, third

        gnyq = tuple(self.gnyq[self.bands.index(band)] for band in bands)
        return replace(self, bands=tuple(bands), gnyq=gnyq, rgb=moved(self.rgb), gbnir=moved(self.gbnir))


_BGRN = ("blue", "green", "red", "nir")
_WV8 = ("coastal", "blue", "green", "yellow", "red", "red_edge", "nir1", "nir2")
_OLI = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")


_OF_TOOLBOX = 0.3, 0.15  # MS, PAN: its default, where nobody measured


def _four(name: str, bits: int, gnyq: tuple[float, ...], gnyq_pan: float) -> Sensor:
    return Sensor(name, _BGRN, bits, 4, gnyq, gnyq_pan, (2, 1, 0), (1, 0, 3))


def _eight(name: str, gnyq: tuple[float, ...], gnyq_pan: float) -> Sensor:
    return Sensor(name, _WV8, 11, 4, gnyq, gnyq_pan, (4, 2, 1), (2, 1, 6))


def _assumed(name: str, bands: tuple[str, ...], bits: int, ratio: int = 4) -> Sensor:
    blue, green, red = (bands.index(band) for band in _BGRN[:3])
    gain, gnyq_pan = _OF_TOOLBOX
    gnyq, rgb, gbnir = (gain,) * len(bands), (red, green, blue), (green, blue, bands.index("nir"))
    return Sensor(name, bands, bits, ratio, gnyq, gnyq_pan, rgb, gbnir, measured=False)


SENSORS = {
    sensor.name: sensor
    for sensor in (
        _four("QB", 11, (0.34, 0.32, 0.30, 0.22), 0.15),
        _four("IKONOS", 11, (0.26, 0.28, 0.29, 0.28), 0.17),
        _four("GE1", 11, (0.23,) * 4, 0.16),
        _eight("WV2", (0.35,) * 7 + (0.27,), 0.11),
        _eight("WV3", (0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315), 0.14),
        _four("WV4", 11, (0.23,) * 4, 0.16),
        # WorldView Legion has two red edges and one near infrared; the maker's data sheet
        _assumed("WVL", ("coastal", *_BGRN[:2], "yellow", "red", "red_edge1", "red_edge2", "nir"), 11),
        _assumed("GF1", _BGRN, 10),  # PMS, 2 m and 8 m
        _assumed("GF2", _BGRN, 10),
        # PAN 0.48 to 0.83, 0.5 m. The maker states .2 for restored PAN: a design figure of the product, not measured
        _assumed("PHR", _BGRN, 12),
        # the maker's "deep blue" is 0.40 to 0.45 um, what others call coastal
        _assumed("PNEO", ("coastal", "blue", "green", "red", "red_edge", "nir"), 12),
        _assumed("SPOT6", _BGRN, 12),  # NAOMI; the four bands' files come as R, G, B, NIR, too
        _assumed("SPOT7", _BGRN, 12),
        _assumed("SV1", _BGRN, 11),  # SuperView-1
        _assumed("CBERS4A", _BGRN, 10),  # WPM
        _assumed("K3", _BGRN, 14),  # KOMPSAT-3
        _assumed("K3A", _BGRN, 14),
        # Planet's support pages: PAN and MS of orthoimages have 0.5 m both, those of basic products .65 and .81 m.
        # A ratio of 2 comes of MS that is resampled, as the refusal of such pairs says. Of the camera's 12 bits
        # products make 16
        _assumed("SKYSAT", _BGRN, 16, 2),
        # AVNIR-2 and PRISM. Specified: MTF of .25 or more, .20 in near infrared; a specification, not measured
        _assumed("ALOS", _BGRN, 8),
        _assumed("L7", (*_OLI[1:],), 8, 2),  # ETM+. The USGS lists one MTF for all bands, .28
        _assumed("L8", _OLI, 16, 2),
        _assumed("L9", _OLI, 16, 2),
    )
}

_OF_OLI = dict(enumerate((*_OLI, "pan", "cirrus", "thermal", "thermal"), 1))
_OF_ETM = {1: "blue", 2: "green", 3: "red", 4: "nir", 5: "swir1", 6: "thermal", 7: "swir2", 8: "pan"}
_OF_AIRBUS = dict(enumerate(_BGRN))
# The n of "Bn" where providers number bands in one way: what n means, bands of other resolutions too
NUMBERED = {
    "L7": _OF_ETM,
    "L8": _OF_OLI,
    "L9": _OF_OLI,
    "PHR": _OF_AIRBUS,
    "SPOT6": _OF_AIRBUS,
    "SPOT7": _OF_AIRBUS,
    "CBERS4A": dict(enumerate(("pan", *_BGRN))),
    "SKYSAT": dict(enumerate(_BGRN, 1)),
}


def get_sensor(name: str) -> Sensor:
    """The row of a sensor.

    Args:
        name: a key of `SENSORS`, in any case.
    Raises: ValueError listing the known names and saying how to describe another sensor.

    >>> wv3 = get_sensor("WV3")
    >>> wv3.n_bands, wv3.ratio, wv3.max_value
    (8, 4, 2047)
    """
    try:
        return SENSORS[name.upper()]
    except KeyError:
        raise ValueError(
            f"unknown sensor {name!r}; known: {', '.join(SENSORS)}. "
            "For another one give its bands and MTF gains: `Sensor(...)`, a sensor block in the manifest, or that "
            "block as a YAML file (--sensor FILE.yaml)"
        ) from None


def read_sensor(fields: Mapping[str, Any]) -> Sensor:
    """A sensor from what JSON says of it, lists for tuples.

    Raises: ValueError naming each field that is unknown, missing or mistyped.
    """
    from pydantic import TypeAdapter  # a fifth of a second to import

    return TypeAdapter(Sensor).validate_json(json.dumps(fields))
