"""Means, deviations and slopes over an image, per band."""

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.shapes import Image

PerBand = Float[Tensor, "b c 1 1"]
Batched = Float[Tensor, "b _ _ _"]


def mean(image: Image) -> PerBand:
    return image.mean((-2, -1), keepdim=True)


def centred(image: Image) -> Image:
    """The image less its mean, per band; exactly 0 where a band is constant to its rounding."""
    difference = image - mean(image)
    # the published interpolation taps, rounded to twelve digits, turn a constant into one to 4e-10
    rounding = max(32 * torch.finfo(image.dtype).eps, 1e-8)
    flat = mean(difference.square()) <= rounding**2 * mean(image.square())
    return difference.masked_fill(flat, 0.0)


def quotient(numerator: Batched, denominator: Batched) -> Batched:
    """Their quotient, broadcast; 0 where the denominator is 0."""
    return numerator / denominator.masked_fill(denominator == 0, torch.inf)


def slope(image: Image, predictor: Float[Tensor, "b _ H W"]) -> PerBand:
    """Least-squares slope of `image` on `predictor`, per band; 0 where the predictor is constant."""
    difference = centred(predictor)
    return quotient(mean((image - mean(image)) * difference), mean(difference.square()))


def deviation(image: Image) -> PerBand:
    """Standard deviation over all pixels, per band; 0 where a band is constant."""
    return mean(centred(image).square()).sqrt()


def correlation(image: Image, other: Float[Tensor, "b _ H W"]) -> PerBand:
    """Correlation coefficient per band; 0 where either is constant."""
    covariance = mean(centred(image) * centred(other))
    return quotient(covariance, deviation(image) * deviation(other))


def percentile(image: Image, percent: float) -> PerBand:
    """MATLAB's prctile, per band: linear between sorted values, value k of n standing at 100 (k - 1/2)/n."""
    ordered = image.flatten(2).sort(-1).values
    last = ordered.shape[-1] - 1
    position = min(max((last + 1) * percent / 100 - 0.5, 0.0), last)
    below, above = ordered[..., int(position)], ordered[..., min(int(position) + 1, last)]
    return torch.lerp(below, above, position % 1)[..., None, None]
