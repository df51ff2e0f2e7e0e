"""SHIP: high-order interaction of MS and PAN features, CLIPPan's pseudo-supervisor."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.hin import HINBlock
from clippan_lib.shapes import HRMS, LRMS, PAN, Maps, check_pair

_FILTERS = 16
_CLAMP = 0.8  # the invertible block scales by no more than exp(0.8)


def _encoder(channels: int) -> nn.Sequential:
    blocks = [HINBlock(_FILTERS, _FILTERS, slope=0.2, skip=False) for _ in range(4)]
    return nn.Sequential(nn.Conv2d(channels, _FILTERS, 3, padding=1), *blocks)


def _two_convs(filters: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU(), nn.Conv2d(filters, filters, 3, padding=1)
    )


def _mix(weights: Float[Tensor, "b j k"], maps: Maps) -> Float[Tensor, "b j H W"]:
    """Each channel j a weighted sum of the channels k."""
    return (weights @ maps.flatten(2)).unflatten(2, maps.shape[-2:])


def circular_convolution(first: Maps, second: Maps) -> Maps:
    """Channel by channel: pixel x is the sum over y of first(y)·second(x − y), indices modulo the image size."""
    spectrum = torch.fft.rfft2(first) * torch.fft.rfft2(second)
    return torch.fft.irfft2(spectrum, s=first.shape[-2:])


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def forward(self, maps: Maps) -> Maps:
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


class Interaction(nn.Module):
    """Changes the MS features by their interaction with those of PAN: first order, then second.

    The first mixes MS ⊛ PAN, times PAN, by a channel attention from their correlation; the second mixes
    MS ⊛ PAN alone by an attention convolved from the first (⊛: circular convolution, normalised).
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(filters)
        self.norm2 = ChannelNorm(filters)
        self.first = _two_convs(filters)
        self.second = _two_convs(filters)
        self.attention = nn.Sequential(
            nn.Conv2d(1, 1, (1, 3), padding=(0, 1)), nn.ReLU(), nn.Conv2d(1, 1, (1, 3), padding=(0, 1))
        )
        # One-hot rows are mostly zeros: with a negative bias the ReLU would be dead in 15 of 64 attentions
        with torch.no_grad():
            self.attention[0].bias.abs_()
        self.fuse = nn.Conv2d(2 * filters, filters, 1)

    def forward(self, ms: Maps, pan: Maps) -> Maps:
        convolved = self.norm1(circular_convolution(ms, pan))
        weights = torch.softmax(ms.flatten(2) @ pan.flatten(2).mT, dim=-1)
        first = self.first(_mix(weights, convolved * pan)) + ms
        weights = torch.softmax(self.attention(weights[:, None])[:, 0], dim=-1)
        second = _mix(weights, self.norm2(self.second(convolved)))
        return self.fuse(torch.cat([first, second], dim=1)) + ms


class InvertibleConvolution(nn.Module):
    """1×1 convolution by P·L·U (Glow; Kingma and Dhariwal 2018 [kingma2018glow]), a random rotation at first.

    Only the strict triangles of `lower` and `upper` count; the permutation and the signs of U's diagonal
    are not trained.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(filters, filters))
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diag().sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.log_diagonal = nn.Parameter(upper.diag().abs().log())
        self.upper = nn.Parameter(upper.triu(1))

    def weight(self) -> Float[Tensor, "k k"]:
        lower = self.lower.tril(-1) + torch.ones_like(self.log_diagonal).diag()
        upper = self.upper.triu(1) + (self.sign * self.log_diagonal.exp()).diag()
        return self.permutation @ lower @ upper

    def forward(self, maps: Maps) -> Maps:
        return F.conv2d(maps, self.weight()[:, :, None, None])


class DenseBlock(nn.Module):
    """Two HIN blocks and a convolution on all that came before, each followed by a LeakyReLU."""

    def __init__(self, filters: int, growth: int) -> None:
        super().__init__()
        self.block1 = HINBlock(filters, growth, slope=0.1, skip=True)
        self.block2 = HINBlock(growth, growth, slope=0.1, skip=True)
        self.conv = nn.Conv2d(filters + 2 * growth, filters, 3, padding=1)

    def forward(self, maps: Maps) -> Maps:
        inner1 = F.leaky_relu(self.block1(maps), 0.2)
        inner2 = F.leaky_relu(self.block2(inner1), 0.2)
        return F.leaky_relu(self.conv(torch.cat([maps, inner1, inner2], dim=1)), 0.2)


class InvertibleBlock(nn.Module):
    """Affine coupling of the two halves of the rotated channels."""

    def __init__(self, filters: int, growth: int) -> None:
        super().__init__()
        self.rotate = InvertibleConvolution(filters)
        self.shift1 = DenseBlock(filters // 2, growth)
        self.shift2 = DenseBlock(filters // 2, growth)
        self.scale = DenseBlock(filters // 2, growth)

    def forward(self, maps: Maps) -> Maps:
        half1, half2 = self.rotate(maps).chunk(2, dim=1)
        half1 = half1 + self.shift1(half2)
        log_scale = _CLAMP * (2 * torch.sigmoid(self.scale(half1)) - 1)
        return torch.cat([half1, half2 * log_scale.exp() + self.shift2(half1)], dim=1)


class ChannelShift(nn.Module):
    """Adds to each channel one number: the mean over the image of two convolutions, times a gate in (0, 1)."""

    def __init__(self, filters: int, reduction: int) -> None:
        super().__init__()
        self.process = _two_convs(filters)
        self.squeeze = nn.Conv2d(filters, filters // reduction, 1)
        self.expand = nn.Conv2d(filters // reduction, filters, 1)

    def forward(self, maps: Maps) -> Maps:
        mean = self.process(maps).mean(dim=(2, 3), keepdim=True)
        return maps + mean * torch.sigmoid(self.expand(F.relu(self.squeeze(mean))))


class SHIP(nn.Module):
    """SHIP (Zheng et al. 2024 [zheng2024probing]) in the form for pansharpening of CLIPPan's release.

    It has 165,760 parameters for 8 bands. Two habits of the release are kept, because its weights depend on
    them. The channel attention is a softmax
    of MS·PANᵀ summed, not averaged, over all pixels: it is nearly one-hot, and sharper the larger the image.
    Circular convolution, attention and instance normalisation take in the whole image, so a pixel depends on
    the extent of the image given: fuse at about the size of the training patches.
    MS is upsampled inside, bilinearly: LR pixel k lies on ratio*k + (ratio - 1)/2, not on ratio*k + ratio//2,
    where `mtf.upsample` puts it.
    Departs from the release in: the 34,656 parameters that never reach its output are left out; initial weights
    are torch's own, but no attention starts dead.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
    """

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.encode_ms = _encoder(bands)
        self.encode_pan = _encoder(1)
        self.interactions = nn.ModuleList(Interaction(_FILTERS) for _ in range(3))
        self.updates = nn.ModuleList(_two_convs(_FILTERS) for _ in range(2))
        self.merge = InvertibleBlock(3 * _FILTERS, growth=16)
        self.reduce = nn.Conv2d(3 * _FILTERS, _FILTERS, 1)
        self.reconstruct = nn.Sequential(
            nn.Conv2d(_FILTERS, _FILTERS, 3, padding=1),
            ChannelShift(_FILTERS, reduction=4),
            ChannelShift(_FILTERS, reduction=4),
            nn.Conv2d(_FILTERS, bands, 3, padding=1),
        )

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1], any size.
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart.
        """
        check_pair(lrms, pan, self.ratio)
        lms = F.interpolate(lrms, scale_factor=self.ratio, mode="bilinear", align_corners=False)
        ms1, pan1 = self.encode_ms(lms), self.encode_pan(pan)
        ms2 = self.interactions[0](ms1, pan1)
        pan2 = self.updates[0](pan1)
        ms3 = self.interactions[1](ms2, pan2)
        pan3 = self.updates[1](pan2)
        ms4 = self.interactions[2](ms3, pan3)
        return lms + self.reconstruct(self.reduce(self.merge(torch.cat([ms2, ms3, ms4], dim=1))))
