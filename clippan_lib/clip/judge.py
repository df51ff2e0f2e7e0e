"""A tower at full resolution as a judge of crops: how they are shown to it, its gradient, and its order of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clippan_lib.clip.aims import aimed
from clippan_lib.clip.deliveries import PATCH, RATIO, SPOILINGS, Delivery
from clippan_lib.clip.tower import DenseTower
from clippan_lib.losses.guidance import dense_direction

_BORDER = 2  # LRMS px of a delivery that no crop has: methods repeat border pixels there
_APART = 0.02  # of the bands' deviation; images whose errors are closer are not told apart
_SURE = 0.05  # of the loss, a difference that counts as sure
_SPOILED = 0.35  # how often an image is a spoiled truth, and not of a method
_BETWEEN = 0.5  # how often it is moved along the line to the truth
_MEAN, _STD = (
    torch.tensor(values).view(3, 1, 1)
    for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
)


@dataclass(frozen=True)
class Shown:
    """How the bands of a crop become three channels, and how far its values spread.

    Args:
        weights: (3, c).
        low, span: (c, 1, 1), of the display stretch.
        pan_low, pan_span: of PAN's.
        deviation: (c, 1, 1), of LRMS.
    """

    weights: Tensor
    low: Tensor
    span: Tensor
    pan_low: Tensor
    pan_span: Tensor
    deviation: Tensor


class Judge(nn.Module):
    """Both towers, from bands to features of pixels."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def tower(self) -> DenseTower:
        return self.model.visual.trunk

    def bands(self, image: Tensor, shown: Shown) -> Tensor:
        """Features of pixels of (b, c, H, W)."""
        channels = torch.einsum("jc,bchw->bjhw", shown.weights, (image - shown.low) / shown.span)
        return self.tower.forward_features((channels - _MEAN) / _STD)

    def pan(self, image: Tensor, shown: Shown) -> Tensor:
        channels = self.tower.of_pan.view(3, 1, 1) * (image - shown.pan_low) / shown.pan_span
        return self.tower.forward_features((channels - _MEAN) / _STD)

    def texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        return self.model.encode_text(open_clip.tokenize(list(texts)), normalize=True)


def shown(delivery: Delivery, tower: DenseTower, rng: np.random.Generator | None) -> Shown:
    """Display stretch from the whole delivery; drawn a little otherwise if `rng` is given, as of a larger scene."""
    stretches = []
    far = (rng.uniform(-0.3, 0.7), rng.uniform(-0.25, 0.25)) if rng else (0.0, 0.0)
    for image in (delivery.lrms, delivery.pan):
        values = image[0].flatten(1)
        low, high = torch.quantile(values, torch.tensor([0.02, 0.98]), dim=1)
        span = (high - low).clamp(min=0.01) * math.exp(far[0])
        if rng:
            span = span * torch.from_numpy(np.exp(rng.uniform(-0.1, 0.1, len(span)))).float()
        low = (low + high) / 2 - span / 2 + far[1] * span
        stretches += [low.view(-1, 1, 1), span.view(-1, 1, 1)]
    deviation = delivery.lrms[0].std((-2, -1), keepdim=True) + 1e-4
    return Shown(tower.weights_of(delivery.nm), *stretches, deviation)


@dataclass(frozen=True)
class Crop:
    """Part of a delivery, and images on it.

    Args:
        lrms: interpolated, (1, c, H, W).
        pan, gt: (1, 1, H, W) and (1, c, H, W).
        fused: (k, c, H, W).
        shown: see `Shown`.
        cover: number of the kind of land.
    """

    lrms: Tensor
    pan: Tensor
    gt: Tensor
    fused: Tensor
    shown: Shown
    cover: int


def crop(delivery: Delivery, count: int, tower: DenseTower, size: int, rng: np.random.Generator) -> Crop:
    """Draw a place and images on it: of methods, a spoiled truth, or between one of these and the truth.

    Args:
        delivery: where.
        count: of images.
        tower: whose weights of bands show it.
        size: of the crop, LRMS px.
        rng: draws.
    """
    last = PATCH // RATIO - _BORDER - size
    top, left = (RATIO * int(rng.integers(_BORDER, last + 1)) for _ in range(2))
    side = RATIO * size
    where = (..., slice(top, top + side), slice(left, left + side))
    names = [*delivery.fused]
    gt, images = delivery.gt[where], []
    for _ in range(count):
        if rng.random() < _SPOILED:
            kind = [*SPOILINGS][int(rng.integers(len(SPOILINGS)))]
            image = SPOILINGS[kind](gt, rng.random(), rng)
        else:
            image = delivery.fused[names[int(rng.integers(len(names)))]][where].float()
        if rng.random() < _BETWEEN:
            image = gt + rng.uniform(0.2, 1.2) * (image - gt)
        images.append(image)
    lrms = delivery.fused["exp"][where].float()
    return Crop(lrms, delivery.pan[where], gt, torch.cat(images), shown(delivery, tower, rng), delivery.cover)


@dataclass
class Terms:
    """What one crop says: cosines of gradients, energies, and errors, each of all its images."""

    cosines: Tensor
    names: list[str]
    energies: Tensor
    errors: Tensor
    globals: dict[str, Tensor]


def judged(
    judge: Judge,
    part: Crop,
    candidates: int,
    aims: Sequence[str],
    texts: Float[Tensor, "k 3 d"],
    of_truth: Float[Tensor, "3 d"],
    training: bool = True,
) -> Terms:
    """The terms of one crop.

    Args:
        candidates: how many of `part.fused` have their gradient judged; all are ranked, and the truth with them.
        aims: of each candidate.
        texts: of each candidate: of LRMS, PAN and aim.
        of_truth: of LRMS, PAN and the truth, for the ranking.
        training: keep the graph.
    """
    deviation = part.shown.deviation
    lrms, pan = judge.bands(part.lrms, part.shown), judge.pan(part.pan, part.shown)
    images = part.fused[:candidates].detach().requires_grad_()
    features = judge.bands(images, part.shown)
    energy = dense_direction(features, lrms, pan, texts)
    (gradient,) = torch.autograd.grad(energy.sum(), images, create_graph=training)
    wanted = torch.cat([aimed(name, part.gt) for name in aims]) - images.detach()
    cosines = F.cosine_similarity((-gradient * deviation).flatten(1), (wanted / deviation).flatten(1))
    others = judge.bands(torch.cat([part.fused[candidates:], part.gt]), part.shown)
    every = torch.cat([features, others])
    energies = dense_direction(every, lrms, pan, of_truth)
    errors = ((torch.cat([part.fused, part.gt]) - part.gt) / deviation).square().mean((1, 2, 3)).sqrt()
    means = {"lrms": lrms.mean((-2, -1)), "pan": pan.mean((-2, -1)), "hrms": others[-1:].mean((-2, -1))}
    return Terms(cosines, [*aims], energies, errors, means)


def ranking_loss(energies: Float[Tensor, " n"], errors: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """Softplus of how wrong the order of each pair is, and the share of pairs in the right order.

    Pairs whose errors differ by less than .02 of the bands' deviation are left out.
    """
    worse = errors[:, None] - errors[None] > _APART
    apart = (energies[:, None] - energies[None])[worse]
    if not len(apart):
        return energies.sum() * 0, energies.new_ones(())
    return F.softplus(-apart / _SURE).mean(), (apart > 0).float().mean()
