"""Sums of products become R², and R² becomes the place where it is highest, with its interval."""

import numpy as np
import torch
from jaxtyping import Float64
from scipy.interpolate import CubicSpline
from scipy.special import stdtrit
from torch import Tensor

STEPS = np.array([(down, right) for down in (-0.5, 0.0, 0.5) for right in (-0.5, 0.0, 0.5)])  # PAN px
_QUADRATIC = np.linalg.pinv(
    np.column_stack([np.ones(9), STEPS, STEPS[:, 0] ** 2, STEPS[:, 1] ** 2, STEPS[:, 0] * STEPS[:, 1]])
)

Gains = Float64[np.ndarray, " g"]
BlockSums = Float64[Tensor, "t n k k"]  # for t trials, n blocks


def co_moments(sums: Float64[Tensor, "*n k k"]) -> Float64[Tensor, "*n m m"]:
    """Bands and PAN about their means, from sums of products of (1, bands, PAN)."""
    mean = sums[..., :1, 1:] / sums[..., :1, :1].clamp(min=1)
    return sums[..., 1:, 1:] - sums[..., 1:, :1] @ mean


def explained(sums: Float64[Tensor, "*n k k"]) -> Float64[np.ndarray, "*n"]:
    """R² of PAN's regression on all bands, from sums of products of (1, bands, PAN)."""
    products = co_moments(sums)
    with_pan = products[..., :-1, -1:]
    # bands may be linear combinations of each other
    weights = torch.linalg.pinv(products[..., :-1, :-1], rtol=1e-10, hermitian=True) @ with_pan
    return ((weights * with_pan).sum((-2, -1)) / products[..., -1, -1]).numpy()


def explained_by_blocks(sums: BlockSums) -> Float64[np.ndarray, "t n"]:
    """R² of each block alone, for trials that differ in PAN; 0 where PAN shows nothing."""
    products = co_moments(sums)
    with_pan = products[..., :-1, -1:]
    inverse = torch.linalg.pinv(products[0, :, :-1, :-1], rtol=1e-6, hermitian=True)  # the bands stay
    energy = products[..., -1, -1]
    share = ((inverse @ with_pan) * with_pan).sum((-2, -1)) / energy.clamp(min=torch.finfo(energy.dtype).tiny)
    return share.clamp(0, 1).numpy()


def without_each(blocks: Float64[Tensor, "t n *k"]) -> Float64[Tensor, "t n *k"]:
    """The sums over all blocks but one, for each."""
    return blocks.sum(1, keepdim=True) - blocks


def peak(
    gains: Gains, values: Float64[np.ndarray, "g *n"]
) -> tuple[Float64[np.ndarray, "*n"], Float64[np.ndarray, "*n"]]:
    """Where a curve over gains is highest, and how high: of a spline over log(gain)."""
    fine = np.linspace(np.log(gains[0]), np.log(gains[-1]), 301)
    curve = CubicSpline(np.log(gains), values)(fine)
    best = curve.argmax(0)
    middle = best.clip(1, len(fine) - 2)
    below, at, above = (np.take_along_axis(curve, middle[None] + step, 0)[0] for step in (-1, 0, 1))
    bend = 2 * at - below - above
    inside = (best == middle) & (bend > 0)
    offset = np.divide(above - below, 2 * bend, out=np.zeros_like(bend), where=inside)
    return np.asarray(np.exp(fine[best] + offset * (fine[1] - fine[0]))), np.asarray(curve.max(0))


def vertex(values: Float64[np.ndarray, "t *n"]) -> Float64[np.ndarray, "*n 2"]:
    """Where the quadratic through the values at `STEPS` is highest, at most one pixel away; at a step if nowhere."""
    linear, bend, mixed = np.split(np.tensordot(_QUADRATIC[1:], values, 1), (2, 4))
    determinant = 4 * bend[0] * bend[1] - mixed[0] ** 2
    peaked = (bend[0] < 0) & (determinant > 0)
    scale = np.where(peaked, determinant, 1)
    top = (mixed * linear[::-1] - 2 * bend[::-1] * linear) / scale
    return np.where(peaked[..., None], np.moveaxis(top, 0, -1), STEPS[values.argmax(0)]).clip(-1, 1)


def half_width(estimates: Float64[np.ndarray, "n *m"]) -> np.ndarray:
    """Of the 95 % interval, by the jackknife: estimates each without one block."""
    n = len(estimates)
    deviation = np.sqrt((n - 1) * estimates.var(0))
    return np.asarray(stdtrit(n - 1, 0.975) * deviation)
