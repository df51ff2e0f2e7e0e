"""What Stage I trains around a frozen CLIP: adapters of features, and stems from bands to three channels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clippan_lib.sensors import Sensor
from clippan_lib.shapes import PAN, Features, Image

STEMS = ("conv", "pca", "rgb", "gbnir")
_HIDDEN = 16


def _bottleneck(inputs: int, outputs: int, reduction: int) -> nn.Sequential:
    hidden = inputs // reduction if reduction > 0 else 0
    if hidden < 1:
        raise ValueError(f"reduction {reduction} leaves no unit of {inputs}; take 1 to {inputs}")
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, outputs, bias=False)
    )


class ClipAdapter(nn.Module):
    """The paper's CA: a residual bottleneck on a feature, back on the unit sphere.

    x' = normalise(r * W2 ReLU(W1 x) + (1 - r) * x), as in CLIP-Adapter (Gao et al. 2024 [gao2024clip]), whose
    module the paper takes over. Departs from the release in: no ReLU after W2, which would push every feature
    towards the positive orthant and is in no equation; and W2 begins at 0, so that Stage I starts from CLIP itself.

    Args:
        dim: d, the length of a feature.
        reduction: the bottleneck has d // reduction units.
        residual: r in [0, 1], the adapter's share.
    Raises: ValueError on a residual outside [0, 1] or a reduction that leaves no unit.
    """

    def __init__(self, dim: int, reduction: int = 4, residual: float = 0.2) -> None:
        super().__init__()
        if not 0 <= residual <= 1:
            raise ValueError(f"residual ratio {residual} is outside [0, 1]")
        self.residual = residual
        self.bottleneck = _bottleneck(dim, dim, reduction)
        nn.init.zeros_(self.bottleneck[-1].weight)

    def forward(self, features: Features) -> Features:
        return F.normalize(self._mixed(features), dim=-1)

    def of_places(self, maps: Float[Tensor, "b d H W"]) -> Float[Tensor, "b d H W"]:
        """As in the equation, but not normalised: in the unit of the tower's features, whose length counts."""
        if self.residual == 0:  # a CLIP as it is: a third of the time of a step along words
            return maps
        first, last = (self.bottleneck[place].weight[..., None, None] for place in (0, -1))
        bent = F.conv2d(F.relu(F.conv2d(maps, first)), last)
        return (self.residual * bent + (1 - self.residual) * maps) / (1 - self.residual or 1.0)

    def _mixed(self, features: Features) -> Features:
        return self.residual * self.bottleneck(features) + (1 - self.residual) * features


class FusionAdapter(nn.Module):
    """The paper's IFA and TFA, Eq. (4): the feature of the fusion, from those of lrms and pan.

    Concatenation, bottleneck, d. Departs from the release in: no ReLU at the end, since the target is signed;
    and the result is normalised as its target is, so that Eq. (5) compares directions and cannot be lowered
    by shrinking.

    Args:
        dim: d, the length of a feature.
        reduction: the bottleneck has 2d // reduction units.
    Raises: ValueError on a reduction that leaves no unit.
    """

    def __init__(self, dim: int, reduction: int = 4) -> None:
        super().__init__()
        self.bottleneck = _bottleneck(2 * dim, dim, reduction)

    def forward(self, lrms: Features, pan: Features) -> Features:
        return F.normalize(self.bottleneck(torch.cat([lrms, pan], dim=-1)), dim=-1)


class Stretch(nn.Module):
    """Display stretch per band: its 2nd percentile becomes 0, its 98th becomes 1, fitted once, then fixed.

    CLIP has seen photographs and stretched pictures. A scene of 11 bits divided by 2047 is almost black to
    it: typical land lies below 0.3. The map is affine and does not clamp, so that the darkest and brightest
    pixels of a fused image keep their gradient.

    Args:
        bands: number of bands.
    """

    lo: Tensor
    hi: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("lo", torch.full((bands,), torch.nan))
        self.register_buffer("hi", torch.full((bands,), torch.nan))

    def fit(self, images: Float[Tensor, "n c h w"]) -> None:
        """Set the limits: 2nd and 98th percentile; of a band where these are one value, its least and largest.

        A band of one value throughout is shown as 0.

        Args:
            images: (n, c, h, w) training patches.
        Raises: ValueError on another number of bands.
        """
        self._check(images)
        lo, hi = _percentile(images, 0.02), _percentile(images, 0.98)
        # a sea of one value fills most of some scenes, and all of some parts of them
        least, largest = images.amin((0, 2, 3)), images.amax((0, 2, 3))
        flat = hi <= lo
        lo, hi = lo.where(~flat, least), hi.where(~flat, largest)
        hi = hi.where(hi > lo, lo + 1)
        self.lo.copy_(lo)
        self.hi.copy_(hi)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        self._check(images)
        if self.lo.isnan().any():
            raise ValueError(
                "the display stretch has no limits: call fit_stretch with training patches first"
            )
        lo, hi = (limit.view(-1, 1, 1) for limit in (self.lo, self.hi))
        return (images.to(self.lo.dtype) - lo) / (hi - lo)

    def _check(self, images: Tensor) -> None:
        if images.shape[1] != len(self.lo):
            raise ValueError(f"the images have {images.shape[1]} bands, this stem takes {len(self.lo)}")


class MsStem(nn.Module):
    """Three channels for CLIP from the bands of a multispectral image, after the display stretch (Table 4).

    - "rgb", "gbnir": the sensor's bands, as they are.
    - "pca": the three main components of the training patches, each stretched again.
    - "conv": "rgb" plus a learnable residual (1x1, 3x3, 1x1). Its last layer starts at zero, so that before
      Stage I it equals "rgb" and CLIP sees a picture from the first step on.

    The paper replaces CLIP's first layer by one for MS inputs and calls Table 4's best row "learnable
    residual convolution"; this is that, in front of an untouched CLIP, so that it fits every architecture.
    It has no batch normalisation, with which a supervisor would judge a patch by its batch.

    Args:
        kind: one of `STEMS`, see above.
        sensor: gives the bands.
        learned: weights that the CLIP has learned for these bands; "conv" then has them in the place of "rgb".
    Raises: ValueError on an unknown kind.
    """

    def __init__(self, kind: str, sensor: Sensor, learned: Float[Tensor, "3 c"] | None = None) -> None:
        super().__init__()
        if kind not in STEMS:
            raise ValueError(f"unknown stem {kind!r}; known: {', '.join(STEMS)}")
        self.kind = kind
        self.stretch = Stretch(sensor.n_bands)
        shown = sensor.gbnir if kind == "gbnir" else sensor.rgb
        weight = torch.eye(sensor.n_bands)[list(shown)]
        if kind == "conv" and learned is not None:
            weight = learned.detach().clone()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", torch.zeros(3))
        self.residual = _residual(sensor.n_bands) if kind == "conv" else None

    def fit(self, images: Image) -> None:
        """Set the stretch, and the components of "pca", from training patches (n, c, h, w)."""
        self.stretch.fit(images)
        if self.kind == "pca":
            weight, bias = _principal_components(self.stretch(images))
            self.weight.copy_(weight)
            self.bias.copy_(bias)

    def forward(self, image: Image) -> Float[Tensor, "b 3 H W"]:
        bands = self.stretch(image)
        rgb = torch.einsum("rc,bchw->brhw", self.weight, bands) + self.bias.view(3, 1, 1)
        return rgb if self.residual is None else rgb + self.residual(bands)


class PanStem(nn.Module):
    """Three channels for CLIP from PAN, after the display stretch: equal, or with weights that the CLIP has learned."""

    def __init__(self, learned: Float[Tensor, " 3"] | None = None) -> None:
        super().__init__()
        self.stretch = Stretch(1)
        weight = torch.ones(3) if learned is None else learned.detach().clone()
        self.register_buffer("weight", weight, persistent=False)

    def fit(self, pan: PAN) -> None:
        """Set the stretch from training patches (n, 1, H, W)."""
        self.stretch.fit(pan)

    def forward(self, pan: PAN) -> Float[Tensor, "b 3 H W"]:
        return self.weight.view(3, 1, 1) * self.stretch(pan)


def _residual(bands: int) -> nn.Sequential:
    last = nn.Conv2d(_HIDDEN, 3, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    # Replicated borders: with zeros the frame of a patch would look dark, and an untrained one unlike "rgb".
    middle = nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=1, padding_mode="replicate")
    return nn.Sequential(nn.Conv2d(bands, _HIDDEN, 1), nn.ReLU(), middle, nn.ReLU(), last)


def _percentile(images: Float[Tensor, "n c h w"], share: float) -> Float[Tensor, " c"]:
    """Nearest rank, which has no limit on the number of pixels as torch.quantile has."""
    values = images.transpose(0, 1).flatten(1)
    rank = 1 + round(share * (values.shape[1] - 1))
    return values.kthvalue(rank, dim=1).values


def _principal_components(
    bands: Float[Tensor, "n c h w"],
) -> tuple[Float[Tensor, "3 c"], Float[Tensor, " 3"]]:
    """The affine map onto the first three components, each stretched to [0, 1] between its percentiles.

    A component's sign is free: its largest weight is made positive, so that bright stays bright.
    """
    pixels = bands.transpose(0, 1).flatten(1).double()
    vectors = torch.linalg.eigh(torch.cov(pixels)).eigenvectors.T.flip(0)[:3]
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    vectors = vectors * largest.sign()
    components = torch.einsum("rc,nchw->nrhw", vectors, bands.double())
    lo, hi = _percentile(components, 0.02), _percentile(components, 0.98)
    span = hi - lo
    if len(vectors) < 3 or (span <= 1e-6 * span.max()).any():
        raise ValueError(
            f"stem 'pca' needs three components; those of the patches have ranges {span.tolist()}"
        )
    return (vectors / span[:, None]).to(bands.dtype), (-lo / span).to(bands.dtype)
