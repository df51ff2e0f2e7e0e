"""A tower at full resolution as a judge of crops: how they are shown to it, its gradient, and its order of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from torch import Tensor, nn

from clippan_lib.clip.aims import AIMS
from clippan_lib.clip.tower import DenseTower
from clippan_lib.losses.ascent import errors_of, pointing
from clippan_lib.losses.guidance import dense_direction
from clippan_lib.training.deliveries import Cut, Delivery, deviation_of

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
        pan_low, pan_span: the same for PAN.
        deviation: (1, c, 1, 1), of LRMS.
    """

    weights: Tensor
    low: Tensor
    span: Tensor
    pan_low: Tensor
    pan_span: Tensor
    deviation: Tensor


class Judge(nn.Module):
    """Both towers, from bands to features of pixels."""

    def __init__(self, model: open_clip.CLIP) -> None:
        super().__init__()
        self.model = model

    @property
    def tower(self) -> DenseTower:
        return cast(DenseTower, self.model.visual.trunk)

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
    found = []
    far = (rng.uniform(-0.3, 0.7), rng.uniform(-0.25, 0.25)) if rng else (0.0, 0.0)
    for image in (delivery.lrms, delivery.pan):
        values = image[0].flatten(1)
        low, high = torch.quantile(values, torch.tensor([0.02, 0.98]), dim=1)
        span = (high - low).clamp(min=0.01) * math.exp(far[0])
        if rng:
            span = span * torch.from_numpy(np.exp(rng.uniform(-0.1, 0.1, len(span)))).float()
        low = (low + high) / 2 - span / 2 + far[1] * span
        found.append((low.view(-1, 1, 1), span.view(-1, 1, 1)))
    return Shown(tower.weights_of(delivery.nm), *found[0], *found[1], deviation_of(delivery.lrms))


@dataclass
class Terms:
    """What one cut says.

    Args:
        cosines: cosines of the gradients of the first images.
        losses, errors: losses and errors of all images, and of the truth behind them.
        means: features of whole images: of LRMS, PAN and the truth.
    """

    cosines: Tensor
    losses: Tensor
    errors: Tensor
    means: dict[str, Tensor]


def judged(
    judge: Judge,
    part: Cut,
    shown: Shown,
    aims: Sequence[str],
    texts: Float[Tensor, "k 3 d"],
    of_truth: Float[Tensor, "3 d"],
    graph: bool = True,
) -> Terms:
    """The terms of one cut: the gradient of the first images, the order of all.

    Args:
        judge: both towers.
        part: images.
        shown: how.
        aims: aims of the first images, one each.
        texts: texts of each of these images: those of LRMS, PAN and the aim.
        of_truth: those of LRMS, PAN and the truth, by which all are ordered.
        graph: keep the graph.
    """
    lrms, pan = judge.bands(part.lrms, shown), judge.pan(part.pan, shown)
    count, features = len(aims), []

    def loss(images: Tensor) -> Tensor:
        features.append(judge.bands(images, shown))
        return dense_direction(features[0], *_for_each(lrms, pan, count), texts)

    wanted = torch.cat([AIMS[name].change(part.gt) for name in aims])
    cosines, _ = pointing(loss, part.fused[:count], wanted, shown.deviation, graph)
    features.append(judge.bands(torch.cat([part.fused[count:], part.gt]), shown))
    every, images = torch.cat(features), torch.cat([part.fused, part.gt])
    losses = dense_direction(every, *_for_each(lrms, pan, len(every)), of_truth)
    means = {"lrms": lrms, "pan": pan, "hrms": features[1][-1:]}
    means = {name: maps.mean((-2, -1)) for name, maps in means.items()}
    return Terms(cosines, losses, errors_of(images, part.gt, shown.deviation), means)


def _for_each(lrms: Tensor, pan: Tensor, count: int) -> tuple[Tensor, Tensor]:
    return lrms.expand(count, -1, -1, -1), pan.expand(count, -1, -1, -1)
