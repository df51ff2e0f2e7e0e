"""Consistency with LRMS, or with LRMS and PAN: iterated back-projection, behind any fused image."""

from collections.abc import Sequence

import torch
from torch import nn

from clippan_lib.fusion.classical.least_squares import least_squares
from clippan_lib.fusion.classical.stages import Stages, ask, in_memory, side_by_side
from clippan_lib.fusion.classical.statistics import Spread
from clippan_lib.fusion.reach import of_fine, of_lms
from clippan_lib.mtf import REACH, Border, check_sharpness, degrade, sharpened, upsample
from clippan_lib.shapes import HRMS, LRMS, PAN, check_pair

MOST_STEPS = 100  # a slip of a key is not computed for days
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
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, H, W); it may leave [0, 1] a little.
    Raises: ValueError on steps below 0 or above 100, sizes that are not `ratio` apart, or gains that do not fit the
        bands.
    """
    if not 0 <= steps <= MOST_STEPS:
        raise ValueError(f"{steps} steps of consistency: give 0 to {MOST_STEPS}")
    if hrms.shape[:2] != lrms.shape[:2] or hrms.shape[-2:] != tuple(ratio * side for side in lrms.shape[-2:]):
        raise ValueError(
            f"hrms {tuple(hrms.shape)} and lrms {tuple(lrms.shape)} are not a ratio of {ratio} apart; give the pair "
            "that hrms was fused from"
        )
    for _ in range(steps):
        # in reduced precision the small error would be lost
        with torch.autocast(hrms.device.type, enabled=False):
            hrms = _whole(hrms)
            hrms = hrms + upsample(lrms - degrade(hrms, gnyq, ratio), ratio, border)
    return hrms


def consistent_with_both(
    hrms: HRMS,
    lrms: LRMS,
    pan: PAN,
    gnyq: Sequence[float],
    ratio: int,
    steps: int,
    sharpness: float = 1.0,
    border: Border = "replicate",
) -> HRMS:
    """Move a fused image towards those that the sensor would have seen as this LRMS and as this PAN.

    Ours. `steps` times hrms <- hrms + G (PAN - phi(hrms)), each time with one step of `consistent` behind it, and one
    more at the end, so that LRMS has the last word. phi, the bands' share in PAN, is found by least squares one scale
    lower, where both are known: PAN degraded with the mean gain, on LRMS. G has for each band its slope on phi(LRMS),
    as GSA injects detail (Aiazzi, Baronti and Selva 2007 [aiazzi2007improving]).

    Seen as geometry: phi(hrms) is fixed by PAN, the low frequencies by LRMS. What is left to the method is how the
    detail of one band differs from that of the others. So methods that leave PAN's contrast unused, or use too much of
    it, gain the most, and after it they hardly differ.

    Its limits are those of `consistent`; and where PAN holds what no band has (another time of exposure, a parallax),
    so will the image.

    Args:
        hrms: (b, c, H, W), [0, 1].
        lrms: (b, c, H/ratio, W/ratio), [0, 1].
        pan: (b, 1, H, W), [0, 1].
        gnyq: MTF gain at Nyquist, one per band, in (0, 1).
        ratio: PAN-to-MS scale, at least 2.
        steps: 0 gives hrms back.
        sharpness: see `mtf.sharpened`, which PAN goes through first; not 1 where a truth is known to be softer than
            PAN, as one scale down, or sharper.
        border: how EXP extends the image at its border, as in `mtf.upsample`.
    Returns: (b, c, H, W); it may leave [0, 1] a little.
    Raises: ValueError as `consistent`, or on a sharpness outside (0, 4].
    """
    return in_memory(stages_with_both(_given(hrms), lrms, pan, gnyq, ratio, steps, sharpness, border))


def _given(hrms: HRMS) -> Stages:
    yield from ()
    return hrms


def stages_with_both(
    before: Stages,
    lrms: LRMS,
    pan: PAN,
    gnyq: Sequence[float],
    ratio: int,
    steps: int,
    sharpness: float = 1.0,
    border: Border = "replicate",
) -> Stages:
    """`consistent_with_both` behind a method, asking for the statistics of the whole scene; see `classical.stages`."""
    check_pair(lrms, pan, ratio)
    pan_low = degrade(pan, (sum(gnyq) / len(gnyq),), ratio)
    hrms, spread = yield from side_by_side(before, ask(Spread(lrms=lrms, pan=pan_low)))
    consistent(hrms, lrms, gnyq, ratio, 0 if steps > 0 else steps)  # its refusals
    weights = least_squares(spread.covariance("lrms", "lrms"), spread.covariance("lrms", "pan"))
    gain = spread.with_combination("phi", "lrms", weights).slope("lrms", "phi")
    target = sharpened(pan, sharpness) - spread.mean("pan")
    with torch.autocast(hrms.device.type, enabled=False):  # as in `consistent`
        hrms = _whole(hrms)
        for _ in range(steps):
            seen = torch.einsum("bck,bchw->bkhw", weights.to(hrms), spread.centred("lrms", hrms))
            hrms = consistent(hrms + gain * (target - seen), lrms, gnyq, ratio, 1, border)
        return consistent(hrms, lrms, gnyq, ratio, 1 if steps else 0, border)


def _whole(hrms: HRMS) -> HRMS:
    return hrms.float() if hrms.dtype in (torch.bfloat16, torch.float16) else hrms


def reach(ratio: int, steps: int) -> int:
    """LRMS px that `consistent` looks to each side; part of the apron of a tile."""
    return steps * (of_fine(ratio, _FILTER) + of_lms(ratio))


def reach_with_both(ratio: int, steps: int) -> int:
    """The same of `consistent_with_both`."""
    return max(of_fine(ratio, _FILTER), of_fine(ratio, REACH)) + reach(ratio, steps + 1)


class Consistent(nn.Module):
    """A network whose last layer is `consistent`, or `consistent_with_both`: it learns only what these leave open.

    Args:
        network: (lrms, pan) → hrms.
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
        steps: number of steps of that layer, 1 or more.
        sharpness: sharpness of PAN, as `consistent_with_both` takes it; None is a layer that holds to LRMS alone.
    Raises: ValueError on fewer than 1 step, or a sharpness outside (0, 4].
    """

    def __init__(
        self,
        network: nn.Module,
        gnyq: Sequence[float],
        ratio: int,
        steps: int,
        sharpness: float | None = None,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"{steps} steps of consistency as a last layer: give 1 or more")
        if sharpness is not None:
            check_sharpness(sharpness)
        self.network, self.gnyq, self.ratio, self.steps = network, tuple(gnyq), ratio, steps
        self.sharpness = sharpness

    @property
    def reach(self) -> int | None:
        """LRMS px of apron; None if the network looks at its whole image."""
        inner = getattr(self.network, "reach", None)
        behind = reach if self.sharpness is None else reach_with_both
        return None if inner is None else inner + behind(self.ratio, self.steps)

    @property
    def align(self) -> int:
        """LRMS px; a tile must start at a multiple of it."""
        return getattr(self.network, "align", 1)

    def forward(self, lrms: LRMS, pan: PAN) -> HRMS:
        """(b, c, h, w) and (b, 1, H, W) to (b, c, H, W)."""
        return self.behind(self.network(lrms, pan), lrms, pan)

    def behind(self, hrms: HRMS, lrms: LRMS, pan: PAN) -> HRMS:
        """The last layer alone, on any fused image of the pair."""
        if self.sharpness is None:
            return consistent(hrms, lrms, self.gnyq, self.ratio, self.steps)
        return consistent_with_both(hrms, lrms, pan, self.gnyq, self.ratio, self.steps, self.sharpness)
