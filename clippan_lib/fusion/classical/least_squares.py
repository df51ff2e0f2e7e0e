"""Least squares from products of columns, in float64: free, or with non-negative weights."""

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

Gram = Float64[Tensor, "*n k k"]
Gamma = Float64[Tensor, "*n k m"]

# relative to unit diagonals: far below what real images resolve, far above float64 rounding
_TINY = 1e-13


def normal_equations(gram: Gram, cross: Gamma) -> tuple[Gram, Gamma, Float64[Tensor, "*n k 1"]]:
    """Least squares with columns scaled to unit length: matrix, right side, and the scale to divide weights by.

    Args:
        gram: (*n, k, k), products of the predictors, centred where there is an intercept.
        cross: (*n, k, m), products of the predictors with the targets.
    """
    length = gram.diagonal(dim1=-2, dim2=-1)[..., None].sqrt()
    scale = torch.where(length > 0, length, 1.0)
    ridge = _TINY * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return gram / (scale * scale.mT) + ridge, cross / scale, scale


def least_squares(gram: Gram, cross: Gamma) -> Gamma:
    """The weights of the predictors in each target; of dependent predictors the least."""
    gram, cross, scale = normal_equations(gram, cross)
    # a direction that the ridge alone holds up would let the rounding of the products through, a thousandfold
    return torch.linalg.pinv(gram, rtol=2 * _TINY, hermitian=True) @ cross / scale


def _backtrack(
    x: Float64[Tensor, "*n k"], solution: Float64[Tensor, "*n k"], passive: Bool[Tensor, "*n k"]
) -> tuple[Float64[Tensor, "*n k"], Bool[Tensor, "*n k"], Bool[Tensor, "*n 1"]]:
    """Move x towards the solution until a passive coordinate meets 0, which then leaves the set."""
    blocked = passive & (solution <= 0)
    # the floor makes 0/0, a coordinate that starts and ends on 0, a step of 0
    reach = torch.where(blocked, x / (x - solution).clamp(min=torch.finfo(x.dtype).tiny), torch.inf)
    step = reach.amin(-1, keepdim=True).clamp(max=1.0)
    passive = passive & ~(blocked & (reach <= step))
    return torch.where(passive, x + step * (solution - x), 0.0), passive, ~blocked.any(-1, keepdim=True)


def nonnegative(gram: Gram, cross: Gamma) -> Gamma:
    """argmin over x >= 0 of x'gram x/2 - x'cross: the active set method.

    Lawson and Hanson 1974 [lawson1974solving], ch. 23. All problems advance together, each with its own set; a
    finished one stands still.
    """
    gram, target = gram.unsqueeze(-3), cross.mT
    x, passive = torch.zeros_like(target), torch.zeros_like(target, dtype=torch.bool)
    tolerance = _TINY * target.abs().amax(-1, keepdim=True)
    for _ in range(10 * target.shape[-1]):
        both = passive.unsqueeze(-1) & passive.unsqueeze(-2)
        system = torch.where(both, gram, 0.0) + torch.diag_embed((~passive).to(gram))
        solution = torch.linalg.solve(system, torch.where(passive, target, 0.0))
        x, passive, reached = _backtrack(x, solution, passive)
        gradient = target - (gram @ x.unsqueeze(-1)).squeeze(-1)
        best, index = gradient.masked_fill(passive, -torch.inf).max(-1, keepdim=True)
        grow = reached & (best > tolerance)
        passive = passive | torch.zeros_like(passive).scatter(-1, index, grow)
        if not (grow | ~reached).any():
            break
    return x.mT
