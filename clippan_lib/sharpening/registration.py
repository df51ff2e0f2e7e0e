"""Where MS lies on PAN: measured on every scene, and mended where that is asked for. PAN is never resampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Unpack

from clippan_lib.data.pair.grid import STILL, Shift
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.names import Image, Images, Location
from clippan_lib.data.pair.scene import Opening, PairWindow, ScenePair, open_pair
from clippan_lib.errors import DataError
from clippan_lib.optics import Optics, measure_optics
from clippan_lib.optics.measure import LEAST_R2
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.seen import seen_by_pan, warning
from clippan_lib.sharpening.units import unlike_units
from clippan_lib.sharpening.warp import Grown, affine_shift, with_growth
from clippan_lib.sharpening.windows import SIDE, WINDOWS, far_windows, gathered, scaled

FARTHEST = (
    0.5  # PAN px; from about there on consistency does harm (`fusion.consistency`), and colours lie beside
)
UNLIKE = 0.3  # R²; pairs that belong together have .8 and more, pairs of two places at most .1
_STILL = 0.05  # PAN px
_ROUNDS = 3


@dataclass(frozen=True)
class Look:
    """What a few windows of a pair show.

    Args:
        optics: the fit, good or not; None if nothing could be measured.
        fault: why it is none, or not good; "" if it is.
    """

    optics: Optics | None
    fault: str

    @property
    def found(self) -> Optics | None:
        """The fit, if it is good."""
        return None if self.fault else self.optics

    @property
    def shift_known(self) -> bool:
        """Whether the shift may be relied on; gains need more (`Optics.good`)."""
        optics = self.optics
        return optics is not None and optics.r2 >= LEAST_R2 and max(map(abs, optics.shift)) < optics.reach


@dataclass(frozen=True, eq=False)
class Placed:
    """A pair, and how it was put together.

    Args:
        pair: MS moved by `shift`.
        shift: shift by which PAN lay too far down and right of MS.
        remark: how the two lie, in words.
    """

    pair: ScenePair
    shift: Shift = STILL
    remark: str = ""

    @cached_property
    def windows(self) -> list[PairWindow]:
        """Those by which the scene is judged, from `far_windows`."""
        return far_windows(self.pair)

    @cached_property
    def look(self) -> Look:
        """What the pair shows as it is put together; measured once, when it is asked for: a second or more."""
        return look(self.windows, self.pair.ratio)

    @cached_property
    def seen(self) -> tuple[float, ...]:
        """How much of each band's detail PAN shows, from `seen_by_pan`."""
        return seen_by_pan(self.windows, self.pair.ratio) if self.windows else ()

    @property
    def unseen(self) -> str:
        """A warning of bands that PAN hardly shows; "" if it shows all."""
        return warning(self.pair.band_names[: len(self.seen)], self.seen)

    @cached_property
    def units(self) -> str:
        """A remark where MS and PAN are in different units; "" if they are not."""
        return unlike_units(*gathered(self.windows)) if self.windows else ""

    @property
    def shift_left(self) -> tuple[float, float] | None:
        """Rows and columns, PAN px, by which PAN lies off MS as they are put together; None if nobody looked."""
        seen = self.__dict__.get("look")
        return seen.optics.shift if seen is not None and seen.shift_known else None


def place(
    ms: Images,
    pan: Image,
    *,
    sensor: Sensor | None = None,
    register: bool = False,
    shift: Shift | None = None,
    **opening: Unpack[Opening],
) -> Placed:
    """Open a pair and see how MS lies on PAN; move MS where that is asked for.

    The shift is that of `measure_optics`, one translation for the scene, from a few windows far apart; or, registered,
    an affine map if windows agree on one (`affine_shift`). MS is interpolated once, at its new place (`open_pair`);
    where one file no longer covers the other the scene is cut. A scene that is too small or too flat to be measured
    goes on as it lies, and the remark says so.

    Args:
        ms, pan, sensor, opening: as for `open_pair`.
        register: correct the shift that is measured.
        shift: correct this one, rows and columns in PAN px, and do not look; (0.0, 0.0) takes the pair as it lies.
    Raises: DataError where both are asked for; where MS and PAN show no common structure, or one is the other's
        negative; where nobody asks for a correction and the shift is larger than a MS pixel; or as `open_pair` does.
    """
    ms, pan = located(ms), located(pan)
    if shift is not None:
        if register:
            raise DataError(f"register measures the shift, and {shift} is given; leave one of the two out")
        return Placed(open_pair(ms, pan, sensor=sensor, shift=shift, **opening), shift, _by_hand(shift))
    placed = Placed(open_pair(ms, pan, sensor=sensor, **opening))
    seen = placed.look
    if seen.optics is None:
        if register:
            raise DataError(f"the pair cannot be registered: {seen.fault}; give the shift by hand")
        return replace(placed, remark=f"How PAN lies on MS was not measured: {seen.fault}")
    _refuse_unlike(seen.optics, ms, pan)
    if register:
        if not seen.shift_known:
            raise DataError(f"{ms} and {pan}: the shift could not be told, as {seen.fault}; give it by hand")
        return _registered(ms, pan, sensor, opening, seen.optics)
    if not seen.shift_known:
        remark = f"Warning: how PAN lies on MS could not be told, as {seen.fault}; look at the result's edges"
        return _seen(placed, remark)
    lies = f"PAN lies {in_words(seen.optics.shift, 2)} off MS ({r2_of(seen.optics)})"
    off = max(map(abs, seen.optics.shift))
    if off > placed.pair.ratio:
        raise DataError(
            f"{ms} and {pan}: {lies}, more than a MS pixel, so that details would lie beside their colours; "
            "--register moves MS by that, --shift=0,0 goes on with the pair as it lies"
        )
    if off > FARTHEST:
        lies = f"Warning: {lies}, so that details lie beside their colours; --register moves MS by that"
        # what PAN shows of the bands is seen where the two lie on one another
        moved = Placed(open_pair(ms, pan, sensor=sensor, shift=seen.optics.shift, **opening))
        placed.__dict__["seen"] = moved.seen
    _refuse_inverted(placed, pan)
    return _seen(placed, lies)


def _seen(placed: Placed, remark: str) -> Placed:
    """With a remark, and not measured again."""
    told = replace(placed, remark=remark)
    told.__dict__.update(windows=placed.windows, look=placed.look, seen=placed.seen)
    return told


def _by_hand(shift: Shift) -> str:
    if shift == STILL:
        return "MS and PAN are taken as they lie, as told"
    map_ = " and by an affine map" if len(shift) > 2 else ""
    return f"MS was moved by {shift[0]:+g} rows and {shift[1]:+g} columns (PAN px){map_}, as given"


def _registered(
    ms: Location, pan: Location, sensor: Sensor | None, opening: Opening, found: Optics
) -> Placed:
    """Moved until nothing is left to move."""
    down, right = found.shift
    for _ in range(_ROUNDS):
        placed = Placed(open_pair(ms, pan, sensor=sensor, shift=(down, right), **opening), (down, right))
        if (left := placed.look.optics) is None:
            raise DataError(
                f"{ms} and {pan}: PAN lies {in_words((down, right), 2)} off MS, and what is left in common cannot be "
                f"measured: {placed.look.fault}; give the shift by hand"
            )
        if max(map(abs, left.shift)) < _STILL:
            break
        down, right = round(down + left.shift[0], 3), round(right + left.shift[1], 3)
    else:
        placed = Placed(open_pair(ms, pan, sensor=sensor, shift=(down, right), **opening), (down, right))
    _refuse_inverted(placed, pan)
    remark = (
        f"registered: PAN lay {down:+.2f} rows and {right:+.2f} columns (PAN px) off MS (R² {found.r2:.2f}); MS was "
        "moved by that, PAN is as it was"
    )
    if (map_ := affine_shift(placed.pair)) is None:
        return _seen(placed, remark)
    shift = with_growth(placed.pair, (down, right), map_)
    bent = Placed(open_pair(ms, pan, sensor=sensor, shift=shift, **opening), shift)
    fits = [each.look.optics.r2 if each.look.optics else 0.0 for each in (placed, bent)]
    if fits[1] < fits[0]:
        return _seen(placed, remark)
    return _seen(bent, remark + f", and {_in_numbers(map_)}")


def _in_numbers(found: Grown) -> str:
    rows, columns = 1000 * found.grown
    return (
        f"by an affine map on which {found.parts} windows agree within {found.left:.2f} PAN px: per 1000 MS rows "
        f"{rows[0]:+.2f} rows and {columns[0]:+.2f} columns, per 1000 MS columns {rows[1]:+.2f} and {columns[1]:+.2f}"
    )


def _refuse_unlike(found: Optics, ms: Location, pan: Location) -> None:
    if found.r2 >= UNLIKE:
        return
    raise DataError(
        f"{ms} and {pan} show no common structure: R² is {found.r2:.2f} at best, wherever PAN is moved within half of "
        "each window; pairs that belong together have .8 and more. Is PAN of another place? Look at both; --shift=0,0 "
        "goes on with the pair as it lies"
    )


def _refuse_inverted(placed: Placed, pan: Location) -> None:
    """The fit takes PAN for its negative just as well.

    Args:
        placed: with PAN on MS.
        pan: its file.
    """
    if max(placed.seen, default=0.0) < 0:
        raise DataError(
            f"{pan}: is bright where MS is dark (correlation of their detail {max(placed.seen):.2f} at most); it is no "
            "PAN of this scene, or was turned for display"
        )


def look(windows: Sequence[PairWindow], ratio: int) -> Look:
    """Measure gains and shift; where little fits, in a wide search.

    Args:
        windows: windows of the scene, from `far_windows`.
        ratio: PAN-to-MS scale.
    """
    if not windows:
        return Look(None, "no pixel that was read holds data in both files")
    lrms, pan, valid = gathered(windows)
    try:
        found = measure_optics(scaled(lrms), scaled(pan), ratio, valid, wide=True, windows=WINDOWS, side=SIDE)
    except ValueError as error:
        return Look(None, f"they cannot be measured ({error})")
    found = _rounded(found)
    fault = f"the fit is not good: {r2_of(found)}, gains {numbers(found.gnyq)}, shift of PAN {in_words(found.shift)}"
    return Look(found, "" if found.good else fault)


def _rounded(found: Optics) -> Optics:
    """So that other numbers of threads, which add up in another order, mean the same job."""
    down, right = (round(by, 3) for by in found.shift)
    return replace(
        found,
        gnyq=tuple(round(gain, 4) for gain in found.gnyq),
        shift=(down, right),
        r2=round(found.r2, 3),
    )


def in_words(shift: tuple[float, float], digits: int = 1) -> str:
    """A shift of PAN, such as "1.2 down, .4 left px"."""
    down, right = (round(by, digits) for by in shift)
    return (
        f"{short(abs(down), digits)} {'down' if down >= 0 else 'up'}, "
        f"{short(abs(right), digits)} {'right' if right >= 0 else 'left'} px"
    )


def r2_of(found: Optics) -> str:
    return f"R² {short(found.r2, 2)}"


def numbers(values: tuple[float, ...]) -> str:
    return " ".join(short(value, 2) for value in values)


def short(value: float, digits: int) -> str:
    """Without the 0 before the point."""
    return f"{value:.{digits}f}".removeprefix("0")
