"""BandWise: one small network for each band by itself, so one set of weights for any sensor."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from clippan_lib.fusion.classical import bt_h, gsa
from clippan_lib.fusion.classical.stages import Stages, ask, in_memory, side_by_side
from clippan_lib.fusion.classical.statistics import Spread
from clippan_lib.fusion.consistency import consistent
from clippan_lib.fusion.consistency import reach as of_consistency
from clippan_lib.fusion.reach import of_fine
from clippan_lib.mtf import degrade, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, check_pair

DEFAULT_GAIN = 0.3  # the toolbox's, where a sensor has no other
STEPS = 2  # of consistency behind it, in training and in use
_FEATURES = 8
_STRIP = 200_000  # pixels that pass the layers together where nothing is trained: 26 MB a layer
_DILATIONS = (1, 2, 4, 2, 1)  # of the layers: together they see five LRMS px at ratio 4


class BandWise(nn.Module):
    """A residual on the mean of GSA and BT-H, both made consistent, that sees one band at a time.

    Ours. What a band looks like to it does not depend on the sensor: EXP of the band and its fusions by GSA and by
    BT-H in units of the band's deviation, PAN and its low-pass in units of PAN's, how well the two agree, and the
    band's MTF gain. So bands of all sensors train one set of weights (40,000), which then fuses any number of bands.
    The weights that come with the package have seen synthetic scenes only, with their truth at the scale of use
    (`fusion.pretrain`).

    Args:
        bands: number of MS bands, at least 1; changes no weight.
        ratio: PAN-to-MS scale, at least 2.
        width: filters of a layer.
    """

    def __init__(self, bands: int, ratio: int, width: int = 32) -> None:
        super().__init__()
        self.ratio, self.gnyq = ratio, (DEFAULT_GAIN,) * bands
        widths = [_FEATURES] + [width] * len(_DILATIONS)
        self.body = nn.ModuleList(
            nn.Conv2d(a, b, 3, dilation=step)
            for a, b, step in zip(widths, widths[1:], _DILATIONS, strict=False)
        )
        self.tail = nn.Conv2d(width, 1, 3)
        self.pixels = sum(_DILATIONS) + 1
        nn.init.normal_(self.tail.weight, std=1e-4)
        nn.init.zeros_(self.tail.bias)

    def through(self, gnyq: Sequence[float]) -> "BandWise":
        """The same network for images seen with these gains at Nyquist, one per band; changed in place."""
        self.gnyq = tuple(gnyq)
        return self

    @property
    def reach(self) -> int:
        """LRMS px of apron that a tile needs."""
        before = max(gsa.reach(self.ratio), bt_h.reach(self.ratio)) + of_consistency(self.ratio, 1)
        return before + of_fine(self.ratio, self.pixels)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """Fuse a pair.

        Args:
            lrms: (b, c, h, w), [0, 1].
            pan: (b, 1, ratio*h, ratio*w), [0, 1].
        Returns: (b, c, ratio*h, ratio*w), not clipped.
        Raises: ValueError if the sizes are not `ratio` apart, or the bands are not as many as the gains.
        """
        return in_memory(self.stages(lrms, pan))

    def stages(self, lrms: LRMS, pan: PAN) -> Stages:
        """The same, asking for the statistics of the whole scene; see `classical.stages`."""
        check_pair(lrms, pan, self.ratio)
        batch, bands, _, _ = lrms.shape
        if bands != len(self.gnyq):
            raise ValueError(f"{bands} bands, and gains for {len(self.gnyq)}; build the network for {bands}")
        lms = upsample(lrms, self.ratio)
        pan_low = upsample(degrade(pan.expand(-1, bands, -1, -1), self.gnyq, self.ratio), self.ratio)
        both = (method.stages(lrms, pan, self.ratio) for method in (gsa, bt_h))
        *fused, spread = yield from side_by_side(*both, ask(Spread(lms=lms, pan_low=pan_low)))
        fused = [consistent(hrms, lrms, self.gnyq, self.ratio, 1) for hrms in fused]
        agreement = spread.correlation("lms", "pan_low")
        unit, unit_pan = (spread.deviation(name).clamp(min=1e-6) for name in ("lms", "pan_low"))
        centred = spread.centred("lms", lms) / unit
        sharp, blurred = ((image - spread.mean("pan_low")) / unit_pan for image in (pan, pan_low))
        gains = lms.new_tensor(self.gnyq)[:, None, None]
        features = [
            centred,
            sharp,
            blurred,
            agreement * (sharp - blurred),
            *((hrms - lms) / unit for hrms in fused),
            agreement.expand_as(lms),
            gains.expand_as(lms),
        ]
        maps = torch.stack(features, 2).flatten(0, 1)
        start = (fused[0] + fused[1]) / 2
        return start + unit * self._residual(maps).view(batch, bands, *pan.shape[-2:])

    def _residual(self, maps: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return self._layers(self._padded(maps))
        # in strips, whose memory is used again by the next: to have all of it from the system takes longer than to
        # compute
        bands = []
        for k in range(len(maps)):
            padded = self._padded(maps[k : k + 1])
            eaten, rows = 2 * self.pixels, max(1, _STRIP // padded.shape[-1])
            tops = range(0, padded.shape[-2] - eaten, rows)
            bands.append(torch.cat([self._layers(padded[:, :, t : t + rows + eaten]) for t in tops], -2))
        return torch.cat(bands)

    def _padded(self, maps: torch.Tensor) -> torch.Tensor:
        # once, by what all layers eat: less work than in each
        return F.pad(maps, (self.pixels,) * 4, mode="replicate")

    def _layers(self, maps: torch.Tensor) -> torch.Tensor:
        for layer in self.body:
            maps = F.relu(layer(maps), inplace=True)
        return self.tail(maps)
