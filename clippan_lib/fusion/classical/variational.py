"""Variational fusion: the image that explains LRMS and PAN with the least total variation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clippan_lib.fusion.classical.least_squares import nonnegative, normal_equations
from clippan_lib.fusion.classical.stages import Stages, staged
from clippan_lib.fusion.classical.statistics import Spread, deviation, mean
from clippan_lib.mtf import Border, mtf_kernel, upsample
from clippan_lib.shapes import LRMS, PAN, check_pair

Fine = Float64[Tensor, "b c H W"]
FinePan = Float64[Tensor, "b 1 H W"]
Coarse = Float64[Tensor, "b c h w"]
PerBand = Float64[Tensor, "b c 1 1"]
# one column and one row less than the image
Field = tuple[Float64[Tensor, "b c H w"], Float64[Tensor, "b c h W"]]

# of the bands' energy: neighbouring bands are so alike that without it most weights are 0
_RIDGE = 0.1


def sampling_matrix(gnyq: Sequence[float], length: int, ratio: int) -> np.ndarray:
    """(c, length/ratio, length) weights along one axis of what `mtf.degrade` does along both.

    The kernels are products of two profiles but for 1e-5 of them. Here the profiles sum to 1, as a sensor
    sees a uniform scene as it is.
    """
    left, _, _ = np.linalg.svd(mtf_kernel(gnyq, ratio).numpy())
    profile = left[:, :, 0] / left[:, :, 0].sum(1, keepdims=True)
    size = profile.shape[1]
    pixel = np.arange(length // ratio)[:, None]
    taps = (ratio * pixel + ratio // 2 + np.arange(size) - size // 2).clip(0, length - 1)
    matrix = np.zeros((len(gnyq), length // ratio, length))
    np.add.at(matrix, (slice(None), pixel, taps), profile[:, None])
    return matrix


class Sensors(NamedTuple):
    """What the two sensors see of an image: each band through its MTF, and the weighted sum of the bands.

    Args:
        rows: (c, h, H), or (1, h, H) for all bands.
        columns: (c, w, W), or (1, w, W).
        weights: (b, c, 1, 1), at least 0.
    """

    rows: Float64[Tensor, "_ h H"]
    columns: Float64[Tensor, "_ w W"]
    weights: PerBand

    def see(self, image: Fine) -> tuple[Coarse, FinePan]:
        return self.rows @ image @ self.columns.mT, (self.weights * image).sum(1, keepdim=True)

    def adjoint(self, ms: Coarse, pan: FinePan) -> Fine:
        return self.rows.mT @ ms @ self.columns + self.weights * pan

    def curvature(self) -> Float64[Tensor, "b 1 1 1"]:
        """No less than the largest eigenvalue of `adjoint(see(.))`."""
        ms = torch.linalg.matrix_norm(self.rows, 2) * torch.linalg.matrix_norm(self.columns, 2)
        return ms.square().amax() + self.weights.square().sum(1, keepdim=True)


def gradient(image: Fine) -> Field:
    """Differences to the next column and to the next row."""
    return image.diff(dim=-1), image.diff(dim=-2)


def squared_length(field: Field) -> Fine:
    """Of the vector in each pixel; what the last column and row lack counts as 0."""
    along, down = field
    total = along.new_zeros(*along.shape[:-1], down.shape[-1])
    total[..., :-1] = along.square()
    total[..., :-1, :] += down.square()
    return total


def minus_adjoint(image: Fine, field: Field) -> Fine:
    """The image less the gradient's adjoint of the field."""
    along, down = field
    rest = image.clone()
    rest[..., :-1] += along
    rest[..., 1:] -= along
    rest[..., :-1, :] += down
    rest[..., 1:, :] -= down
    return rest


def minimise(
    sensors: Sensors, ms: Coarse, pan: FinePan, image: Fine, strength: float, iterations: int
) -> Fine:
    """argmin of |ms - see_ms(x)|^2 + |pan - see_pan(x)|^2 + strength * sum of |gradient(x)|, from `image` on.

    Majorisation-minimisation: each term gives way to a quadratic that touches it at the present image. The
    minimum of their sum is found through a dual field z, which takes one step an iteration. In our tests the
    objective falls from the first on; a strength of the deviation of the image and more can raise it at first.
    """
    alpha = sensors.curvature()
    c = 8.0  # no less than the largest eigenvalue of gradient(its adjoint(.))
    z = tuple(torch.zeros_like(part) for part in gradient(image))
    for _ in range(iterations):
        seen_ms, seen_pan = sensors.see(image)
        b = sensors.adjoint(ms - seen_ms, pan - seen_pan).add_(alpha * image)
        scale = squared_length(gradient(image)).sqrt_().mul_(2 * alpha / strength).add_(c)
        steps = gradient(minus_adjoint(b, z))
        for part, step, by in zip(z, steps, (scale[..., :-1], scale[..., :-1, :]), strict=True):
            part.mul_(c).add_(step).div_(by)
        image = minus_adjoint(b, z).div_(alpha)
    return image


def _spread(image: Coarse) -> PerBand:
    """Standard deviation per band; 1 where the band is constant."""
    spread = deviation(image)
    return spread.masked_fill(spread == 0, 1.0)


def pan_weights(lrms: Coarse, pan_lr: Float64[Tensor, "b 1 h w"]) -> PerBand:
    """Non-negative weights of the bands in PAN, least squares with an intercept and a ridge."""
    spread = Spread(lrms=lrms, pan=pan_lr).tally()
    gram, cross, scale = normal_equations(spread.covariance("lrms", "lrms"), spread.covariance("lrms", "pan"))
    ridge = _RIDGE * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return (nonnegative(gram + ridge, cross) / scale)[..., None]


@staged(lambda ratio: None)  # each iteration spreads a change by a pixel and more
def tv(
    lrms: LRMS,
    pan: PAN,
    ratio: int,
    gnyq: Sequence[float],
    weights: Sequence[float] | None = None,
    strength: float = 1e-3,
    iterations: int = 50,
    border: Border = "replicate",
) -> Stages:
    """TV: the image that, seen by the sensors, gives LRMS and PAN, and has little total variation.

    Palsson, Sveinsson and Ulfarsson 2014 [palsson2014new]: `minimise`, with the image in units of each band's
    deviation, an LRMS pixel counting for the ratio^2 pixels that it covers, and PAN a weighted sum of the bands
    plus a constant. Departs from it in: LRMS is seen through the MTF, at the phase of `mtf.decimate`, with the
    exact adjoint; the weights come from the images; it starts at EXP; alpha is the curvature of the sensors.
    The toolbox's TV is not followed: its parameters are for three sensors, and its dual field takes DD'z for cz
    - DD'z.

    Args:
        lrms: (b, c, h, w), any linear unit.
        pan: (b, 1, ratio*h, ratio*w), any linear unit.
        ratio: PAN-to-MS scale, at least 2.
        gnyq: MTF gain at Nyquist, one per band (or one for all), in (0, 1).
        weights: weights of the bands in PAN, in the units of both; None fits them, at least 0, to PAN degraded by the
            mean of the bands' kernels. A band of weight 0 gets little detail.
        strength: strength of the total variation, above 0: twice the variance of the noise over the mean length of the
            gradient, in the bands' deviations. The default stands for noise of about one per cent.
        iterations: at least 1.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, ratio*h, ratio*w), in the unit of `lrms`, not clipped.
    Raises: ValueError if the pair does not fit `ratio`, gains or weights do not fit the bands, or strength or
        iterations are out of range.
    """
    check_pair(lrms, pan, ratio)
    bands = lrms.shape[1]
    if len(gnyq) not in (1, bands):
        raise ValueError(f"{len(gnyq)} kernels for {bands} bands; give one per band, or one for all")
    if weights is not None and len(weights) != bands:
        raise ValueError(f"{len(weights)} weights for {bands} bands; give one per band")
    if not strength > 0 or iterations < 1:
        raise ValueError(f"strength {strength} must be above 0 and iterations {iterations} at least 1")
    ms, fine = lrms.double(), pan.double()
    rows, columns = (torch.from_numpy(sampling_matrix(gnyq, side, ratio)).to(ms) for side in pan.shape[-2:])
    yield from ()
    pan_lr = (rows @ fine @ columns.mT).mean(1, keepdim=True)
    unit, pan_unit = _spread(ms), _spread(pan_lr)
    if weights is None:
        w = pan_weights(ms, pan_lr)
    else:
        w = ms.new_tensor(weights).view(1, -1, 1, 1).expand(len(ms), -1, -1, -1)
    offset = mean(pan_lr) - (w * mean(ms)).sum(1, keepdim=True)
    sensors = Sensors(ratio * rows, columns, w * unit / pan_unit)
    start = upsample(lrms, ratio, border).double() / unit
    image = minimise(sensors, ratio * ms / unit, (fine - offset) / pan_unit, start, strength, iterations)
    return (image * unit).to(lrms.dtype)
