"""Types that all of the package shares, and the checks that images belong together and are in [0, 1]."""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from clippan_lib.errors import DataError

LRMS = Float[Tensor, "b c h w"]
PAN = Float[Tensor, "b 1 H W"]
HRMS = Float[Tensor, "b c H W"]
Image = Float[Tensor, "b c H W"]
Maps = Float[Tensor, "b k H W"]  # inside a network: k features of each pixel
Scores = Float[Tensor, " b"]
Features = Float[Tensor, "b d"]
Scalar = Float[Tensor, ""]

# Told how far a long loop is: called with (label, steps done, steps in all, terms by name)
Progress = Callable[[str, int, int, Mapping[str, float | int]], None]


def ratio_of(lrms: LRMS, pan: PAN) -> int:
    """The PAN-to-MS scale, read from the shapes.

    Args:
        lrms: (b, c, h, w).
        pan: (b, 1, H, W) with H = ratio*h and W = ratio*w.
    Returns: the integer ratio, at least 2.
    Raises: ValueError if no single integer ratio fits, or the batches differ.
    """
    (b, _, h, w), (b_pan, _, height, width) = lrms.shape, pan.shape
    ratio = height // h if h else 0
    if b != b_pan or ratio < 2 or (height, width) != (ratio * h, ratio * w):
        raise ValueError(
            f"lrms {tuple(lrms.shape)} and pan {tuple(pan.shape)} do not belong together: "
            "the batches must be equal and both sides of pan the same integer multiple (2 or more) of lrms"
        )
    return ratio


def check_pair(lrms: LRMS, pan: PAN, ratio: int) -> None:
    """Refuse a pair whose sizes are not `ratio` apart.

    Args:
        lrms: (b, c, h, w).
        pan: (b, 1, ratio*h, ratio*w).
        ratio: the expected PAN-to-MS scale.
    Raises: ValueError naming both shapes and both ratios.
    """
    seen = ratio_of(lrms, pan)
    if seen != ratio:
        raise ValueError(
            f"expected ratio {ratio}, but lrms {tuple(lrms.shape)} and pan {tuple(pan.shape)} have {seen}"
        )


def check_unit_range(hrms: Float[Tensor, "_ _ _ _"], **measured: Float[Tensor, "_ _ _ _"]) -> None:
    """Refuse images that are plainly not in [0, 1], for scores whose peak or rounding belongs to that range.

    A sensor's images may pass 1 a little. A fused image may go astray in some pixels and has to be scored all the
    same, so only its mean counts.

    Args:
        hrms: (b, c, H, W), fused.
        measured: images of the sensor, or the truth, under the names the message shall use.
    Raises: DataError on a value above 2 or below -1, or a mean of the fused image farther than 10 from 0.
    """
    for name, image in measured.items():
        low, high = image.amin().item(), image.amax().item()  # a third of the time of aminmax
        if low < -1 or high > 2:
            _refuse_range(name, max(low, high, key=abs))
    if hrms.mean().abs() > 10:
        _refuse_range("hrms", hrms.abs().amax().item())


def _refuse_range(name: str, largest: float) -> None:
    raise DataError(
        f"{name} has values as large as {largest:g}, and this score is for images in [0, 1]; divide by the sensor's "
        "largest digital number"
    )
