"""What makes a loss of fused images a supervisor: a gradient that points at the truth, and the truth's order."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clippan_lib.shapes import HRMS, Scalar

APART = 0.02  # of the bands' deviation; images whose errors are closer are not told apart
_SURE = 0.05  # of the loss, a difference that counts as sure


def pointing(
    loss: Callable[[HRMS], Float[Tensor, " b"]],
    images: HRMS,
    wanted: HRMS,
    deviation: Float[Tensor, "_ c 1 1"],
    graph: bool = True,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Cosine of minus the gradient of a loss with what an image lacks, bands in units of their deviations.

    Gradient-step denoisers (Hurault, Leclaire and Papadakis 2022 [hurault2022gradient]) train a network so that one
    step along its gradient denoises; here the direction alone counts, so that the loss may have any scale.

    Args:
        loss: loss of each image, twice differentiable.
        images: (b, c, H, W), where the gradient is taken.
        wanted: (b, c, H, W), where it should point to; one equal to its image has the cosine 0.
        deviation: deviation of the bands.
        graph: keep the graph, to train the loss.
    Returns: (b,) cosines in [-1, 1], and (b,) losses of the images.
    """
    images = images.detach().requires_grad_()
    losses = loss(images)
    (gradient,) = torch.autograd.grad(losses.sum(), images, create_graph=graph)
    missing = (wanted - images.detach()) / deviation
    return F.cosine_similarity((-gradient * deviation).flatten(1), missing.flatten(1)), losses


def errors_of(
    images: HRMS, truth: Float[Tensor, "_ c H W"], deviation: Float[Tensor, "_ c 1 1"]
) -> Float[Tensor, " b"]:
    """Root mean squares of what images lack, bands in units of their deviations.

    Args:
        images: (b, c, H, W).
        truth: truth of each image, or one for all.
        deviation: deviation of the bands.
    """
    return ((images - truth) / deviation).square().mean((1, 2, 3)).sqrt()


def order(losses: Float[Tensor, " n"], errors: Float[Tensor, " n"]) -> tuple[Scalar, Scalar]:
    """How far the losses of some images are from the order of their errors.

    Pairs whose errors differ by less than `APART` are left out.

    Args:
        losses, errors: losses and errors of the same images.
    Returns: mean over pairs of softplus(-(loss of the worse - loss of the better) / .05), and the share of pairs in the
        right order; 0 and 1 where there is no pair.
    """
    worse = errors[:, None] - errors[None] > APART
    apart = (losses[:, None] - losses[None])[worse]
    if not len(apart):
        return losses.sum() * 0, losses.new_ones(())
    return F.softplus(-apart / _SURE).mean(), (apart > 0).to(losses.dtype).mean()
