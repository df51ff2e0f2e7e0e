"""The images that `compare` shows, and parts of them."""

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clippan_lib.data import Batch
from clippan_lib.evaluation.scores import fuse
from clippan_lib.explore.areas import Cover
from clippan_lib.figures.stretch import single
from clippan_lib.fusion import Method
from clippan_lib.shapes import Image

NOTHING = "nothing"  # in place of what errors are taken from
SingleImage = Float[Tensor, "_ _ _"]


def images_of(batch: Batch, results: Mapping[str, Image | Method]) -> dict[str, SingleImage]:
    """All images in the order shown, without their batch axis.

    Args:
        batch: the scene.
        results: title to fused image, or to the method that makes it.
    Raises: ValueError on no results, a taken title, or an image of another shape or not finite.
    """
    taken = sorted({"LRMS", "PAN", "GT", NOTHING} & set(results))
    if not results or taken:
        raise ValueError(
            f"results {list(results)}: give at least one method, and none named {taken or 'LRMS'}"
        )
    shape = (1, batch.lrms.shape[1], *batch.pan.shape[-2:])
    images = {"LRMS": batch.lrms, "PAN": batch.pan}
    for title, given in results.items():
        images[title] = given if isinstance(given, Tensor) else fuse(given, batch)
        if tuple(images[title].shape) != shape:
            raise ValueError(f"{title} has shape {tuple(images[title].shape)}; the scene's is {shape}")
    if batch.gt is not None:
        images["GT"] = batch.gt
    return {title: single(image, title).float() for title, image in images.items()}


def part_of(image: SingleImage, cover: Cover, ratio: int) -> SingleImage:
    """What a cover shows of an image.

    Args:
        image: the whole image.
        cover: a rectangle in PAN pixels.
        ratio: PAN pixels in a pixel of the image.
    """
    rows, columns = (
        slice(start // ratio, -(-(start + length) // ratio))
        for start, length in ((cover.top, cover.height), (cover.left, cover.width))
    )
    return image[:, rows, columns]


def reduced(seen: SingleImage, factor: int) -> SingleImage:
    """Means over squares of `factor` pixels; those at the end may be smaller."""
    return seen if factor == 1 else F.avg_pool2d(seen[None], factor, ceil_mode=True)[0]
