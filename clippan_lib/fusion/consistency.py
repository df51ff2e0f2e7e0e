"""Consistency with LRMS: iterated back-projection, behind any fused image."""

from collections.abc import Sequence

import torch
from torch import nn

from clippan_lib.fusion.reach import of_fine, of_lms
from clippan_lib.mtf import Border, degrade, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN

_FILTER = 20  # PAN px: half of the MTF filter


def consistent(
    hrms: HRMS,
    lrms: LRMS,
    gnyq: Sequence[float],
    ratio: int,
    steps: int,
    border: Border = "replicate",
) -> HRMS:
    """Move a fused image towards those that the sensor would have seen as LRMS.

    Iterated back-projection, Irani and Peleg 1991 [irani1991improving]: `steps` times
    hrms <- hrms + EXP(lrms - degrade(hrms)).

    Seen as geometry: what `degrade` sees of an image (its low frequencies, under the MTF) is fixed by LRMS, and
    a step corrects that part alone. What `degrade` does not see stays as PAN has filled it. So the step adds no
    detail and removes none that LRMS cannot judge.

    Its limits: the gains must be those of the pair (`optics.measure_optics`), and MS and PAN must lie on one
    another. From about half a PAN pixel of shift on it draws the fused image towards a shifted one and does harm.
    Noise in LRMS is taken over.

    Departs from Irani and Peleg in: the error comes back through EXP, not through the transpose of `degrade`; three
    steps so end where ten of theirs do.

    Args:
        hrms: (b, c, H, W), [0, 1].
        lrms: (b, c, H/ratio, W/ratio), [0, 1].
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        ratio: PAN-to-MS scale, at least 2.
        steps: 0 gives hrms back.
        border: of EXP, as in `mtf.upsample`.
    Returns: (b, c, H, W); it may leave [0, 1] a little.
    Raises: ValueError on negative steps, sizes that are not `ratio` apart, or gains that do not fit the bands.
    """
    if steps < 0:
        raise ValueError(f"{steps} steps of consistency: give 0 or more")
    if hrms.shape[:2] != lrms.shape[:2] or hrms.shape[-2:] != tuple(ratio * side for side in lrms.shape[-2:]):
        raise ValueError(
            f"hrms {tuple(hrms.shape)} and lrms {tuple(lrms.shape)} are not a ratio of {ratio} apart; give the pair "
            "that hrms was fused from"
        )
    for _ in range(steps):
        # in reduced precision the small error would be lost
        with torch.autocast(hrms.device.type, enabled=False):
            hrms = hrms.float() if hrms.dtype in (torch.bfloat16, torch.float16) else hrms
            hrms = hrms + upsample(lrms - degrade(hrms, gnyq, ratio), ratio, border)
    return hrms


def reach(ratio: int, steps: int) -> int:
    """LRMS px that `consistent` looks to each side; part of the apron of a tile."""
    return steps * (of_fine(ratio, _FILTER) + of_lms(ratio))


class Consistent(nn.Module):
    """A network whose last layer is `consistent`: what it learns is only what LRMS does not decide.

    Args:
        network: (lrms, pan) → hrms.
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
        steps: of `consistent`, 1 or more.
    Raises: ValueError on fewer than 1 step.
    """

    def __init__(self, network: nn.Module, gnyq: Sequence[float], ratio: int, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"{steps} steps of consistency as a last layer: give 1 or more")
        self.network, self.gnyq, self.ratio, self.steps = network, tuple(gnyq), ratio, steps

    @property
    def reach(self) -> int | None:
        """LRMS px of apron; None if the network looks at its whole image."""
        inner = getattr(self.network, "reach", None)
        return None if inner is None else inner + reach(self.ratio, self.steps)

    @property
    def align(self) -> int:
        """LRMS px; a tile must start at a multiple of it."""
        return getattr(self.network, "align", 1)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """(b, c, h, w) and (b, 1, H, W) to (b, c, H, W)."""
        return consistent(self.network(lrms, pan), lrms, self.gnyq, self.ratio, self.steps)
