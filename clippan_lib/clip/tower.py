"""An image tower whose gradient is an image: full resolution, smooth, one feature per pixel."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models import register_model
from torch import Tensor, nn

TOWER = "clippan_dense"  # its name in timm, and so in open_clip's configurations
_QUARTER = 4  # px of the fine branch to one of the coarse
# Wavelengths, nm, between which the weights of bands are interpolated
_KNOTS = (427.0, 478.0, 546.0, 608.0, 659.0, 724.0, 833.0, 949.0, 1610.0, 2200.0)
_USUAL_BANDS = 4

Maps = Float[Tensor, "b d H W"]


class _Residual(nn.Module):
    """3 x 3, smooth, and 1 x 1, which begins at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = _conv(width, width, 3)
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, maps: Maps) -> Maps:
        return maps + self.mix(F.silu(self.near(maps)))


def _conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    # replicated borders: the frame of a patch looks like what is beside it
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="replicate")


class DenseTower(nn.Module):
    """Stride 1 and SiLU, so that a loss of its features has a gradient that is an image, and that can be trained.

    The feature of an image is the mean of those of its pixels, so that it is an image tower as open_clip has them.
    Beside it stand the weights by which bands and PAN become its three channels (`compose`), trained with it.

    Args:
        num_classes: d, the length of a feature.
        width: width of all layers.
        depth: residual blocks at full resolution.
    """

    def __init__(self, num_classes: int = 64, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.num_features = self.num_classes = num_classes
        self.first = _conv(3, width, 5)
        self.fine = nn.Sequential(*(_Residual(width) for _ in range(depth)))
        self.coarse = nn.Sequential(_conv(width, width, 3), nn.SiLU(), _Residual(width))
        self.last = nn.Conv2d(2 * width, num_classes, 1)
        self.of_bands = nn.Parameter(_bumps())
        self.of_pan = nn.Parameter(torch.ones(3))
        self.to(memory_format=torch.channels_last)  # features in .6 of the time on a CPU, gradients in .8

    @property
    def reach(self) -> int:
        """Pixels that a feature looks to each side."""
        # two 3 x 3 and the interpolation, each one coarse pixel, and one fine one for where it lies in its coarse one
        return 2 + len(self.fine) + 3 * _QUARTER + 1

    @property
    def align(self) -> int:
        """Pixels; the features of a part are those of the whole if it starts at a multiple of it."""
        return _QUARTER

    def forward_features(self, image: Float[Tensor, "b 3 H W"]) -> Maps:
        """A feature of every pixel, of any length.

        Args:
            image: three channels, normalised as CLIP's are; sides of any length.
        """
        return self.last(self._seen(image))

    def _seen(self, image: Float[Tensor, "b 3 H W"]) -> Maps:
        """What the last layer, which has no bend, takes of every pixel."""
        fine = self.fine(F.silu(self.first(image)))
        down, right = (-side % _QUARTER for side in image.shape[-2:])
        coarse = F.avg_pool2d(F.pad(fine, (0, right, 0, down), mode="replicate"), _QUARTER)
        # not `interpolate` to the size: pixels of a padded image must lie where those of the whole one do
        coarse = F.interpolate(self.coarse(coarse), scale_factor=_QUARTER, mode="bilinear")
        coarse = coarse[..., : image.shape[-2], : image.shape[-1]]
        return torch.cat([fine, coarse], 1)

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """The feature of an image."""
        return self.last(self._seen(image).mean((-2, -1), keepdim=True)).flatten(1)

    def weights_of(self, nm: Float[np.ndarray, " c"]) -> Float[Tensor, "3 c"]:
        """Of bands at these wavelengths (nanometres) in the three channels."""
        return (self.of_bands.new_tensor(_between(nm)) @ self.of_bands).mT * (_USUAL_BANDS / len(nm))


def _between(nm: Float[np.ndarray, " c"]) -> Float[np.ndarray, "c k"]:
    """Linear interpolation between the knots."""
    return np.stack([np.interp(nm, _KNOTS, unit) for unit in np.eye(len(_KNOTS))], 1)


def _bumps() -> Float[Tensor, "k 3"]:
    """Red, green and blue; near infrared beside red, so that all bands have a part, and rows of four bands add to 1."""
    nm = np.array(_KNOTS)
    colours = [
        np.exp(-0.5 * ((nm - centre) / width) ** 2) for centre, width in ((680, 70), (560, 50), (470, 45))
    ]
    table = np.stack(colours, 1) + 0.5 * (nm > 800)[:, None] * np.array([1.0, 0.5, 0.2])
    return torch.from_numpy(table / (_between(np.array([478.0, 546.0, 659.0, 833.0])) @ table).sum(0)).float()


@register_model
def clippan_dense(pretrained: bool = False, num_classes: int = 64, **_: Any) -> DenseTower:
    """As timm builds it; of its own it has no weights to download."""
    if pretrained:
        raise ValueError(f"{TOWER} has no weights of its own: those of a CLIP come with the CLIP")
    return DenseTower(num_classes)
