"""Where PAN lies when it lies far off: whole MS pixels, over half of each window, by correlation."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float64
from scipy.fft import next_fast_len
from torch import Tensor

from clippan_lib.mtf import degrade
from clippan_lib.shapes import LRMS, PAN, Image

_GAIN = 0.2  # of PAN: whole MS pixels do not depend on it
_MEAN = 5  # LRMS px: side of the mean that is taken off; what remains is the detail
_LOUDEST = 3.0  # deviations: what a cloud's edge counts at most
_LEAST_SHARE = 0.25  # of the pixels that hold data, which two shifted images have to have in common


def far_shift(
    lrms: LRMS, pan: PAN, valid: Bool[Tensor, "b 1 h w"], ratio: int
) -> tuple[tuple[int, int], float]:
    """The shift of whole MS pixels at which the bands explain most of PAN.

    PAN is degraded to the size of the bands. For every shift that leaves a quarter of the pixels in common, the detail
    of PAN is regressed on that of all bands over just these pixels: all sums that this needs are correlations, which
    the Fourier transform gives for all shifts at once.

    Args:
        lrms: (b, c, h, w), several windows of one scene if b > 1: one answer for all of them.
        pan: (b, 1, ratio*h, ratio*w).
        valid: (b, 1, h, w), False where MS or PAN is NoData.
        ratio: PAN-to-MS scale.
    Returns: rows and columns, MS px, by which PAN lies too far down and right; and R² there, in [0, 1].
    """
    mask = valid.double()
    bands, low = (_detail(image, mask) for image in (lrms.double(), degrade(pan.double(), (_GAIN,), ratio)))
    sides = [next_fast_len(2 * side - 1, real=True) for side in valid.shape[-2:]]
    of_mask, of_low, of_power = (_spectrum(image, sides) for image in (mask, low, low**2))
    count = bands.shape[1]
    common = _correlated(_spectrum(mask, sides), of_mask, sides)[0]
    with_pan = _correlated(_spectrum(bands, sides), of_low, sides)
    power = _correlated(_spectrum(mask, sides), of_power, sides)[0]
    gram = with_pan.new_zeros(*common.shape, count, count)
    for i, j, product in _products(bands):
        gram[..., i, j] = gram[..., j, i] = _correlated(_spectrum(product, sides), of_mask, sides)[0]
    allowed = common >= _LEAST_SHARE * mask.sum()
    gram, right = gram[allowed], with_pan.movedim(0, -1)[allowed][..., None]
    weights = torch.linalg.pinv(gram, rtol=1e-6, hermitian=True) @ right
    explained = (weights * right).sum((-2, -1)) / power[allowed].clamp(min=torch.finfo(torch.float64).tiny)
    best = int(explained.argmax())
    rows, columns = (
        int(place - side * (place > side // 2))
        for place, side in zip(allowed.nonzero()[best].tolist(), sides, strict=True)
    )
    return (rows, columns), explained[best].item()


def _detail(image: Image, mask: Float64[Tensor, "b 1 h w"]) -> Image:
    """What the mean around a pixel leaves, its outliers clipped, 0 where there is no data."""
    padded = F.pad(mask * image, (_MEAN // 2,) * 4)
    weight = F.avg_pool2d(F.pad(mask, (_MEAN // 2,) * 4), _MEAN, stride=1).clamp(min=1e-9)
    detail = mask * (image - F.avg_pool2d(padded, _MEAN, stride=1) / weight)
    most = _LOUDEST * (detail.square().sum((0, 2, 3), keepdim=True) / mask.sum()).sqrt()
    return detail.clamp(-most, most)


def _products(bands: Image) -> Iterator[tuple[int, int, Image]]:
    for i in range(bands.shape[1]):
        for j in range(i + 1):
            yield i, j, bands[:, i : i + 1] * bands[:, j : j + 1]


def _spectrum(image: Image, sides: list[int]) -> Tensor:
    return torch.fft.rfft2(image, s=sides)


def _correlated(one: Tensor, other: Tensor, sides: list[int]) -> Float64[Tensor, "k H W"]:
    """Sums over all windows of one image times the other, moved up and left by each shift."""
    return torch.fft.irfft2(one.conj() * other, s=sides).sum(0)
