"""Which bands PAN does not see: measured on the scene, whatever they are called."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clippan_lib.data.pair.scene import PairWindow
from clippan_lib.mtf import degrade
from clippan_lib.shapes import LRMS
from clippan_lib.sharpening.windows import held

# On 12 scenes one scale down GSA, BT-H and MTF-GLP-HPM were no better than EXP for the bands below it, in near and
# short wave infrared (the middle one's error was .93 to 1.46 of EXP's), and better for nearly all others, down to .64
HARDLY = 0.6
_DETAIL = 5  # LRMS px: side of the mean that is taken off
_GAINS = (0.08, 0.3)  # of bands: the one with which PAN is more alike


def seen_by_pan(windows: Sequence[PairWindow], ratio: int) -> tuple[float, ...]:
    """How much of each band's detail PAN shows: the correlation of the two at the bands' resolution.

    Detail is what is left of an image without its mean over 5 x 5 px; PAN is degraded first, as sharply or softly as
    becomes the band. Pixels that hold data in both files count.

    Args:
        windows: windows of one scene, one at least.
        ratio: PAN-to-MS scale.
    Returns: one number per band, -1 to 1; 0 for a band without any detail.
    """
    sums = torch.zeros(len(_GAINS), 3, windows[0].lrms.shape[1], dtype=torch.float64)
    edge = slice(_DETAIL // 2, -(_DETAIL // 2))
    for window in windows:
        valid, ours = held(window)[..., edge, edge], _detail(window.lrms)
        for gain, into in zip(_GAINS, sums, strict=True):
            theirs = _detail(degrade(window.pan, (gain,), ratio)).expand_as(ours)
            products = ours * theirs, ours.square(), theirs.square()
            into += torch.stack([(product * valid).sum((0, 2, 3)) for product in products])
    both, of_band, of_pan = sums.unbind(1)
    size = (of_band * of_pan).sqrt()
    return tuple(torch.where(size > 0, both / size.clamp(min=1e-30), 0.0).amax(0).tolist())


def _detail(image: LRMS) -> Float[Tensor, "b c _ _"]:
    """Without the window's edge, beyond which the mean would see nothing."""
    edge = slice(_DETAIL // 2, -(_DETAIL // 2))
    return image[..., edge, edge].double() - F.avg_pool2d(image.double(), _DETAIL, stride=1)


def warning(names: Sequence[str], seen: Sequence[float]) -> str:
    """One line about the bands that PAN hardly shows, "" if it shows all.

    Args:
        names: names of the bands.
        seen: from `seen_by_pan`.
    """
    poorly = [
        f"{name.removeprefix('band_')} (correlation {value:.2f})".replace("0.", ".")
        for name, value in zip(names, seen, strict=True)
        if value < HARDLY
    ]
    if not poorly:
        return ""
    return (
        f"Warning: PAN hardly shows band{'s' * (len(poorly) > 1)} {', '.join(poorly)}: methods that copy PAN's "
        "detail may harm what it does not show; compare with exp"
    )
