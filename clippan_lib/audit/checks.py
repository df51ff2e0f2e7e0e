"""What the measurements say: one finding per check and part, and the limits, each with its reason."""

from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clippan_lib.audit.findings import Finding, judged, unmeasured
from clippan_lib.audit.measures import ONE_IN, fitted_gains, knows_haze, measured_ms, orders, peak
from clippan_lib.audit.optics import likeness, sharpness, shift
from clippan_lib.audit.split import FITTED, KEPT, Prints, SplitAudit
from clippan_lib.shapes import Image

# Limits. Beside each, what clean data gave (all splits and resolutions of the synthetic QB and WV3 datasets
# and of the two real scenes) and what the planted fault gave.
EXTREME = 0.01  # share of 0 or of the largest value; clean to 0.003
APART = {"full": 1.0, "reduced": 0.5}  # px of PAN; clean to 0.81 (real WV2) and 0.17; one planted: 0.9
APART_SHARE = (
    0.375  # of a MS pixel, at most: under the half that is a fault, over the quarter of aligned areas
)
SCATTERED = 0.2  # share of windows over 1 px from the median; clean to 0.07 (16 px windows)
FOLLOWS = 0.5  # R2 of PAN from the bands, in most windows; clean from 0.71; other ground: 1 window of 36
OUT_OF_PHASE = 0.02  # share of windows; clean 0, one faulty window in twenty is 0.05
GAIN_OFF = 0.05  # of the gain at Nyquist; clean to 0.01, found to 0.01
RESIDUE = 0.1  # share of LRMS; clean to 0.05 (the synthetic sensor's noise), bicubic reduction 0.19
DISORDER = 0.05  # gain in rank correlation by another order; clean 0, planted from 0.11


@dataclass(frozen=True)
class Leak:
    """Two windows of different splits that share about `pixels` px of the measured MS `images`."""

    first: str
    second: str
    first_image: Image
    second_image: Image
    pixels: int


def unreadable(split: str, resolution: str, measured: str, count: int) -> Finding:
    advice = "The message says what to do; until then no training or score on this split is what it seems."
    return Finding("readable", split, resolution, "fault", measured, float(count), "none", advice)


def _readable(part: SplitAudit) -> Finding:
    total = 0 if part.patches is None else len(part.patches)
    looked = f"{part.looked} of {total} windows of {part.side} LRMS px read"
    if part.refusals:
        first = f"{len(part.refusals)} scenes refused, the first: {part.refusals[0]}"
        return unreadable(part.split, part.resolution, f"{looked}; {first}", len(part.refusals))
    if part.no_window:
        advice = (
            "Nothing is wrong with the files, but nothing can be looked at or judged here: give the manifest's split "
            "other shares or another axis, so that this part has more of the ground with data, or take a larger scene."
        )
        return judged(part, "readable", "warning", part.no_window, 0.0, "one window", advice)
    return judged(part, "readable", None, looked, 0.0, "none", "")


def _sizes(part: SplitAudit) -> Finding | None:
    """Whether the scene is large enough for a truth made sharp, which the presets smoke and demo have."""
    if not part.small or part.split != "train":
        return None
    advice = "Or keep the truth as delivered: -p truth=delivered. Bands as sharp as PAN need half of it."
    return judged(part, "sizes", "warning", part.small, 1.0, "none", advice)


def _blank(part: SplitAudit) -> Finding | None:
    """Truncated downloads and interrupted writers leave zeros at the end."""
    if not part.looked:
        return None
    blank = [scene for scene, some in part.filled.items() if not some]
    measured = f"{len(blank)} of {len(part.filled)} scenes have an image of zeros only"
    if blank:
        measured += f", the first is {part.patches.stack.names[blank[0]]}"
        if blank == sorted(part.filled)[-len(blank) :]:
            measured += "; they are the last ones"
    advice = "A truncated download or an interrupted writer: get the file again and compare its size."
    return judged(
        part, "blank scenes", "fault" if blank else None, measured, float(len(blank)), "none", advice
    )


def _values(part: SplitAudit) -> Finding | None:
    """Share of 0 and of the largest value, the range that is used, bands of one value."""
    if not part.looked:
        return None
    zeros, saturated = (
        max(found[name] / part.counts[name] for name in part.counts) for found in (part.zeros, part.saturated)
    )
    names, flat = (*part.sensor.bands, "PAN"), (part.low == part.high).tolist()
    constant = [name for name, is_flat in zip(names, flat, strict=True) if is_flat]
    largest = part.patches.stack.dn_max
    # of the bands: PAN of reduced resolution overshoots
    digital = float(part.high[:-1].max()) * largest
    measured = (
        f"0 in {zeros:.2%}, largest value in {saturated:.2%} of the worst image; "
        f"highest of the bands {digital:.4g} of {largest:g}"
    )
    if constant:
        advice = f"One value throughout in {', '.join(constant)}: a lost band or an empty file; get it again."
        return judged(part, "values", "fault", measured, float(len(constant)), "no constant band", advice)
    if digital <= 1.01:
        advice = "The values were divided before: give the manifest max_value: 1.0."
        return judged(part, "values", "fault", measured, digital, "highest above 1", advice)
    if part.sensor.bits > 8 and digital <= 255.5:
        advice = "Looks like 8 bits: if so, the pictures were stretched for display; use the original data."
        return judged(part, "values", "warning", measured, digital, "highest above 255", advice)
    advice = "Zeros are NoData or deep shadow, largest values saturated: cut them out, or leave those scenes."
    worst, limit = max(zeros, saturated), f"at most {EXTREME:.0%}"
    return judged(part, "values", "warning" if worst > EXTREME else None, measured, worst, limit, advice)


def _phase(part: SplitAudit) -> Finding | None:
    """On which pixel of the reference LRMS pixels lie; the convention is ratio//2 on both axes."""
    if not part.looked or not part.patches.has_gt:
        return None
    if not part.phases:
        return unmeasured(part, "phase", f"windows of {part.side} LRMS px are too small or flat")
    ratio, total = part.sensor.ratio, part.phases.total()
    shares = ", ".join(
        f"({ratio // 2 + row}, {ratio // 2 + column}) in {count / total:.0%}"
        for (row, column), count in part.phases.most_common(4)
    )
    off = 1 - part.phases[0, 0] / total
    advice = (
        f"LRMS was not decimated at ({ratio // 2}, {ratio // 2}): a network learns to shift by that. "
        "Make it again from the reference with clippan_lib.mtf.degrade."
    )
    measured = f"row and column {shares} of {total} windows"
    bad = "fault" if off > OUT_OF_PHASE else None
    return judged(part, "phase", bad, measured, off, f"others in at most {OUT_OF_PHASE:.0%}", advice)


def _simulation(part: SplitAudit) -> Finding | None:
    """Whether LRMS is the reference seen through the stated sensor's MTF."""
    if not part.phases:
        return None
    gains, least = fitted_gains(part.errors)
    off = float((gains - torch.tensor(part.sensor.gnyq)).abs().max())
    residue = float((least.sum() / part.energy.sum()).sqrt())
    shown = ", ".join(f"{gain:.2f}" for gain in gains.tolist())
    fitted = min(FITTED, part.phases.total())
    measured = f"gains at Nyquist {shown}; {residue:.1%} of LRMS left over, {fitted} windows"
    advice = (
        f"{part.sensor.name} has {', '.join(f'{gain:.2f}' for gain in part.sensor.gnyq)}. LRMS was made with "
        "another filter, or for another sensor: correct the sensor, or make it again with mtf.degrade."
    )
    limit = f"gains within {GAIN_OFF} of the sensor's, at most {RESIDUE:.0%} left over"
    bad = "warning" if off > GAIN_OFF or residue > RESIDUE else None
    return judged(part, "simulation", bad, measured, off, limit, advice)


def offsets(part: SplitAudit) -> Float64[Tensor, "n 2"]:
    """By how much MS lies off its place on PAN, in px of PAN, in the windows where PAN follows the bands."""
    found = [peak(surface) for surface in part.surfaces if surface.max() >= FOLLOWS]
    return torch.tensor(found, dtype=torch.float64).reshape(-1, 2)


def _at_edge(part: SplitAudit, off: float) -> str:
    reach = len(part.surfaces[0]) // 2
    return f"{reach} px is the largest that was looked at: so far or farther; " if off > reach - 1 else ""


def _registration(part: SplitAudit) -> Finding | None:
    """Where MS lies on PAN, in px of PAN.

    Pixel areas aligned at the corner, the usual grid, are off by -0.5; PAN reduced by `mtf.imresize` by
    0.5/ratio.
    """
    if not part.looked:
        return None
    found, ratio = offsets(part), part.sensor.ratio
    if not part.surfaces:
        return unmeasured(part, "registration", f"windows of {part.side} LRMS px are too small or flat")
    if len(found) < len(part.surfaces) / 2:
        measured = (
            f"PAN follows the bands in {len(found)} of {len(part.surfaces)} windows only, no more than "
            f"{len(part.surfaces[0]) // 2} px of PAN off"
        )
        advice = "PAN and LRMS do not show the same ground, or are noise: check how the files are paired."
        share = len(found) / len(part.surfaces)
        return judged(part, "registration", "fault", measured, share, "at least half", advice)
    middle = found.median(0).values
    away = (found - middle).abs().amax(1)
    scattered, off = float((away > 1).double().mean()), float(middle.abs().max())
    place = ", ".join(f"{ratio // 2 + value:.2f}" for value in middle.tolist())
    measured = (
        f"MS off by {middle[0]:+.2f} rows, {middle[1]:+.2f} columns of PAN (median of {len(found)} windows; "
        f"half within {float(away.median()):.2f}), that is phase ({place}); {_at_edge(part, off)}"
        f"{scattered:.0%} over 1 px from the median"
    )
    apart = min(APART[part.resolution], APART_SHARE * ratio)
    limit = f"at most {apart} px, {SCATTERED:.0%} scattered"
    if scattered > SCATTERED:
        advice = (
            "The windows do not agree: mixed phases, wrong pairs, relief or movement. Look at the pictures."
        )
        return judged(part, "registration", "warning", measured, scattered, limit, advice)
    bad = "fault" if off > ratio / 2 else "warning" if off > apart else None
    advice = (
        "Shift MS by this much, or register the pair, then cut patches; over half a MS pixel it is a fault."
    )
    return judged(part, "registration", bad, measured, off, limit, advice)


def _order(part: SplitAudit) -> Finding | None:
    """Band order by the haze, see `dark_ratios`."""
    if not part.looked:
        return None
    if not part.fits:
        why = "needs four bands of known wavelength" if not knows_haze(part.sensor) else "a band is empty"
        return unmeasured(part, "band order", why)
    names, fits = list(orders(part.sensor)), np.mean(part.fits, axis=0)
    best, gap = names[fits.argmin()], float(fits[0] - fits.min())
    dark = np.median(part.darks, axis=0)
    ratios = ", ".join(f"{band} {value:.2f}" for band, value in zip(part.sensor.bands, dark, strict=True))
    measured = (
        f"dark to mean: {ratios}; rank correlation with wavelength {fits[0]:.2f}, {len(part.fits)} windows"
    )
    advice = (
        f"Haze should fall from blue to infrared; the bands look {best} (correlation {fits.min():.2f}). "
        "Look at a picture in true colours; land cover can fool this check."
    )
    limit = f"no other order better by {DISORDER}"
    return judged(part, "band order", "warning" if gap > DISORDER else None, measured, gap, limit, advice)


CHECKS = (
    _readable,
    _sizes,
    _blank,
    _values,
    _phase,
    _simulation,
    shift,
    _registration,
    likeness,
    sharpness,
    _order,
)


def leakage(parts: list[SplitAudit], splits: tuple[str, str]) -> tuple[Finding | None, list[Leak]]:
    """Pairs of windows of two splits that share blocks of measured MS, at whatever resolution."""
    sides = [[part for part in parts if part.split == split and part.looked] for split in splits]
    if not all(sides):
        return None, []
    found, hit = [], set()
    for a, b in product(*sides):
        pairs, windows = _shared(a.prints, b.prints)
        found += [(count * ONE_IN, (a, first), (b, second)) for (first, second), count in pairs.items()]
        hit |= {(b.resolution, window) for window in windows}
    found.sort(key=lambda pair: -pair[0])
    looked = sum(part.looked for part in sides[1])
    measured = f"{len(hit)} of {looked} windows of {splits[1]} share measured MS pixels with {splits[0]}"
    leaks = [
        Leak(_name(*a), _name(*b), _ground(*a), _ground(*b), pixels) for pixels, a, b in found[: KEPT // 2]
    ]
    if leaks:
        measured += f", most of all {leaks[0].second} and {leaks[0].first} (about {leaks[0].pixels} px)"
    advice = f"Scores on {splits[1]} are of ground seen in {splits[0]}: drop these windows or cut anew."
    severity, advice = ("fault", advice) if leaks else ("ok", "")
    names = ", ".join(splits)
    return Finding("leakage", names, "all", severity, measured, float(len(hit)), "none", advice), leaks


def _shared(first: Prints, second: Prints) -> tuple[Counter[tuple[int, int]], set[int]]:
    """Fingerprints in common by pair of windows, each for one of `second`; and all those of `second`."""
    (hashes, owners), (others, other_owners) = (
        (
            np.concatenate([h for h, _ in prints]),
            np.repeat([i for _, i in prints], [len(h) for h, _ in prints]),
        )
        for prints in (first, second)
    )
    unique, where = np.unique(others, return_index=True)
    if not len(unique):
        return Counter(), set()
    place = np.searchsorted(unique, hashes).clip(max=len(unique) - 1)
    hit = unique[place] == hashes
    pairs = Counter(zip(owners[hit].tolist(), other_owners[where[place[hit]]].tolist(), strict=True))
    return pairs, set(other_owners[np.isin(others, hashes)].tolist())


def _name(part: SplitAudit, window: int) -> str:
    scene = part.patches.stack.names[part.patches.scene_of(window)]
    return f"{part.split} {part.resolution} {scene}, window {window}"


def _ground(part: SplitAudit, window: int) -> Image:
    return measured_ms(part.patches.batch([window]), part.resolution)
