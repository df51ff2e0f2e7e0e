"""Stacking: the mean of several fusions, weighted as one scale lower, where LRMS is the truth, has it best."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are asked for, which a command need not wait for
import torch
from jaxtyping import Float64

from clippan_lib.data import wald
from clippan_lib.data.stacks import is_soft, sharpness_of_truth
from clippan_lib.fusion.consistency import consistent_with_both
from clippan_lib.mtf import Border
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS, LRMS, PAN

STACK = "stack"
# One or two of each family that leaves no trace of tiles, and what has seen a truth at the scale of use
MEMBERS = ("gsa", "bt_h", "bdsd_pc", "mtf_glp_hpm_r", "bandwise")
PRIOR = (
    "bandwise"  # what one scale lower teaches may be wrong at the scale of use, which this member has seen
)
STEPS = 1  # of consistency with LRMS and PAN, behind the mean; more fit noise and bands that lie apart: docs/recipe.md
RIDGE = 0.3
_ENOUGH = 8  # LRMS px one scale lower, along a side, for which a truth is halved
_LEAST = 5  # ... and fewer than which weigh nothing
_EDGE = 1  # LRMS px that the weights do not look at
_HEAVY = 1e3  # of the row that asks for a sum of 1


@dataclass(frozen=True)
class Stack:
    """A weighted mean of methods, made consistent with LRMS and PAN: (lrms, pan) → hrms.

    The weights are those of the images that it is called with, one scale lower: Wolpert 1992 [wolpert1992stacked],
    as in Breiman 1996 [breiman1996stacked]: none is negative; here they sum to 1 as well, and are drawn towards all
    weight on `PRIOR`, or, without that member, towards equal weights. No truth at the scale of use is looked at, and
    nothing is trained.

    Args:
        methods: name to method; see `MEMBERS`.
        sensor: its ratio and MTF gains; those of the images.
        sharpness: see `consistent_with_both`; 1 where images as sharp as PAN are wanted.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
        ridge: what draws the weights, as a share of the members' mean squared error.
        steps: number of steps of `consistent_with_both`.
    """

    methods: Mapping[str, Callable[[LRMS, PAN], HRMS]]
    sensor: Sensor
    sharpness: float = 1.0
    border: Border = "replicate"
    ridge: float = RIDGE
    steps: int = STEPS

    def __call__(self, lrms: LRMS, pan: PAN) -> HRMS:
        """(b, c, h, w) and (b, 1, H, W), [0, 1], to (b, c, H, W), not clipped; one set of weights for the batch."""
        return self.fuse(self.weigh(lrms, pan), lrms, pan)

    def fuse(self, weights: Mapping[str, float], lrms: LRMS, pan: PAN) -> HRMS:
        """The same with weights that are given, by name, with sum 1."""
        parts = [weight * self.methods[name](lrms, pan) for name, weight in weights.items() if weight > 0]
        return self._consistent(torch.stack(parts).sum(0), lrms, pan, self.sharpness)

    @torch.no_grad()
    def weigh(self, lrms: LRMS, pan: PAN) -> dict[str, float]:
        """The weight of each method, found one scale lower.

        The truth there is made as sharp as PAN (`data.wald`) if that leaves enough of it. Images too small to be
        degraded at all have the weights that others are drawn towards.

        Args:
            lrms: (b, c, h, w), [0, 1].
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        """
        ratio, side = self.sensor.ratio, min(lrms.shape[-2:])
        if side // ratio < _LEAST:
            return self.prior
        sharp = is_soft(self.sensor) and side // (2 * ratio) >= _ENOUGH
        lower = wald(lrms, pan, self.sensor, sharp)
        sharpness = sharpness_of_truth(self.sensor, sharp)
        images = (method(lower.lrms, lower.pan) for method in self.methods.values())
        errors = [self._consistent(hrms, lower.lrms, lower.pan, sharpness) - lower.gt for hrms in images]
        unit = lower.gt.std((-2, -1), keepdim=True).clamp(min=1e-6)
        edge = _EDGE * ratio
        flat = torch.stack([(error / unit)[..., edge:-edge, edge:-edge].flatten() for error in errors])
        products = (flat.double() @ flat.double().T / flat.shape[1]).cpu().numpy()
        # |w - prior| squared, of weights whose sum is 1
        away = np.eye(len(products)) - np.outer([*self.prior.values()], np.ones(len(products)))
        ridge = self.ridge * np.trace(products) / len(products) * away.T @ away
        return dict(zip(self.methods, simplex(products + ridge).tolist(), strict=True))

    @property
    def prior(self) -> dict[str, float]:
        """The weights that are drawn towards."""
        if PRIOR in self.methods:
            return {name: float(name == PRIOR) for name in self.methods}
        return dict.fromkeys(self.methods, 1 / len(self.methods))

    def _consistent(self, hrms: HRMS, lrms: LRMS, pan: PAN, sharpness: float) -> HRMS:
        gnyq, ratio = self.sensor.gnyq, self.sensor.ratio
        return consistent_with_both(hrms, lrms, pan, gnyq, ratio, self.steps, sharpness, self.border)


def simplex(products: Float64[np.ndarray, "k k"]) -> Float64[np.ndarray, " k"]:
    """The w that minimises w' G w, none negative, with sum 1.

    Args:
        products: G, mean products of the members' errors; positive semidefinite.
    """
    values, vectors = np.linalg.eigh(products)
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    heavy = _HEAVY * max(np.abs(root).max(), np.finfo(float).tiny)
    rows = np.vstack([root, np.full((1, len(products)), heavy)])
    found, _ = scipy.optimize.nnls(rows, np.append(np.zeros(len(root)), heavy))
    return found / found.sum()


def in_words(weights: Mapping[str, float]) -> str:
    """Members with their weights, the heaviest first: "bt_h .54, gsa .46"."""
    order = sorted((name for name in weights if weights[name] > 0), key=lambda name: -weights[name])
    return ", ".join(f"{name} {weights[name]:.2f}".replace(" 0.", " .") for name in order)


def rounded(weights: Mapping[str, float]) -> dict[str, float]:
    """To hundredths, with sum 1: the same weights whatever order a machine adds in."""
    hundredths = {name: round(100 * weight) for name, weight in weights.items()}
    heaviest = max(hundredths, key=lambda name: hundredths[name])
    hundredths[heaviest] += 100 - sum(hundredths.values())
    return {name: count / 100 for name, count in hundredths.items()}
