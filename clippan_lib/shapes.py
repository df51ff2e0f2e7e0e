"""Types that all of the package shares, and the one check that an LRMS and a PAN image belong together."""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

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
