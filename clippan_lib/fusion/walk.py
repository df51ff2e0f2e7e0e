"""A walk: steps of a fused image down a loss of it, where neither LRMS nor PAN's low frequencies are touched."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.mtf import degrade, upsample
from clippan_lib.shapes import HRMS

Loss = Callable[[HRMS], Float[Tensor, " b"]]
Rate = Float[Tensor, "_ 1 1 1"]

STEPS = 10
SIZE = 0.002  # with the first trained dense tower, on drawn scenes, .005 and more led past the truth from good starts
_ROUNDS = 4  # of back-projection: of white noise, the hardest, a tenth is left of what LRMS sees


def unseen_by_lrms(change: HRMS, gnyq: Sequence[float], ratio: int) -> HRMS:
    """The part of a change that `degrade` does not see: adding it leaves the image as consistent as it was.

    Args:
        change: (b, c, H, W).
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
    """
    for _ in range(_ROUNDS):
        change = change - upsample(degrade(change, gnyq, ratio), ratio)
    return change


def descent(hrms: HRMS, loss: Loss, deviation: Float[Tensor, "_ c 1 1"], graph: bool = False) -> HRMS:
    """Minus the gradient of a loss, for bands in units of their deviation: the steepest way down there.

    Args:
        hrms: (b, c, H, W).
        loss: loss of each image.
        deviation: deviation of each band; bands with small values are moved by small steps.
        graph: keep the graph, to train through it.
    Returns: (b, c, H, W), in the unit of `hrms`, of any length.
    """
    with torch.enable_grad():
        at = hrms if graph and hrms.requires_grad else hrms.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at).sum(), at, create_graph=graph)
    return -gradient * deviation.square()


def rate_of(
    hrms: HRMS,
    loss: Loss,
    deviation: Float[Tensor, "_ c 1 1"],
    *,
    gnyq: Sequence[float],
    ratio: int,
    size: float = SIZE,
) -> Rate:
    """How far a walk goes along the gradient, such that its first step has this length.

    Args:
        hrms, loss, deviation, gnyq, ratio, size: as for `walk`.
    Returns: (b, 1, 1, 1); 0 for a loss that does not care.
    """
    return _rate(_way(hrms, loss, deviation, gnyq, ratio), deviation, size)


def walk(
    hrms: HRMS,
    loss: Loss,
    deviation: Float[Tensor, "_ c 1 1"],
    *,
    gnyq: Sequence[float],
    ratio: int,
    steps: int = STEPS,
    size: float = SIZE,
    rate: Rate | None = None,
    graph: bool = False,
) -> HRMS:
    """Gradient descent down a loss, in what LRMS does not see.

    The gradient is taken of the sum over pixels. So a loss that is a mean over pixels moves a part of an image, away
    from its border, as it moves the whole, if the rate is that of the whole.

    Args:
        hrms: (b, c, H, W), the start.
        loss, deviation, graph: as for `descent`.
        gnyq, ratio: as for `unseen_by_lrms`.
        steps: how many.
        size: length of the first step: root mean square over all pixels and bands, in units of the bands' deviation.
            Later ones have the same rate, and grow shorter where the loss grows flat.
        rate: rate of all steps, (b, 1, 1, 1), from `rate_of`; `size` is then not used.
    Returns: (b, c, H, W).
    Raises: ValueError on negative steps.
    """
    if steps < 0:
        raise ValueError(f"{steps} steps of a walk: give 0 or more")
    for _ in range(steps):
        way = _way(hrms, loss, deviation, gnyq, ratio, graph)
        rate = _rate(way, deviation, size) if rate is None else rate
        hrms = hrms + rate * way
    return hrms


def _way(
    hrms: HRMS,
    loss: Loss,
    deviation: Float[Tensor, "_ c 1 1"],
    gnyq: Sequence[float],
    ratio: int,
    graph: bool = False,
) -> HRMS:
    """Down the sum over pixels of a loss that is their mean."""
    pixels = hrms.shape[-2] * hrms.shape[-1]
    return pixels * unseen_by_lrms(descent(hrms, loss, deviation, graph), gnyq, ratio)


def _rate(way: HRMS, deviation: Float[Tensor, "_ c 1 1"], size: float) -> Rate:
    length = (way / deviation).square().mean((1, 2, 3), keepdim=True).sqrt()
    # a loss that does not care goes nowhere
    return size / length.masked_fill(length == 0, torch.inf)
