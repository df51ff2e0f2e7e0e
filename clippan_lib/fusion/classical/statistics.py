"""Means, deviations and slopes over an image, per band."""

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.shapes import Image

PerBand = Float[Tensor, "b c 1 1"]


def mean(image: Image) -> PerBand:
    return image.mean((-2, -1), keepdim=True)


def centred(image: Image) -> Image:
    """The image less its mean, per band; exactly 0 where a band is constant to its rounding."""
    deviation = image - mean(image)
    # the published interpolation taps, rounded to twelve digits, turn a constant into one to 4e-10
    rounding = max(32 * torch.finfo(image.dtype).eps, 1e-8)
    flat = mean(deviation.square()) <= rounding**2 * mean(image.square())
    return deviation.masked_fill(flat, 0.0)


def slope(image: Image, predictor: Float[Tensor, "b _ H W"]) -> PerBand:
    """Least-squares slope of `image` on `predictor`, per band; 0 where the predictor is constant."""
    deviation = centred(predictor)
    variance = mean(deviation.square())
    return mean((image - mean(image)) * deviation) / variance.masked_fill(variance == 0, torch.inf)
