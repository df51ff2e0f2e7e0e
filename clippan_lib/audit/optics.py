"""What measured optics say: whether PAN and the bands are alike, how sharp these are, where MS lies on PAN."""

from clippan_lib.audit.findings import Finding, judged, unmeasured
from clippan_lib.audit.split import SplitAudit
from clippan_lib.optics import Optics

# Limits, and what eight real scenes and the synthetic QB and WV3 datasets gave
ALIKE = 0.3  # R²; pairs that belong together from 0.91, PAN of another place 0.00
FACTOR = 1.5  # of the table's gain beyond the intervals; Pleiades 3.0 and SPOT-6 4.4, the others inside one at least
SHIFTED = (
    0.5  # px of PAN, which the usual grids have; clean to 0.48, WV2 0.74 (all of its interval above 0.69)
)


def likeness(part: SplitAudit) -> Finding | None:
    """Whether the bands explain PAN's detail at all."""
    check = "detail of PAN"
    if part.no_optics:
        return unmeasured(part, check, part.no_optics)
    if part.optics is None:
        return None
    optics = part.optics
    measured = f"R² {optics.r2:.2f} from the bands, where they fit best (gain {optics.common:.2f})"
    if not optics.good:
        measured += "; the fit is not good, so that gains measured are not used"
    advice = (
        "The bands explain next to nothing of what PAN shows: the two images may not belong together. Look at both, "
        "and check how the files are paired."
    )
    bad = "warning" if optics.r2 < ALIKE else None
    return judged(part, check, bad, measured, optics.r2, f"R² of at least {ALIKE}", advice)


def sharpness(part: SplitAudit) -> Finding | None:
    """Whether the bands are as sharp as the table of the sensor says."""
    optics, table = part.optics, part.sensor.gnyq
    if optics is None:
        return None
    if not optics.good:
        return unmeasured(part, "gains", "the fit of the bands to PAN is not good")
    beyond = min(
        max(gain / upper, lower / gain, 1.0)
        for gain, (lower, upper) in zip(table, optics.interval, strict=True)
    )
    each = ", ".join(
        f"{band} {found:.2f} ({lower:.2f} to {upper:.2f}; table {gain:.2f})"
        for band, found, (lower, upper), gain in zip(
            part.sensor.bands, optics.gnyq, optics.interval, table, strict=True
        )
    )
    measured = f"MTF gains at Nyquist, relative to PAN: {each}; R² {optics.r2:.2f}"
    advice = (
        f"Gains measured are {_numbers(optics.gnyq)}, the table says {_numbers(table)}: methods and degradation with "
        "the table's make another sensor; use -p gains=measured, which demo does."
    )
    limit = f"the table's less than {FACTOR} times beyond one interval at least"
    bad = "warning" if beyond >= FACTOR else None
    return judged(part, "gains", bad, measured, beyond, limit, advice)


def shift(part: SplitAudit) -> Finding | None:
    """Whether MS and PAN lie on one another; more exact than the registration of windows, for all windows together."""
    optics = part.optics
    if optics is None:
        return None
    if optics.r2 < ALIKE:
        return unmeasured(part, "shift", f"R² {optics.r2:.2f}: PAN does not follow the bands")
    down, right = optics.shift
    intervals = [f"{lower:+z.2f} to {upper:+z.2f}" for lower, upper in optics.shift_interval]
    measured = (
        f"MS off by {down:+z.2f} rows ({intervals[0]}), {right:+z.2f} columns ({intervals[1]}) of PAN; "
        f"R² {optics.r2:.2f}"
    )
    if max(abs(down), abs(right)) >= optics.reach:
        measured += f"; no more than {optics.reach} px were looked at: so far or farther"
    advice = (
        f"Move MS by ({down:+z.2f}, {right:+z.2f}) px of PAN (rows, columns) before fusion: details lie beside their "
        "colours otherwise. A geotiff source does that with `shift`, `clippan sharpen` with --register."
    )
    off = _certain(optics)
    limit = f"at most {SHIFTED} px, intervals included"
    bad = "fault" if off > part.sensor.ratio / 2 else "warning" if off > SHIFTED else None
    return judged(part, "shift", bad, measured, off, limit, advice)


def _certain(optics: Optics) -> float:
    """The shift along the worse axis, less its uncertainty, px of PAN."""
    return max(0.0, *(max(lower, -upper) for lower, upper in optics.shift_interval))


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
