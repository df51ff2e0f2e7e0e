"""Images of one value, on which no method can be scored."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from clippan_lib.data.stacks import Batch
from clippan_lib.shapes import Image


def flat(batch: Batch, bands: Sequence[str]) -> list[str]:
    """Per image, why no method can be scored on it: "band nir is constant", "PAN is constant"; "" if one can.

    Of a band of one value (a sea that was cut to 0, saturated clouds) Q2n is 0 whatever a method does, ERGAS may divide
    by 0, and MPSNR be infinite; with a PAN of one value there is nothing to sharpen with.

    Args:
        batch: the images; a band counts that is constant in LRMS or in the truth.
        bands: their names.
    """
    constant = _constant(batch.lrms)
    if batch.gt is not None:
        constant = constant | _constant(batch.gt)
    of_pan = _constant(batch.pan)[:, 0]
    return [
        _constant_in_words([name for name, is_flat in zip(bands, row, strict=True) if is_flat], pan)
        for row, pan in zip(constant.tolist(), of_pan.tolist(), strict=True)
    ]


def _constant(image: Image) -> Bool[Tensor, "b c"]:
    low, high = image.amin((-2, -1)), image.amax((-2, -1))
    # what filters leave of one value is rounding, far below one digital number of 16 bits
    return high - low <= 16 * torch.finfo(image.dtype).eps * torch.maximum(low.abs(), high.abs())


def _constant_in_words(bands: Sequence[str], pan: bool) -> str:
    what = [f"band{'s' * (len(bands) > 1)} {', '.join(bands)}"] * bool(bands) + ["PAN"] * pan
    return f"{' and '.join(what)} {'is' if len(bands) + pan == 1 else 'are'} constant" if what else ""
