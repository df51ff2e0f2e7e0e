"""Optics of the very scene that is to be sharpened: its MTF gains, and whether MS and PAN lie on one another."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from clippan_lib.data.pair.scene import ScenePair
from clippan_lib.errors import DataError
from clippan_lib.fusion import STACK
from clippan_lib.optics import Optics, measure_optics
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.windows import SIDE, WINDOWS, far_windows, held, scaled

Gains = Literal["measured", "table"]

FARTHEST = 0.5  # PAN px; from about there on consistency does harm (`fusion.consistency`)


@dataclass(frozen=True)
class SceneOptics:
    """The gains that a job uses, and what was measured for it.

    Args:
        sensor: with these gains, one for each band of the scene; its indices of colours mean nothing.
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
        """For the output: gains with their source, and the shift in rows and columns, PAN px."""
        gains = " ".join(f"{gain:.3f}" for gain in self.gnyq)
        if self.found is None:
            return {"CLIPPAN_GAINS": f"{gains}, table"}
        source = f"measured, R² {self.found.r2:.3f}" if self.measured else "table"
        shift = "{:.2f} {:.2f}".format(*self.found.shift)
        return {"CLIPPAN_GAINS": f"{gains}, {source}", "CLIPPAN_SHIFT": shift}

    @property
    def record(self) -> list[Any]:
        """What was used and measured, as JSON."""
        found = self.found and [self.found.gnyq, self.found.shift, self.found.r2]
        return [asdict(self.sensor), self.measured, found]


def scene_optics(
    pair: ScenePair, sensor: Sensor | None, gains: Gains, consistent: int, method: str
) -> SceneOptics:
    """The gains for a method that needs them, and a refusal where steps of consistency would do harm.

    The scene is measured for the gains, and for the shift where there are steps: a few seconds.

    Args:
        pair: the scene.
        sensor: the table's gains, which serve where the fit is not good; None: only measured ones do.
        gains: "measured" where that can be done, or the "table".
        consistent: steps of consistency behind the method, for which MS and PAN have to lie within half a PAN pixel
            of one another.
        method: its name, for messages.
    Raises: DataError if there are steps, and the shift is larger or cannot be told; or if there are no gains.
    """
    found, fault = _measured(pair) if gains == "measured" or consistent else (None, "")
    if consistent:
        remedy = (
            "give another --method" if method == STACK else "leave --consistent (or the + of the method) out"
        )
        _refuse_unregistered(found, fault, consistent, remedy)
    if gains == "measured" and found:
        remark = f"gains measured on the scene: {_numbers(found.gnyq)} ({_r2(found)}); {_shift(found)}"
        return SceneOptics(_with_gains(sensor, pair, found.gnyq, True), True, found, remark)
    if sensor is None:
        reason = (
            f"those of the scene are not used, as {fault}" if fault else "without a sensor there is no table"
        )
        raise DataError(
            f"{method} needs MTF gains: {reason}; give --sensor" + ("" if fault else ", or --gains measured")
        )
    told = _with_gains(sensor, pair, _of_bands(sensor, pair), sensor.measured)
    reason = f", as {fault}" if fault else f"; {_shift(found)} ({_r2(found)})" if found else ""
    return SceneOptics(told, False, found, f"gains: the table's, {_numbers(told.gnyq)}{reason}")


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


def _measured(pair: ScenePair) -> tuple[Optics | None, str]:
    """A good fit, or why there is none."""
    windows = far_windows(pair)
    if not windows:
        return None, "no pixel that was read holds data in both files"
    lrms, pan = (torch.cat([getattr(window, name) for window in windows]) for name in ("lrms", "pan"))
    valid = torch.cat([held(window) for window in windows])
    try:
        found = measure_optics(scaled(lrms), scaled(pan), pair.ratio, valid, windows=WINDOWS, side=SIDE)
    except ValueError as error:
        return None, f"they cannot be measured ({error})"
    found = _rounded(found)
    if found.good:
        return found, ""
    return None, f"the fit is not good: {_r2(found)}, gains {_numbers(found.gnyq)}, {_shift(found)}"


def _rounded(found: Optics) -> Optics:
    """So that other numbers of threads, which add up in another order, mean the same job."""
    down, right = (round(by, 3) for by in found.shift)
    return replace(
        found,
        gnyq=tuple(round(gain, 4) for gain in found.gnyq),
        shift=(down, right),
        r2=round(found.r2, 3),
    )


def _refuse_unregistered(found: Optics | None, fault: str, steps: int, remedy: str) -> None:
    needed = f"{steps} step{'s' * (steps > 1)} of consistency need PAN to lie on MS within {_short(FARTHEST, 1)} PAN px"
    if found is None:
        raise DataError(f"{needed}, which cannot be told, as {fault}; {remedy}")
    down, right = found.shift
    if max(abs(down), abs(right)) > FARTHEST:
        raise DataError(
            f"{needed}, and it is off by {_place(found.shift, 2)} ({_r2(found)}); {remedy}, or register the pair "
            f"first (--register): move PAN {_place((-down, -right), 2)}"
        )


def _of_bands(sensor: Sensor, pair: ScenePair) -> tuple[float, ...]:
    """The table's gains in the order of the scene's bands, where it knows their names."""
    known = dict(zip(sensor.bands, sensor.gnyq, strict=True))
    if known.keys() >= set(pair.band_names):
        return tuple(known[name] for name in pair.band_names)
    if len(known) != pair.n_bands:
        raise DataError(
            f"sensor {sensor.name} has no gains for bands {', '.join(pair.band_names)}: its own are "
            f"{', '.join(sensor.bands)}; name the bands as it does, or leave the sensor out"
        )
    return sensor.gnyq


def _with_gains(sensor: Sensor | None, pair: ScenePair, gnyq: tuple[float, ...], measured: bool) -> Sensor:
    """What methods are told; of a sensor that nobody named only bands, ratio and gains are known."""
    if sensor is None:
        sensor = Sensor("unnamed", pair.band_names, 16, pair.ratio, gnyq, 0.15, (0, 0, 0), (0, 0, 0))
    # colours are indices into the sensor's own bands, of which the scene may have fewer
    return replace(
        sensor, bands=pair.band_names, gnyq=gnyq, rgb=(0, 0, 0), gbnir=(0, 0, 0), measured=measured
    )


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(_short(value, 2) for value in values)


def _r2(found: Optics) -> str:
    return f"R² {_short(found.r2, 2)}"


def _place(shift: tuple[float, float], digits: int = 1) -> str:
    down, right = (round(by, digits) for by in shift)
    return (
        f"{_short(abs(down), digits)} {'down' if down >= 0 else 'up'}, "
        f"{_short(abs(right), digits)} {'right' if right >= 0 else 'left'} px"
    )


def _shift(found: Optics) -> str:
    return f"shift of PAN {_place(found.shift)}"
