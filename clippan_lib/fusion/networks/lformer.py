"""LFormer: window attention computed once and carried from stage to stage (Hou et al. 2024 [hou2024linearly])."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.residual import ResidualBlock
from clippan_lib.fusion.reach import of_lms
from clippan_lib.mtf import upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, Maps, check_pair

Details = Float[Tensor, "b hidden H W"]
Tokens = Float[Tensor, "n p k"]
Attention = Float[Tensor, "n heads p p"]

_WINDOW = 8
_HEADS = 8


def split_windows(maps: Maps) -> Tokens:
    """Cut maps into windows of 8×8 pixels, row by row, each the list of its 64 pixels.

    Args:
        maps: (b, k, H, W), both sides multiples of 8.
    Returns: (b·H/8·W/8, 64, k).
    """
    b, k, height, width = maps.shape
    windows = maps.reshape(b, k, height // _WINDOW, _WINDOW, width // _WINDOW, _WINDOW)
    return windows.permute(0, 2, 4, 3, 5, 1).reshape(-1, _WINDOW**2, k)


def join_windows(tokens: Tokens, height: int, width: int) -> Maps:
    """Inverse of `split_windows`.

    Args:
        tokens: (b·H/8·W/8, 64, k).
        height, width: H and W of the maps.
    Returns: (b, k, H, W).
    """
    k = tokens.shape[-1]
    windows = tokens.reshape(-1, height // _WINDOW, width // _WINDOW, _WINDOW, _WINDOW, k)
    return windows.permute(0, 5, 1, 3, 2, 4).reshape(-1, k, height, width)


def scramble(tokens: Tokens) -> Tokens:
    """Element c·64 + p of a window, pixel p of channel c, moved to pixel (c·64 + p)//k, channel (c·64 + p) % k.

    The public code lays a window out channel by channel and reads it back pixel by pixel; the published weights
    were trained so. For k = 64 pixel and channel change places.

    Args:
        tokens: (n, 64, k).
    Returns: (n, 64, k).
    """
    return tokens.mT.reshape(tokens.shape)


def _attend(attention: Attention, tokens: Tokens) -> Tokens:
    return (attention @ _by_head(tokens)).transpose(1, 2).flatten(2)


def _by_head(tokens: Tokens) -> Float[Tensor, "n heads p d"]:
    return tokens.unflatten(2, (_HEADS, -1)).transpose(1, 2)


class ChannelNorm(nn.Module):
    """Each pixel's channels brought to mean 0 and variance 1, then scaled; one channel alone becomes exactly 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, maps: Maps) -> Maps:
        centred = maps - maps.mean(dim=1, keepdim=True)
        return centred * (centred.square().mean(dim=1, keepdim=True) + 1e-5).rsqrt() * self.gain


def _residual_blocks(count: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


class WindowAttention(nn.Module):
    """Attention of PAN's pixels to those of the upsampled MS in the same window; logits are not scaled."""

    def __init__(self, bands: int, dim: int) -> None:
        super().__init__()
        self.norm_lms, self.norm_pan = ChannelNorm(bands), ChannelNorm(1)
        self.query = nn.Sequential(nn.Conv2d(1, dim, 1), _depthwise(dim))
        self.key = nn.Sequential(nn.Conv2d(bands, dim, 1), _depthwise(dim))
        self.value = nn.Sequential(nn.Conv2d(bands, dim, 1), _depthwise(dim))
        self.project = nn.Linear(dim, dim)

    def forward(self, lms: HRMS, pan: PAN) -> tuple[Attention, Maps]:
        normed = self.norm_lms(lms)
        query = split_windows(self.query(self.norm_pan(pan)))
        key, value = split_windows(self.key(normed)), split_windows(self.value(normed))
        attention = (_by_head(query) @ _by_head(key).mT).softmax(dim=-1)
        tokens = self.project(_attend(attention, value))
        return attention, join_windows(scramble(tokens), *lms.shape[-2:])


class Evolution(nn.Module):
    """The next stage's attention from the last one's: a linear map over heads and neighbouring keys, softmax."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.slide = nn.Conv2d(_HEADS, _HEADS, (1, 3), padding=(0, 1), bias=False)
        self.mix = nn.Conv2d(_HEADS, _HEADS, 1)
        self.project = nn.Linear(dim, dim)
        # The public start. All positive, as the attention is: every logit passes the ReLU. But the inner heads
        # are equal and get equal gradients, so they stay equal for as long as it is trained
        nn.init.constant_(self.slide.weight, 1 / 9)
        nn.init.ones_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def evolve(self, attention: Attention) -> Attention:
        # One convolution for two, which have nothing between them: attention is what takes the memory
        weight = torch.einsum("oh,hikl->oikl", self.mix.weight[:, :, 0, 0], self.slide.weight)
        logits = F.conv2d(attention, weight, self.mix.bias, padding=(0, 1))
        return F.relu(logits).softmax(dim=-1)

    def forward(self, attention: Attention, value: Maps) -> tuple[Attention, Maps]:
        attention = self.evolve(attention)
        tokens = _attend(attention, self.project(split_windows(value)))
        return attention, join_windows(scramble(tokens), *value.shape[-2:])


class Modulation(nn.Module):
    """Multiply values by what a convolution makes of them and the details."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.refine = nn.Sequential(_depthwise(dim), nn.ReLU(), nn.Conv2d(dim, dim, 1))
        self.fuse = nn.Conv2d(dim + hidden, dim, 3, padding=1)

    def forward(self, value: Maps, detail: Details) -> Maps:
        return value * self.fuse(torch.cat([value + self.refine(value), detail], dim=1))


class Detail(nn.Module):
    """High frequencies of PAN and the upsampled MS, from filters that start as Laplacians."""

    def __init__(self, bands: int, hidden: int) -> None:
        super().__init__()
        self.pan = nn.Sequential(_depthwise(1), nn.Conv2d(1, hidden, 1))
        self.lms = nn.Sequential(_depthwise(bands), nn.Conv2d(bands, hidden, 1))
        self.fuse = nn.Conv2d(2 * hidden, hidden, 1)
        self.blocks = _residual_blocks(4, hidden)
        laplacian = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
        for highpass in (self.pan[0], self.lms[0]):
            with torch.no_grad():
                highpass.weight.copy_(laplacian)
            nn.init.zeros_(highpass.bias)

    def forward(self, lms: HRMS, pan: PAN) -> Details:
        return self.blocks(self.fuse(torch.cat([self.pan(pan), self.lms(lms)], dim=1)))


class Branch(nn.Module):
    """The details a stage adds, chosen by its values."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(dim, hidden, 1)
        self.fuse = nn.Conv2d(2 * hidden, hidden, 1)
        self.blocks = _residual_blocks(2, hidden)

    def forward(self, value: Maps, detail: Details) -> Details:
        return self.blocks(self.fuse(torch.cat([self.embed(value), detail], dim=1)))


class LFormer(nn.Module):
    """The network of LFormer (Hou et al. 2024 [hou2024linearly]).

    The defaults are its WV3 and GF2 configuration (2,274,635 parameters for 8 bands). QB's is
    `attention_dim=32, hidden=48` (1,068,539 for 4), CLIPPan's `stages=3` on bicubic MS (1,788,347 for 8).

    Two properties of the public code are kept, as the published weights depend on them. Within each window
    values are permuted between pixels and channels (`scramble`). The attention does not see PAN, whose only
    channel its normalisation turns into zeros: PAN acts through its details alone, and of the parameters
    `attention.norm_pan.gain` and `attention.query.0.weight` never learn, nor does `attention.key.1.bias`, which
    shifts all logits of a query alike (so does each `evolutions.*.mix.bias`, until the ReLU cuts some). A single
    MS band is lost to the attention in the same way.

    Departs from it in: MS is upsampled inside, with replicated instead of circular border; no dropout (it drops
    0.2 of the logits in training); eps of the normalisation 1e-5 in every precision (its own: in float32 only);
    sides that are no multiple of 8 are padded by edge pixels on the right and below, and cropped again; no
    clipping; no tiling of large images (without gradients, the defaults need some 9 kB per pixel of PAN).

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
        stages: how often the values are modulated; before each but the first, attention evolves.
        attention_dim: channels of the values, a multiple of the 8 heads.
        hidden: channels of the details.
    Raises: ValueError on no stage or an `attention_dim` that the heads cannot share.
    """

    upsample = staticmethod(upsample)  # `load_published` may set another

    def __init__(
        self, bands: int, ratio: int, stages: int = 5, attention_dim: int = 64, hidden: int = 64
    ) -> None:
        super().__init__()
        if stages < 1 or attention_dim % _HEADS:
            raise ValueError(
                f"stages {stages} must be at least 1, attention_dim {attention_dim} a multiple of {_HEADS} heads"
            )
        self.ratio = ratio
        self.attention = WindowAttention(bands, attention_dim)
        self.detail = Detail(bands, hidden)
        # From 1, for the stage each belongs to
        self.evolutions = nn.ModuleDict({str(i): Evolution(attention_dim) for i in range(1, stages)})
        self.branches = nn.ModuleList(Branch(attention_dim, hidden) for _ in range(stages + 1))
        self.modulations = nn.ModuleList(Modulation(attention_dim, hidden) for _ in range(stages))
        self.blocks = _residual_blocks(2, hidden + attention_dim)
        self.last = nn.Conv2d(hidden + attention_dim, bands, 1)

    @property
    def align(self) -> int:
        """LRMS px; a tile that starts at a multiple of it is cut into the same windows as the scene."""
        return _WINDOW // math.gcd(_WINDOW, self.ratio)

    @property
    def reach(self) -> int:
        """LRMS px of apron that a tile needs, a multiple of `align`."""
        # a window for the last blocks and one for each stage but the first, whose details look 14 pixels further
        reach = of_lms(self.ratio, _WINDOW * len(self.modulations) + 14)
        return -(-reach // self.align) * self.align

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1], any size.
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart.
        """
        check_pair(lrms, pan, self.ratio)
        lms = self.upsample(lrms, self.ratio)
        height, width = pan.shape[-2:]
        missing = (0, -width % _WINDOW, 0, -height % _WINDOW)
        residual = self._residual(*(F.pad(image, missing, mode="replicate") for image in (lms, pan)))
        return lms + residual[..., :height, :width]

    def _residual(self, lms: HRMS, pan: PAN) -> HRMS:
        attention, value = self.attention(lms, pan)
        detail = self.detail(lms, pan)
        for stage, modulate in enumerate(self.modulations):
            added = self.branches[stage](value, detail)
            if stage:
                attention, value = self.evolutions[str(stage)](attention, value)
            value = modulate(value, added)
        added = self.branches[-1](value, detail)
        return self.last(self.blocks(torch.cat([added, value], dim=1)))
