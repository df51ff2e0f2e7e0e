"""Least squares of bands on bands, in float64: per block, free or with non-negative weights."""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from clippan_lib.shapes import Image

Blocks = Float[Tensor, "b _ rows p columns q"]
Gamma = Float64[Tensor, "b rows columns k m"]
Gram = Float64[Tensor, "b rows columns k k"]

# relative to unit diagonals: far below what real images resolve, far above float64 rounding
_TINY = 1e-13


def blocks(image: Image, rows: int, columns: int) -> Blocks:
    b, c, height, width = image.shape
    return image.reshape(b, c, rows, height // rows, columns, width // columns)


def normal_equations(x: Blocks, y: Blocks) -> tuple[Gram, Gamma, Float64[Tensor, "b rows columns k 1"]]:
    """Least squares of y on x per block, columns scaled to unit length: matrix, right side, the scale."""
    x, y = x.double(), y.double()
    length = x.square().sum((3, 5), keepdim=True).sqrt()
    scale = torch.where(length > 0, length, 1.0)
    x = x / scale
    gram = torch.einsum("bkipjq,blipjq->bijkl", x, x)
    cross = torch.einsum("bkipjq,bmipjq->bijkm", x, y)
    ridge = _TINY * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return gram + ridge, cross, scale.permute(0, 2, 4, 1, 3, 5).flatten(-2)


def least_squares(x: Blocks, y: Blocks) -> Gamma:
    gram, cross, scale = normal_equations(x, y)
    return torch.linalg.solve(gram, cross) / scale


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


def nonnegative(
    gram: Float64[Tensor, "*n k k"], cross: Float64[Tensor, "*n k m"]
) -> Float64[Tensor, "*n k m"]:
    """argmin over x >= 0 of x'gram x/2 - x'cross: the active set method of Lawson & Hanson 1974, ch. 23.

    All problems advance together, each with its own set; a finished one stands still.
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
