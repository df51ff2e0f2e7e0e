"""Pan-Mamba: MS and PAN as two sequences of pixels, read and mixed by selective scans (He et al. 2025 [he2025pan])."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from clippan_lib.fusion.networks.hin import HINBlock
from clippan_lib.fusion.networks.selective_scan import selective_scan
from clippan_lib.shapes import HRMS, LRMS, PAN, Maps, check_pair

Tokens = Float[Tensor, "b L k"]
Inner = Float[Tensor, "b L d"]

_STATES = 16
_TAPS = 4
_STEPS = (1e-3, 1e-1)  # range of the initial step sizes, before the token has its say


class Branch(nn.Module):
    """Mamba's block up to its last projection (Gu and Dao 2023 [gu2023mamba]): convolution, selective scan, gate.

    Args:
        filters: channels of a token; inside there are twice as many.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        inner, self.rank = 2 * filters, math.ceil(filters / 16)
        self.in_proj = nn.Linear(filters, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, _TAPS, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * _STATES, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, _STATES + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self._initialise_steps()

    def _initialise_steps(self) -> None:
        # softplus of the bias is spread evenly, in the logarithm, over _STEPS: some channels remember long
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        low, high = (math.log(step) for step in _STEPS)
        with torch.no_grad():
            steps = self.dt_proj.bias.uniform_(low, high).exp_()
            steps.add_(torch.log(-torch.expm1(-steps)))

    def forward(self, tokens: Tokens) -> Inner:
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)
        x = F.silu(self.conv1d(F.pad(x.mT, (_TAPS - 1, 0))).mT)
        dt, B, C = self.x_proj(x).split((self.rank, _STATES, _STATES), dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        return selective_scan(x, dt, -self.A_log.exp(), B, C, self.D) * F.silu(gate)


class Mamba(nn.Module):
    """One branch and the projection back to `filters` channels."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.branch = Branch(filters)
        self.out_proj = nn.Linear(2 * filters, filters, bias=False)

    def forward(self, tokens: Tokens) -> Tokens:
        return self.out_proj(self.branch(tokens))


class Single(nn.Module):
    """Mamba on one stream. The sum of the blocks' inputs goes beside it; the output is not added to it."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(filters)
        self.mamba = Mamba(filters)

    def forward(self, tokens: Tokens, total: Tokens) -> tuple[Tokens, Tokens]:
        total = total + tokens
        return self.mamba(self.norm(total)), total


class Swap(nn.Module):
    """Mamba on either stream after they have exchanged the first half of their channels."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.norm_ms, self.norm_pan = nn.LayerNorm(filters), nn.LayerNorm(filters)
        self.mamba_ms, self.mamba_pan = Mamba(filters), Mamba(filters)

    def forward(
        self, ms: Tokens, pan: Tokens, total_ms: Tokens, total_pan: Tokens
    ) -> tuple[Tokens, Tokens, Tokens, Tokens]:
        total_ms, total_pan = total_ms + ms, total_pan + pan
        (ms1, ms2), (pan1, pan2) = (
            self.norm_ms(total_ms).chunk(2, dim=-1),
            self.norm_pan(total_pan).chunk(2, dim=-1),
        )
        ms = self.mamba_ms(torch.cat([pan1, ms2], dim=-1))
        pan = self.mamba_pan(torch.cat([ms1, pan2], dim=-1))
        return ms, pan, total_ms, total_pan


class Cross(nn.Module):
    """A branch on MS and a branch on PAN, added, then a depthwise 3×3 convolution beside the identity.

    Both norms are applied twice, as in the public code.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.norm_ms, self.norm_pan = nn.LayerNorm(filters), nn.LayerNorm(filters)
        self.branch_ms, self.branch_pan = Branch(filters), Branch(filters)
        self.out_proj = nn.Linear(2 * filters, filters, bias=False)
        self.conv = nn.Conv2d(filters, filters, 3, padding=1, groups=filters)

    def forward(
        self, ms: Tokens, pan: Tokens, total: Tokens, height: int, width: int
    ) -> tuple[Tokens, Tokens]:
        total = total + ms
        inner = self.branch_ms(self.norm_ms(self.norm_ms(total)))
        inner = inner + self.branch_pan(self.norm_pan(self.norm_pan(pan)))
        maps = _to_maps(self.out_proj(inner), height, width)
        return _to_tokens(maps + self.conv(maps)), total


class Gate(nn.Module):
    """Two 3×3 convolutions, weighted by one number in (0, 1) per channel, beside the identity."""

    def __init__(self, filters: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)
        self.squeeze = nn.Conv2d(filters, filters // reduction, 1)
        self.expand = nn.Conv2d(filters // reduction, filters, 1)

    def forward(self, maps: Maps) -> Maps:
        inner = self.conv2(F.relu(self.conv1(maps)))
        weight = self.expand(F.relu(self.squeeze(inner.mean(dim=(2, 3), keepdim=True))))
        return maps + torch.sigmoid(weight) * inner


def _to_tokens(maps: Maps) -> Tokens:
    return maps.flatten(2).mT


def _to_maps(tokens: Tokens, height: int, width: int) -> Maps:
    return tokens.mT.unflatten(2, (height, width))


def _encoder(bands: int, filters: int) -> nn.Sequential:
    blocks = [HINBlock(filters, filters, slope=0.2, skip=False) for _ in range(3)]
    return nn.Sequential(nn.Conv2d(bands, filters, 3, padding=1), *blocks)


class PanMamba(nn.Module):
    """The network of Pan-Mamba (He et al. 2025 [he2025pan]); 474,352 parameters for 8 bands, 472,044 for 4.

    Its sequences are the pixels row by row, so a pixel depends on those before it, and, through the instance
    normalisation of its encoders, on the extent of the image. MS is upsampled inside by pixel repetition,
    which is off the phase of `mtf.upsample`: the centre of low-resolution pixel k lands on ratio*k +
    (ratio-1)/2, not ratio*k + ratio//2. Departs from the public code in: any number of bands and any image
    size, where it has 4 bands and one size in its source; its 6,400 parameters that do not reach the output
    are left out.

    Args:
        bands: number of MS bands, at least 1.
        ratio: PAN-to-MS scale, at least 2.
        filters: channels of a token, a multiple of 4.
        singles: blocks per stream before the streams meet.
        crosses: blocks that fuse them.
    Raises: ValueError if `filters` is no multiple of 4.
    """

    def __init__(self, bands: int, ratio: int, filters: int = 32, singles: int = 8, crosses: int = 5) -> None:
        super().__init__()
        if filters % 4:
            raise ValueError(f"filters {filters} must be a multiple of 4: they are halved, and quartered")
        self.ratio = ratio
        self.encoder_ms, self.encoder_pan = _encoder(bands, filters), _encoder(1, filters)
        self.token_ms, self.token_pan = nn.Conv2d(filters, filters, 1), nn.Conv2d(filters, filters, 1)
        self.singles_ms = nn.ModuleList(Single(filters) for _ in range(singles))
        self.singles_pan = nn.ModuleList(Single(filters) for _ in range(singles))
        self.swaps = nn.ModuleList(Swap(filters) for _ in range(2))
        self.shallow_ms = nn.Conv2d(2 * filters, filters, 3, padding=1)
        self.shallow_pan = nn.Conv2d(2 * filters, filters, 3, padding=1)
        self.crosses = nn.ModuleList(Cross(filters) for _ in range(crosses))
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1)
        self.gate = Gate(filters, reduction=4)
        self.conv2 = nn.Conv2d(filters, bands, 3, padding=1)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1], any size.
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart.
        """
        check_pair(lrms, pan, self.ratio)
        lms = F.interpolate(lrms, scale_factor=self.ratio, mode="nearest")
        fused = self._fuse(*self._extract(self.encoder_ms(lms), self.encoder_pan(pan)))
        return lms + self.conv2(self.gate(self.conv1(fused)))

    def _extract(self, ms: Maps, pan: Maps) -> tuple[Maps, Maps]:
        size = pan.shape[-2:]
        ms, pan = _to_tokens(self.token_ms(ms)), _to_tokens(self.token_pan(pan))
        total_ms, total_pan = torch.zeros_like(ms), torch.zeros_like(pan)
        for single in self.singles_ms:
            ms, total_ms = single(ms, total_ms)
        for single in self.singles_pan:
            pan, total_pan = single(pan, total_pan)
        for swap in self.swaps:
            ms, pan, total_ms, total_pan = swap(ms, pan, total_ms, total_pan)
        return _to_maps(ms, *size), _to_maps(pan, *size)

    def _fuse(self, ms: Maps, pan: Maps) -> Maps:
        size = pan.shape[-2:]
        ms = ms + self.shallow_ms(torch.cat([ms, pan], dim=1))
        pan = pan + self.shallow_pan(torch.cat([pan, ms], dim=1))
        ms, pan = _to_tokens(self.token_ms(ms)), _to_tokens(self.token_pan(pan))
        total = torch.zeros_like(ms)
        for cross in self.crosses:
            ms, total = cross(ms, pan, total, *size)
        return _to_maps(ms, *size)
