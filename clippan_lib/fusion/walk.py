"""A walk: steps of a fused image down a loss of it, where neither LRMS nor PAN's low frequencies are touched."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.mtf import degrade, upsample
from clippan_lib.shapes import HRMS

Loss = Callable[[HRMS], Float[Tensor, " b"]]

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
        loss: of each image.
        deviation: of each band; bands of small numbers are moved by small numbers.
        graph: keep the graph, to train through it.
    Returns: (b, c, H, W), in the unit of `hrms`, of any length.
    """
    with torch.enable_grad():
        at = hrms if graph and hrms.requires_grad else hrms.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at).sum(), at, create_graph=graph)
    return -gradient * deviation.square()


def walk(
    hrms: HRMS,
    loss: Loss,
    deviation: Float[Tensor, "_ c 1 1"],
    *,
    gnyq: Sequence[float],
    ratio: int,
    steps: int = STEPS,
    size: float = SIZE,
    graph: bool = False,
) -> HRMS:
    """Steps of one length down a loss, in what LRMS does not see.

    Args:
        hrms: (b, c, H, W), the start.
        loss, deviation, graph: as for `descent`.
        gnyq, ratio: as for `unseen_by_lrms`.
        steps: how many.
        size: length of a step: root mean square over all pixels and bands, in units of the bands' deviation.
    Returns: (b, c, H, W).
    Raises: ValueError on negative steps.
    """
    if steps < 0:
        raise ValueError(f"{steps} steps of a walk: give 0 or more")
    for _ in range(steps):
        way = unseen_by_lrms(descent(hrms, loss, deviation, graph), gnyq, ratio)
        length = (way / deviation).square().mean((1, 2, 3), keepdim=True).sqrt()
        # a loss that does not care goes nowhere
        hrms = hrms + size * way / length.masked_fill(length == 0, torch.inf)
    return hrms
