"""What the package knows of each sensor: one frozen row per sensor.

MTF gains at the Nyquist frequency are those of the public MATLAB toolbox (genMTF, MTF_PAN of DLPan-Toolbox;
Vivone et al. 2015 [vivone2015critical]). No public measurement was found for Gaofen-2 and Landsat: they carry
the toolbox's default (0.3 MS, 0.15 PAN), and `measured` says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter


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
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

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
        if self.ratio < 2 or self.bits < 1:
            raise ValueError(
                f"sensor {self.name}: ratio {self.ratio} must be 2 or more, bits {self.bits} 1 or more"
            )

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


_BGRN = ("blue", "green", "red", "nir")
_WV8 = ("coastal", "blue", "green", "yellow", "red", "red_edge", "nir1", "nir2")
_OLI = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")


def _four(name: str, bits: int, gnyq: tuple[float, ...], gnyq_pan: float, measured: bool = True) -> Sensor:
    return Sensor(name, _BGRN, bits, 4, gnyq, gnyq_pan, (2, 1, 0), (1, 0, 3), measured)


def _eight(name: str, gnyq: tuple[float, ...], gnyq_pan: float) -> Sensor:
    return Sensor(name, _WV8, 11, 4, gnyq, gnyq_pan, (4, 2, 1), (2, 1, 6))


def _landsat(name: str) -> Sensor:
    return Sensor(name, _OLI, 16, 2, (0.3,) * 7, 0.15, (3, 2, 1), (2, 1, 4), measured=False)


SENSORS = {
    sensor.name: sensor
    for sensor in (
        _four("QB", 11, (0.34, 0.32, 0.30, 0.22), 0.15),
        _four("IKONOS", 11, (0.26, 0.28, 0.29, 0.28), 0.17),
        _four("GE1", 11, (0.23,) * 4, 0.16),
        _eight("WV2", (0.35,) * 7 + (0.27,), 0.11),
        _eight("WV3", (0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315), 0.14),
        _four("WV4", 11, (0.23,) * 4, 0.16),
        _four("GF2", 10, (0.3,) * 4, 0.15, measured=False),
        _landsat("L8"),
        _landsat("L9"),
    )
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
            "For another one give its bands and MTF gains explicitly (`Sensor(...)`, or a sensor block in the manifest)"
        ) from None


def read_sensor(fields: Mapping[str, Any]) -> Sensor:
    """A sensor from what JSON says of it, lists for tuples.

    Raises: ValueError naming each field that is unknown, missing or mistyped.
    """
    return TypeAdapter(Sensor).validate_json(json.dumps(fields))
