"""What a supervisor must be able to do before its language term may help: rank, point at the truth, and steer.

A supervisor is here a function from fused images to their loss (`fusion.walk.Loss`), of one scene with its truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from clippan_lib.clip.aims import blurred
from clippan_lib.evaluation.ranking import ranking
from clippan_lib.fusion.walk import STEPS, Loss, descent, rate_of, unseen_by_lrms, walk
from clippan_lib.losses.ascent import APART, errors_of
from clippan_lib.metrics import BETTER, reduced_scores
from clippan_lib.mtf import degrade
from clippan_lib.shapes import HRMS, LRMS, PAN
from clippan_lib.training.deliveries import SPOILINGS, UNSEEN_SPOILINGS, deviation_of

STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
TRUTHS = ("MPSNR", "SAM", "Q2n")
STRIDE = 0.01  # of a walk that is to be seen; five times that of one that is to gain
LOSS = "L_d"
_ERROR = "error"
_LOW = 2.0  # px: sigma below which errors are not looked at, low-passed
_AT_ONCE = 8  # images
_EQUAL = 200.0  # dB, for images that differ nowhere


@dataclass(frozen=True)
class Case:
    """One scene with its truth.

    Args:
        name: name of the scene.
        lrms, pan, gt: a batch of one, [0, 1].
        fused: what methods made of the pair.
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
        max_value: largest digital number, for the scores.
    """

    name: str
    lrms: LRMS
    pan: PAN
    gt: HRMS
    fused: Mapping[str, HRMS]
    gnyq: tuple[float, ...]
    ratio: int
    max_value: float

    @property
    def deviation(self) -> Tensor:
        """Of each band of LRMS: (1, c, 1, 1)."""
        return deviation_of(self.lrms)


def spoiled(case: Case, seed: int = 0) -> dict[str, dict[str, HRMS]]:
    """The truth spoiled in every known way, at five strengths.

    Returns: "spoiled" and "spoiled, unseen", the ways that no supervisor of the package is trained with, to images.
    """
    rng = np.random.default_rng(seed)
    return {
        group: {
            f"{name} {strength}": spoil(case.gt, strength, rng).float()
            for name, spoil in ways.items()
            for strength in STRENGTHS
        }
        for group, ways in (("spoiled", SPOILINGS), ("spoiled, unseen", UNSEEN_SPOILINGS))
    }


@torch.no_grad()
def losses_of(loss: Loss, images: Sequence[HRMS]) -> list[float]:
    """The loss of each of some images (1, c, H, W)."""
    parts = [torch.cat([*images[start : start + _AT_ONCE]]) for start in range(0, len(images), _AT_ONCE)]
    return torch.cat([loss(part) for part in parts]).tolist()


def rank(loss: Loss, case: Case, seed: int = 0) -> pd.DataFrame:
    """How the loss orders fusions, spoiled truths, and the truth itself.

    Returns: a row per group ("fused", "spoiled", "spoiled, unseen"), each with the truth in it. `right` is the share of
        pairs that are ordered as their errors are: root mean squares, bands in units of their deviations, pairs closer
        than .02 left out. (MPSNR is no measure of this: it hardly sees what spoils one band of several.) Then the rank
        correlations with each of `TRUTHS`, 1 being the best.
    """
    groups = {"fused": dict(case.fused), **spoiled(case, seed)}
    better = {**BETTER, LOSS: "low", _ERROR: "low"}
    rows = {}
    for group, images in groups.items():
        every = [*images.values(), case.gt]
        scores = [_scores(image, case) for image in every[:-1]]
        best = {"MPSNR": _EQUAL, "SAM": 0.0, "Q2n": 1.0}
        errors = errors_of(torch.cat(every), case.gt, case.deviation).tolist()
        table = pd.DataFrame([*scores, best])[[*TRUTHS]].assign(
            **{LOSS: losses_of(loss, every), _ERROR: errors}
        )
        rows[group] = {"right": ranking(table, _ERROR, [LOSS], better, APART).agreement[LOSS]}
        for truth in TRUTHS:
            rows[group][f"rank correlation, {truth}"] = ranking(table, truth, [LOSS], better).spearman[LOSS]
    return pd.DataFrame.from_dict(rows, orient="index")


def point(loss: Loss, case: Case) -> pd.DataFrame:
    """Cosine of minus the gradient with what is missing from the truth, bands in units of their deviations.

    Returns: a row per fused image: `pixels`; `low`, both blurred by 2 px; `null`, both without what LRMS sees.
    """
    rows = {}
    for name, image in case.fused.items():
        way, missing = descent(image, loss, case.deviation), case.gt - image
        pairs = {
            "pixels": (way, missing),
            "low": (blurred(way, _LOW), blurred(missing, _LOW)),
            "null": tuple(unseen_by_lrms(each, case.gnyq, case.ratio) for each in (way, missing)),
        }
        rows[name] = {kind: _cosine(pair[0], pair[1], case.deviation) for kind, pair in pairs.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def _cosine(one: HRMS, other: HRMS, deviation: Tensor) -> float:
    return F.cosine_similarity((one / deviation).flatten(), (other / deviation).flatten(), dim=0).item()


def ascend(loss: Loss, case: Case, start: str, size: float, steps: Sequence[int]) -> dict[int, float]:
    """What walks from a fused image gain: MPSNR (dB) behind so many steps, minus that of the start."""
    image, found, done = case.fused[start], {}, 0
    before = mpsnr(image, case)
    seen: dict[str, Any] = {"gnyq": case.gnyq, "ratio": case.ratio}
    rate = rate_of(image, loss, case.deviation, size=size, **seen)
    for count in steps:
        image = walk(image, loss, case.deviation, steps=count - done, rate=rate, **seen)
        found[count], done = mpsnr(image, case) - before, count
    return found


def mpsnr(image: HRMS, case: Case) -> float:
    """Mean over bands, dB; clipped to [0, 1]."""
    return _scores(image, case)["MPSNR"]


def _scores(image: HRMS, case: Case) -> dict[str, float]:
    found = reduced_scores(image.clamp(0, 1).double(), case.gt.double(), case.ratio, case.max_value)
    return {name: min(value.item(), _EQUAL) for name, value in found.items()}


def axes(image: HRMS, lrms: LRMS, pan: PAN, gnyq: Sequence[float], ratio: int) -> dict[str, float]:
    """What words may change of an image fused from a pair, each in units of the bands' deviations.

    `sharpness`: root mean square of what a blur of 1.2 px takes away. `noise`: the same with 1 px, over the quarter of
    the pixels where PAN is flattest. `halos`: how far pixels lie beyond those around them, these blurred by 1 px.
    `colour`: deviation from band to band of their detail, against a blur of 4 px. `contrast`: root mean square of that
    detail. `inconsistency`: mean of what `degrade` makes of the image minus LRMS, without sign.

    Args:
        image: (1, c, H, W).
        lrms, pan: the pair, in its unit.
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
    """
    deviation = deviation_of(lrms)

    def size(values: Tensor) -> float:
        return values.square().mean().sqrt().item()

    calm = blurred(image, 1.0)
    highest, lowest = F.max_pool2d(calm, 5, 1, 2), -F.max_pool2d(-calm, 5, 1, 2)
    flatness = blurred((pan - blurred(pan, 2.0)).square(), 2.0)
    # not `quantile`, which takes no more than 2^24 values
    limit = flatness.flatten().kthvalue(max(1, flatness.numel() // 4)).values
    flat = (flatness <= limit).expand_as(image)
    fine = (image - calm) / deviation
    detail = (image - blurred(image, 4.0)) / deviation
    found = {
        "sharpness": size((image - blurred(image, 1.2)) / deviation),
        "noise": size(fine[flat]),
        "halos": ((image - image.clamp(lowest, highest)).abs() / deviation).mean().item(),
        "colour": size(detail - detail.mean(1, keepdim=True)),
        "contrast": size(detail),
    }
    seen = degrade(image, gnyq, ratio)
    return found | {"inconsistency": ((seen - lrms).abs() / deviation).mean().item()}


def steer(
    losses: Mapping[str, Loss],
    start: HRMS,
    lrms: LRMS,
    pan: PAN,
    gnyq: Sequence[float],
    ratio: int,
    steps: int = STEPS,
    size: float = STRIDE,
) -> tuple[dict[str, HRMS], pd.DataFrame]:
    """Walks from one image down several losses, such as those of several texts.

    Args:
        losses: name to loss.
        start: (1, c, H, W).
        lrms, pan, gnyq, ratio: as for `axes`.
        steps, size: as for `walk`.
    Returns: name to where the walk ends; and a row per name with the change of each of `axes`, per cent of the start's.
    """
    deviation = deviation_of(lrms)
    images = {
        name: walk(start, loss, deviation, gnyq=gnyq, ratio=ratio, steps=steps, size=size)
        for name, loss in losses.items()
    }
    before = pd.Series(axes(start, lrms, pan, gnyq, ratio))
    after = {name: pd.Series(axes(image, lrms, pan, gnyq, ratio)) for name, image in images.items()}
    return images, pd.DataFrame({name: 100 * (moved / before - 1) for name, moved in after.items()}).T
