"""Whether two images of one place hold the same quantity: reflectance beside digital numbers, and so on."""

from jaxtyping import Bool, Float
from torch import Tensor

from clippan_lib.shapes import LRMS, PAN

# Methods that need PAN in the unit of MS. All other classical ones, and "bandwise" and "stack", fit PAN to MS first:
# gain * PAN + offset gives the same image, but for what an offset leaves through kernels that sum to a little under 1.
NEED_ONE_UNIT = ("bt_h", "pracs", "bdsd", "bdsd_pc")
_PAIR = 3.0  # on eleven scenes of eight sensors the two differ by less than 2
_SAME_BANDS = 4.0  # of a fused image, or a truth, and MS


def typical(image: Float[Tensor, "..."]) -> float:
    """The median magnitude of what is not 0, which neither fill values nor a few wrong pixels move.

    Args:
        image: any shape.
    Returns: 0 if all is 0.
    """
    magnitude = image[image != 0].abs()
    return magnitude.median().item() if len(magnitude) else 0.0


def _apart(one: float, other: float, factor: float) -> bool:
    """Whether two typical values differ by more than a factor; of nothing but zeros nothing is said."""
    return min(one, other) > 0 and max(one, other) > factor * min(one, other)


def unlike_units(lrms: LRMS, pan: PAN, valid: Bool[Tensor, "b 1 h w"]) -> str:
    """A remark where MS and PAN are in different units, as reflectance and digital numbers are.

    The typical value of the mean of the bands is compared with PAN's: of pairs in one unit neither is three times the
    other.

    Args:
        lrms: (b, c, h, w), windows of the scene, as stored.
        pan: (b, 1, ratio*h, ratio*w), as stored.
        valid: (b, 1, h, w), LRMS pixels that hold data, and all of whose PAN pixels do (`windows.held`).
    Returns: the remark; "" where the units may be the same, or nothing is valid.
    """
    ratio = pan.shape[-1] // lrms.shape[-1]
    under = valid.repeat_interleave(ratio, -2).repeat_interleave(ratio, -1)
    of_ms, of_pan = typical(lrms.mean(1, keepdim=True)[valid]), typical(pan[under])
    if not _apart(of_ms, of_pan, _PAIR):
        return ""
    return (
        f"MS has values about {of_ms:.3g} and PAN about {of_pan:.3g}: the two are in different units. Methods that do "
        f"not fit PAN to MS first ({', '.join(NEED_ONE_UNIT)}, trained networks) are off; convert one of the two, or "
        "take another method, such as gsa"
    )


def other_unit(image: Float[Tensor, "..."], like: Float[Tensor, "..."], name: str) -> str:
    """A remark where a fused image, or a truth, is in another unit than the image it is compared with.

    Args:
        image: an image of some bands.
        like: an image of the same bands, and the same place.
        name: name of `like` in the remark.
    Returns: the remark; "" where neither typical value is more than four times the other, or either image is 0.
    """
    of_image, of_like = typical(image), typical(like)
    if not _apart(of_image, of_like, _SAME_BANDS):
        return ""
    return (
        f"the image has values about {of_image:.3g}, and {name} about {of_like:.3g}: are they in the same unit? "
        "Convert one to that of the other"
    )
