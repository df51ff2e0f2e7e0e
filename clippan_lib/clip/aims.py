"""What words may ask of a fused image, and what that means: texts, and the change that they name, on a known truth."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from clippan_lib.shapes import HRMS

Change = Callable[[HRMS], HRMS]
_SPREAD = 1e-4  # of a band's deviation, below which it has no contrast


@dataclass(frozen=True)
class Aim:
    """One aim.

    Args:
        name: how results name it.
        wordings: texts that the supervisor is trained with; "{cover}" is a kind of land.
        unseen: texts that it is never trained with.
        change: from the truth to the truth changed that way, in any linear unit.
        axis: the axis of `evaluation.gates.axes` that must move most if the words are followed; None for the truth.
        up: whether it must rise.
    """

    name: str
    wordings: tuple[str, ...]
    unseen: tuple[str, ...]
    change: Change
    axis: str | None = None
    up: bool = True


def blurred(image: HRMS, sigma: float) -> HRMS:
    """Gaussian, `sigma` in px; border pixels mirrored."""
    from torchvision.transforms.functional import gaussian_blur  # a second to import

    side = 2 * int(3 * sigma + 0.5) + 1
    return gaussian_blur(image, [side, side], [sigma, sigma])


def _sharper(image: HRMS) -> HRMS:
    return image + 0.8 * (image - blurred(image, 0.7))


def _softer(image: HRMS) -> HRMS:
    return blurred(image, 1.3)


def _halos(image: HRMS) -> HRMS:
    """A wide unsharp mask: edges overshoot on both sides."""
    return image + 0.9 * (image - blurred(image, 2.0))


def _without_halos(image: HRMS) -> HRMS:
    """No pixel beyond those around it, once they are a little blurred: edges without overshoot."""
    calm = blurred(image, 1.0)
    highest = torch.nn.functional.max_pool2d(calm, 5, 1, 2)
    lowest = -torch.nn.functional.max_pool2d(-calm, 5, 1, 2)
    return image.clamp(lowest, highest)


def _smooth(image: HRMS) -> HRMS:
    """Flat areas blurred, edges kept: the weight is that of a local Wiener filter."""
    calm = blurred(image, 1.5)
    variance = blurred((image - calm).square(), 1.5)
    usual = variance.flatten(2).median(2).values[..., None, None] + _SPREAD**2
    return calm + (image - calm) * variance / (variance + 2 * usual)


def _coloured(image: HRMS, strength: float) -> HRMS:
    """What differs from band to band, in units of their deviations, times `strength`."""
    mean, deviation = image.mean((-2, -1), keepdim=True), image.std((-2, -1), keepdim=True) + _SPREAD
    standard = (image - mean) / deviation
    grey = standard.mean(1, keepdim=True)
    return mean + deviation * (grey + strength * (standard - grey))


def _contrast(image: HRMS, strength: float) -> HRMS:
    calm = blurred(image, 4.0)
    return calm + strength * (image - calm)


def _same(image: HRMS) -> HRMS:
    return image


TRUTH = "truth"
AIMS = {
    aim.name: aim
    for aim in (
        Aim(
            TRUTH,
            (
                "High-quality reference image adhering to Wald's protocol: "
                "spectrally consistent with original data and spatially sharp",
                "High-quality reference image with spectral consistency and spatial sharpness "
                "following Wald's protocol",
                "High-quality fused image preserving both spectral and spatial information",
                "a fused product of the MS and PAN images",
                "the sharp fusion image of {cover} with original colours",
                "High-quality reference image of {cover}, spectrally consistent and spatially sharp",
            ),
            (
                "High-quality fusion of the MS and PAN images, spatially sharp and spectrally consistent",
                "a sharp fused image of {cover} with the original colours of the MS image",
                "fused image preserving the spectral information of MS and the spatial information of PAN",
            ),
            _same,
        ),
        Aim(
            "sharper",
            (
                "a sharper image",
                "a fused image of {cover} with crisp fine details",
                "make the details sharper",
            ),
            ("a very crisp image with finer details", "sharper details of {cover}"),
            _sharper,
            "sharpness",
        ),
        Aim(
            "softer",
            ("a blurred image", "a fused image without spatial details", "a softer image of {cover}"),
            ("a softer blurred image", "an image of {cover} without spatial details"),
            _softer,
            "sharpness",
            up=False,
        ),
        Aim(
            "less noise",
            ("an image with less noise", "a smooth image of {cover} without noise", "a clean denoised image"),
            ("a noise free image", "a clean image of {cover} with little noise"),
            _smooth,
            "noise",
            up=False,
        ),
        Aim(
            "halos",
            (
                "an over-sharpened image",
                "an image with halos along edges",
                "an image of {cover} with bright halos",
            ),
            ("an image sharpened too much, with halos", "halos around the edges of {cover}"),
            _halos,
            "halos",
        ),
        Aim(
            "no halos",
            ("an image without halos", "clean edges without overshoot", "an image of {cover} without halos"),
            ("edges of {cover} without halos", "an image without overshoot along edges"),
            _without_halos,
            "halos",
            up=False,
        ),
        Aim(
            "fuller colours",
            ("an image with fuller colours", "a vivid colourful image of {cover}", "more saturated colours"),
            ("an image of {cover} with vivid colours", "a saturated colourful image"),
            partial(_coloured, strength=1.6),
            "colour",
        ),
        Aim(
            "duller colours",
            ("a greyed image", "an image of {cover} with faded colours", "a dull image with grey colours"),
            ("a fused image with dull grey colours", "faded grey colours of {cover}"),
            partial(_coloured, strength=0.4),
            "colour",
            up=False,
        ),
        Aim(
            "more contrast",
            ("an image with more contrast", "a strong contrast of bright and dark in {cover}"),
            ("more contrast between bright and dark", "an image of {cover} with strong contrast"),
            partial(_contrast, strength=1.35),
            "contrast",
        ),
        Aim(
            "less contrast",
            ("an image with less contrast", "a flat image of {cover} with weak contrast"),
            ("a weak contrast between bright and dark", "a flat image with less contrast"),
            partial(_contrast, strength=0.65),
            "contrast",
            up=False,
        ),
    )
}
