"""What lies behind the pictures: the display stretch, the error map, the choice of a box worth magnifying."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

Picture = Float[Tensor, "... _ _ _"]


def single(image: Picture, name: str = "image") -> Float[Tensor, "c H W"]:
    """One finite image on the CPU, in double precision, without its batch axis.

    Args:
        image: (c, H, W) or (1, c, H, W).
        name: what the refusal calls it.
    Raises: ValueError on a batch of several images, or on values that are not finite.
    """
    if image.ndim < 3 or image.shape[:-3].numel() != 1:
        raise ValueError(f"{name} has shape {tuple(image.shape)}: give one image, (c, H, W) or (1, c, H, W)")
    chw = image.detach().cpu().double().reshape(image.shape[-3:])
    bad = int((~torch.isfinite(chw)).sum())
    if bad:
        raise ValueError(f"{name} has {bad} values that are not finite: there is nothing honest to draw")
    return chw


@dataclass(frozen=True)
class Stretch:
    """A linear display stretch: `lo` is shown as 0 and `hi` as 1, per displayed band.

    Args:
        bands: 0-based indices of the displayed bands: three (red, green, blue) or one (grey).
        lo: darkest displayed value of each, in [0, 1].
        hi: brightest displayed value of each, above `lo`.
    Raises: ValueError unless there are one or three bands, each with lo < hi.
    """

    bands: tuple[int, ...]
    lo: tuple[float, ...]
    hi: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.bands) not in (1, 3) or not len(self.bands) == len(self.lo) == len(self.hi):
            raise ValueError(
                f"stretch of bands {self.bands}, lo {self.lo}, hi {self.hi}: give one or three of each"
            )
        if any(lo >= hi for lo, hi in zip(self.lo, self.hi, strict=True)):
            raise ValueError(f"stretch lo {self.lo} must lie below hi {self.hi}")

    def apply(self, image: Picture) -> Float[np.ndarray, "H W 3"]:
        """The image as red, green, blue in [0, 1]; values outside lo..hi are clipped.

        Args:
            image: (c, H, W) or (1, c, H, W), [0, 1].
        Raises: ValueError if the image lacks a displayed band.
        """
        chw = single(image)
        if max(self.bands) >= chw.shape[0]:
            raise ValueError(f"the stretch shows bands {self.bands}, but the image has only {chw.shape[0]}")
        lo, hi = (chw.new_tensor(limit)[:, None, None] for limit in (self.lo, self.hi))
        shown = ((chw[list(self.bands)] - lo) / (hi - lo)).clamp(0, 1)
        return shown.expand(3, -1, -1).permute(1, 2, 0).numpy()


def fit_stretch(
    image: Picture, bands: Sequence[int], percentiles: tuple[float | int, float | int] = (1, 99)
) -> Stretch:
    """The stretch that shows all but the darkest and brightest pixels; use one for all pictures side by side.

    Args:
        image: (c, H, W) or (1, c, H, W), [0, 1].
        bands: three 0-based indices (`sensor.rgb`), or one for grey.
        percentiles: where black and white lie, per band.
    Raises: ValueError on a band that the image lacks, or percentiles out of order.
    """
    chw = single(image)
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"percentiles {percentiles} must rise between 0 and 100")
    if not all(0 <= band < chw.shape[0] for band in bands):
        raise ValueError(f"bands {tuple(bands)} are not all among the image's {chw.shape[0]}")
    lo, hi = np.percentile(chw[list(bands)].flatten(1).numpy(), percentiles, axis=1)
    # A constant band has no contrast to show: any positive width keeps the division defined.
    hi = np.maximum(hi, lo + 1e-6)
    return Stretch(tuple(bands), tuple(lo.tolist()), tuple(hi.tolist()))


def error_map(hrms: Picture, gt: Picture) -> Float[Tensor, "H W"]:
    """Absolute error, averaged over the bands (bottom row of the paper's Figure 5).

    Args:
        hrms: (c, H, W) or (1, c, H, W), [0, 1].
        gt: same bands, size and range.
    Returns: (H, W), [0, 1].
    Raises: ValueError on unequal shapes.
    """
    hrms, gt = single(hrms, "hrms"), single(gt, "gt")
    if hrms.shape != gt.shape:
        raise ValueError(
            f"hrms {tuple(hrms.shape)} and gt {tuple(gt.shape)} differ: an error map needs equal shapes"
        )
    return (hrms - gt).abs().mean(0)


def error_table(results: Mapping[str, Picture], gt: Picture, dn_max: float | int) -> pd.DataFrame:
    """What the error maps of several methods say in numbers, in digital numbers.

    Args:
        results: method to fused image, as of `error_map`.
        gt: the truth.
        dn_max: largest digital number (`Scene.dn_max`).
    Returns: a row per method: mean and 95th percentile of its map.
    """
    maps = {name: error_map(hrms, gt).numpy() * dn_max for name, hrms in results.items()}
    rows = {
        name: {"mean error (DN)": error.mean(), "95th percentile (DN)": np.percentile(error, 95)}
        for name, error in maps.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def pick_box(image: Picture, size: int, step: int = 1) -> tuple[int, int, int]:
    """The square with the most detail: the highest sum of gradient magnitudes, the first one if equal.

    It lies off the border where the image has room for that, so that a frame around it lies inside the picture.

    Args:
        image: (c, H, W) or (1, c, H, W).
        size: side of the square, in pixels.
        step: corners lie at multiples of it (the ratio, so that the box starts on an LRMS pixel).
    Returns: top, left, size.
    Raises: ValueError if the square does not fit, or `step` is below 1.
    """
    chw = single(image)
    if not 1 <= size <= min(chw.shape[1:]) or step < 1:
        raise ValueError(f"a box of {size} (step {step}) does not fit an image of {tuple(chw.shape[1:])}")
    rows, columns = (torch.diff(chw, dim=dim, append=chw.narrow(dim, -1, 1)) for dim in (1, 2))
    # Sums over squares from the integral image: the cost does not grow with the size of the box.
    total = pad((rows.abs() + columns.abs()).sum(0), (1, 0, 1, 0)).cumsum(0).cumsum(1)
    inside = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    # Rounded, so that equal squares stay equal whatever the order of summation.
    detail = inside[::step, ::step].round(decimals=9)
    off = [int(count > 2) for count in detail.shape]
    detail = detail[off[0] : detail.shape[0] - off[0], off[1] : detail.shape[1] - off[1]]
    top, left = divmod(int(detail.argmax()), detail.shape[1])
    return (top + off[0]) * step, (left + off[1]) * step, size
