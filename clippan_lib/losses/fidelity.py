"""Stage II: low-level losses that need no ground truth (Eqs. 9-12 of CLIPPan [jian2026clippan])."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clippan_lib.metrics.no_reference import qnr
from clippan_lib.mtf import degrade, imresize
from clippan_lib.shapes import HRMS, LRMS, PAN, Image, Scalar, Scores


@lru_cache(maxsize=16)
def _window(size: int) -> Tensor:
    """(size - 10, size): every placement of SSIM's Gaussian window (11 taps, sigma 1.5) along one axis."""
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    steps = torch.arange(size - 10)
    window = torch.zeros(size - 10, size, dtype=torch.float64)
    window[steps[:, None], steps[:, None] + torch.arange(11)] = taps / taps.sum()
    return window


def ssim(image: Image, target: Tensor) -> Scores:
    """Structural similarity with data_range 1; 1 is best.

    Wang et al. 2004 [wang2004image], Eq. 13: Gaussian window of 11 pixels, sigma 1.5, only where it lies
    inside. Windows are two small matrix products: torchmetrics, whose values inside the image are the same,
    takes one-channel convolutions, many times slower on a CPU (`benchmarks/losses.py`), and lets a reflected
    border into the mean.

    Args:
        image: (b, c, H, W), [0, 1], sides of at least 11.
        target: the same shape and range.
    Returns: (b,), mean over bands and windows, at most 1.
    Raises: ValueError on unequal shapes or sides below 11.
    """
    height, width = image.shape[-2:]
    if image.shape != target.shape or min(height, width) < 11:
        raise ValueError(
            f"SSIM needs equal shapes, 11 pixels or more: {tuple(image.shape)}, {tuple(target.shape)}"
        )
    rows, columns = _window(height).to(image), _window(width).to(image).T
    maps = torch.stack([image, target, image * image, target * target, image * target])
    mean_x, mean_y, xx, yy, xy = rows @ maps @ columns
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return ((2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * structure).flatten(1).mean(1)


def _distance(image: Image, target: Image) -> Scalar:
    """Squared error plus structural dissimilarity, the form that Eqs. 9 and 10 share."""
    return F.mse_loss(image, target) + 1 - ssim(image, target).mean()


def spectral(hrms: HRMS, lrms: LRMS, ratio: int, gnyq: Sequence[float] | None = None) -> Scalar:
    """The output, degraded, must be the LRMS image.

    Eq. 9, CLIPPan. Departs from it in: with `gnyq` the degradation is the sensor's (MTF, then decimation) and
    not bicubic. Bicubic centres LR pixel k on 4k + 1.5, the MTF convention on 4k + 2: half a PAN pixel apart.

    Args:
        hrms: (b, c, H, W), [0, 1].
        lrms: (b, c, H/ratio, W/ratio), [0, 1], sides of at least 11.
        ratio: PAN-to-MS scale.
        gnyq: MTF gains at Nyquist, one per band; None for bicubic (the paper's).
    Returns: a scalar, 0 is best.
    """
    height, width = lrms.shape[-2:]
    low = imresize(hrms, (height, width)) if gnyq is None else degrade(hrms, gnyq, ratio)
    return _distance(low, lrms)


class PanResponse(nn.Module):
    """phi of Eq. 10: the weights that turn the MS bands into PAN.

    It lives outside the backbone, is fitted once (`fit_pan_response`) and holds buffers, not parameters: if it
    were trained along, a backbone could hide any error in a band to which phi has learned to give no weight.

    Args:
        weights: (c,), one per band.
        offset: (1,), added to the weighted sum.
    """

    weights: Tensor
    offset: Tensor

    def __init__(self, weights: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("offset", offset)

    def forward(self, hrms: HRMS) -> PAN:
        """(b, c, H, W) to (b, 1, H, W)."""
        return F.conv2d(hrms, self.weights[None, :, None, None], self.offset)


def fit_pan_response(lrms: LRMS, pan_lr: Float[Tensor, "b 1 h_pan w_pan"]) -> PanResponse:
    """Least squares of low-resolution PAN on the bands, over all pixels.

    Args:
        lrms: (b, c, h, w), [0, 1].
        pan_lr: (b, 1, h, w), PAN degraded to the size of lrms.
    Raises: ValueError when the sizes differ.
    """
    if lrms.shape[-2:] != pan_lr.shape[-2:]:
        raise ValueError(
            f"lrms {tuple(lrms.shape)} and low-resolution pan {tuple(pan_lr.shape)} differ in size"
        )
    bands = lrms.transpose(0, 1).flatten(1).T.double()
    design = torch.cat([bands, torch.ones_like(bands[:, :1])], dim=1)
    solution = torch.linalg.lstsq(
        design.cpu(), pan_lr.flatten()[:, None].double().cpu(), driver="gelsd"
    ).solution
    solution = solution[:, 0].to(lrms)
    return PanResponse(solution[:-1], solution[-1:])


def spatial(hrms: HRMS, pan: PAN, response: PanResponse) -> Scalar:
    """The bands of the output, weighted, must be the PAN image.

    Eq. 10, CLIPPan. Departs from it in: phi is fixed (see `PanResponse`).

    Args:
        hrms: (b, c, H, W), [0, 1], sides of at least 11.
        pan: (b, 1, H, W), [0, 1].
        response: phi.
    Returns: a scalar, 0 is best.
    """
    return _distance(response(hrms), pan)


def qnr_loss(hrms: HRMS, lms: HRMS, pan: PAN, pan_lp: PAN, block: int = 32) -> Scalar:
    """1 - QNR, with the metric's own definition of D_lambda and D_s.

    Eq. 11, CLIPPan. Departs from it in: printed as a quality, it would be maximised; its complement is the loss.

    Args:
        hrms: (b, c, H, W), [0, 1], sides multiples of `block`.
        lms: (b, c, H, W), lrms upsampled.
        pan: (b, 1, H, W).
        pan_lp: (b, 1, H, W), `metrics.no_reference.pan_lowpass` of pan.
        block: side of the windows of Q, in pixels.
    Returns: mean over the batch, 0 is best.
    """
    return 1 - qnr(hrms, lms, pan, pan_lp, block=block).mean()


def pseudo(hrms: HRMS, target: HRMS) -> Scalar:
    """L1 to the output of a method trained at reduced resolution: L_ship of Eq. 12, CLIPPan.

    Args:
        hrms: (b, c, H, W), [0, 1].
        target: the same shape, detached by the caller's no_grad.
    """
    return F.l1_loss(hrms, target)
