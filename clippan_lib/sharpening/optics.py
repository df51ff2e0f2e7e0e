"""Optics of the very scene that is to be sharpened: its MTF gains, and whether MS and PAN lie on one another."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from clippan_lib.data.pair.scene import ScenePair
from clippan_lib.errors import CheckpointError, DataError
from clippan_lib.fusion import STACK
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.optics import Optics
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.registration import FARTHEST, Placed, in_words, numbers, r2_of, short
from clippan_lib.sharpening.units import typical
from clippan_lib.sharpening.windows import gathered

_SCALES = 1e5  # a dark scene of 16 bits has a hundredth of the largest value
Gains = Literal["measured", "table"]


@dataclass(frozen=True)
class SceneOptics:
    """The gains that a job uses, and what was measured for it.

    Args:
        sensor: with these gains, one for each band of the scene; of one that nobody named, indices of colours mean
            nothing.
        measured: whether the gains are measured ones; else they are a table's.
        found: what was measured, if its fit is good.
        remark: all this, in words.
    """

    sensor: Sensor
    measured: bool
    found: Optics | None
    remark: str

    @property
    def gnyq(self) -> tuple[float, ...]:
        """MTF gain at Nyquist, one per band."""
        return self.sensor.gnyq

    @property
    def tags(self) -> dict[str, str]:
        """For the output: gains with their source."""
        gains = " ".join(f"{gain:.3f}" for gain in self.gnyq)
        source = "table" if self.sensor.measured else "table, assumed"
        if self.found and self.measured:
            source = f"measured, R² {self.found.r2:.3f}"
        return {"CLIPPAN_GAINS": f"{gains}, {source}"}

    @property
    def record(self) -> list[Any]:
        """What was used and measured, as JSON."""
        found = self.found and [self.found.gnyq, self.found.shift, self.found.r2]
        return [asdict(self.sensor), self.measured, found]


def scene_optics(
    placed: Placed, sensor: Sensor | None, gains: Gains, consistent: int, method: str
) -> SceneOptics:
    """The gains for a method that needs them, and a refusal where steps of consistency would do harm.

    Args:
        placed: the scene, and what it shows.
        sensor: the table's gains, which serve where the fit is not good; None: only measured ones do.
        gains: "measured" where that can be done, or the "table".
        consistent: steps of consistency behind the method, for which MS and PAN have to lie within half a PAN pixel
            of one another.
        method: its name, for messages.
    Raises: DataError if there are steps, and the shift is larger or cannot be told; or if there are no gains.
    """
    pair, found, fault = placed.pair, None, ""
    if gains == "measured" or consistent:
        found, fault = placed.look.found, placed.look.fault
    if consistent:
        remedy = (
            "give another --method" if method == STACK else "leave --consistent (or the + of the method) out"
        )
        refuse_displaced(
            placed,
            "1 step of consistency needs" if consistent == 1 else f"{consistent} steps of consistency need",
            remedy,
        )
    if gains == "measured" and found:
        remark = f"gains measured on the scene: {numbers(found.gnyq)} ({r2_of(found)})"
        return SceneOptics(_with_gains(sensor, pair, found.gnyq, True), True, found, remark)
    if sensor is None:
        reason = (
            f"those of the scene are not used, as {fault}" if fault else "without a sensor there is no table"
        )
        raise DataError(
            f"{method} needs MTF gains: {reason}; give --sensor" + ("" if fault else ", or --gains measured")
        )
    told = _with_gains(sensor, pair, _of_bands(sensor, pair), sensor.measured)
    reason = f", as {fault}" if fault else ""
    assumed = "" if told.measured else "assumed (no published measurement), "
    return SceneOptics(told, False, found, f"gains: the table's, {assumed}{numbers(told.gnyq)}{reason}")


def refuse_other_kind(sensor: Sensor | None, own: Sensor, file: str | Path) -> None:
    """Refuse a sensor for which a network was not trained; its gains may differ, as they may have been measured.

    Raises: DataError with both names.
    """
    if sensor is None or sensor.kind == own.kind:
        return
    wanted, given = (
        x.name if sensor.name != own.name else f"{x.name} (ratio {x.ratio}, bands {', '.join(x.bands)})"
        for x in (own, sensor)
    )
    raise DataError(f"{file} was trained for sensor {wanted}, not {given}; leave the sensor out")


def refuse_other_bands(pair: ScenePair, own: Sensor, file: str | Path) -> None:
    """Refuse a scene whose bands are not those that a network was trained for, in its order.

    Raises: DataError with both.
    """
    if pair.band_names != own.bands:
        raise DataError(
            f"{file} was trained for bands {', '.join(own.bands)} of {own.name}, in this order, and the scene has "
            f"{', '.join(pair.band_names)}; give all of these as --bands, or another --method"
        )


def refuse_unusable(placed: Placed, trained: TrainedNetwork, file: str | Path) -> None:
    """Refuse a network that takes values of quite another size than the scene's.

    Raises: CheckpointError naming the file, and what was seen.
    """
    if not placed.windows:
        return
    lrms, _, held = gathered(placed.windows)
    seen = typical(lrms.movedim(1, -1)[held[:, 0]])
    if seen and not 1 / _SCALES < trained.max_value / seen < _SCALES:
        raise CheckpointError(
            f"{file}: was trained with values up to {trained.max_value:g} (max_value), and those of the scene are "
            f"about {seen:.3g}; convert the scene to the unit of the training, or give another file"
        )


def refuse_displaced(placed: Placed, what: str, remedy: str) -> None:
    """Refuse what needs PAN to lie on MS where it does not, or where nobody knows.

    Args:
        placed: the scene, and what it shows.
        what: needs it, with its verb.
        remedy: what to do in its place.
    Raises: DataError with the shift, or why it cannot be told.
    """
    found, needed = placed.look.found, f"{what} PAN to lie on MS within {short(FARTHEST, 1)} PAN px"
    if found is None:
        raise DataError(f"{needed}, which cannot be told, as {placed.look.fault}; {remedy}")
    down, right = found.shift
    if max(abs(down), abs(right)) > FARTHEST:
        raise DataError(
            f"{needed}, and it is off by {in_words(found.shift, 2)} ({r2_of(found)}); {remedy}, or have MS moved by "
            "that first (--register)"
        )


def _of_bands(sensor: Sensor, pair: ScenePair) -> tuple[float, ...]:
    """The table's gains in the order of the scene's bands."""
    try:
        return sensor.only(pair.band_names).gnyq
    except ValueError as error:
        raise DataError(f"{error}; name the bands as it does, or leave the sensor out") from None


def _with_gains(sensor: Sensor | None, pair: ScenePair, gnyq: tuple[float, ...], measured: bool) -> Sensor:
    """What methods are told; of a sensor that nobody named only bands, ratio and gains are known."""
    if sensor is None:
        sensor = Sensor("unnamed", pair.band_names, 16, pair.ratio, gnyq, 0.15, (0, 0, 0), (0, 0, 0))
    else:
        sensor = sensor.only(pair.band_names)
    return replace(sensor, gnyq=gnyq, measured=measured)
