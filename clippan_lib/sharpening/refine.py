"""Words behind a method: its image is walked along them (`fusion.walk`), and tiles leave no trace.

A tile knows nothing of the scene. So what a step depends on is measured once, on a few windows: the display stretch of
the supervisor, the bands' deviations and the rate.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import gcd, lcm, sqrt
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clippan_lib.data.pair.scene import PairWindow
from clippan_lib.errors import DataError
from clippan_lib.fusion import StagedMethod
from clippan_lib.fusion.classical.stages import Stages, in_memory
from clippan_lib.fusion.reach import of_fine
from clippan_lib.fusion.walk import SIZE, STEPS, Loss, rate_of, walk
from clippan_lib.shapes import LRMS, PAN
from clippan_lib.sharpening.optics import SceneOptics, refuse_displaced
from clippan_lib.sharpening.registration import Placed
from clippan_lib.sharpening.windows import gathered

# LRMS px, beside what the tower sees for one step: farther from the border of a tile, all steps together are what they
# are in the whole scene, to the last digits. What they could see in theory is ten times as much.
_FELT = 4
_SMALL = 1e-4  # added to deviations, so that none is 0


@dataclass(frozen=True)
class Refinement:
    """A walk along words, the same for all tiles of a scene; picklable.

    Args:
        words: what the fused image is asked to be.
        supervisor: frozen, its display stretch that of the scene.
        clip: model and weights, as `load_clip` takes them.
        deviation: deviation of each band of LRMS, (1, c, 1, 1).
        rate: rate of all steps, (1, 1, 1, 1).
        gnyq: MTF gain at Nyquist, one per band.
        ratio: PAN-to-MS scale.
    """

    words: str
    supervisor: Any  # a Supervisor, whose import only words need
    clip: tuple[str, str | None]
    deviation: Float[Tensor, "1 _ 1 1"]
    rate: Float[Tensor, "1 1 1 1"]
    gnyq: tuple[float, ...]
    ratio: int

    def behind(self, method: StagedMethod) -> StagedMethod:
        """The method with the walk behind it, which reaches further."""
        towers = self.supervisor.towers
        # a gradient sees what the features of the pixels around it see
        further = of_fine(self.ratio, 2 * towers.reach) + _FELT
        return replace(
            method,
            stages=partial(_walked, method.stages, self),
            reach=None if method.reach is None else method.reach + further,
            align=lcm(method.align, towers.align // gcd(towers.align, self.ratio)),
        )

    @property
    def remark(self) -> str:
        """What is done, in words."""
        return f'walked along the words "{self.words}": {STEPS} steps, in what the bands do not see'

    @property
    def tags(self) -> dict[str, str]:
        """For the output."""
        name = " ".join(part for part in self.clip if part)
        clip = f"{name}, SHA-256 {self.supervisor.towers.fingerprint}"
        return {"CLIPPAN_WORDS": self.words, "CLIPPAN_WALK": f"{STEPS} steps, CLIP {clip}"}

    @property
    def record(self) -> dict[str, Any]:
        """All that decides what the walk does, as JSON."""
        model, weights = self.clip
        roles = ("lrms", "pan")
        stretches = {role: self.supervisor.stretch(role) for role in roles}
        return {
            "words": self.words,
            "steps": STEPS,
            "size": SIZE,
            "rate": self.rate.item(),
            "deviation": self.deviation.flatten().tolist(),
            "stretch": {role: [of.lo.tolist(), of.hi.tolist()] for role, of in stretches.items()},
            "clip": {
                "model": model,
                "weights": weights,
                "sha256": self.supervisor.towers.fingerprint,
            },
        }


def _walked(
    before: Callable[[Tensor, Tensor], Stages], refinement: Refinement, lrms: Tensor, pan: Tensor
) -> Stages:
    hrms = yield from before(lrms, pan)
    # tensors of inference mode have no gradient
    with torch.inference_mode(False):
        lrms, pan, hrms = (image.clone() for image in (lrms, pan, hrms))
        return walk(
            hrms,
            _loss(refinement.supervisor, refinement.words, lrms, pan),
            refinement.deviation,
            gnyq=refinement.gnyq,
            ratio=refinement.ratio,
            rate=refinement.rate,
        )


def _loss(supervisor: Any, words: str, lrms: LRMS, pan: PAN) -> Loss:
    from clippan_lib.losses.guidance import guide  # part of the time to start that only words need

    with torch.no_grad():
        return guide(supervisor, lrms, pan, True, words)


def plan_refinement(
    words: str,
    clip: tuple[str, str | None],
    placed: Placed,
    optics: SceneOptics,
    method: StagedMethod,
    max_value: float,
    device: torch.device,
) -> Refinement:
    """Measure on a few windows what all steps of a walk along words share.

    Args:
        words: what the fused image is asked to be.
        clip: model and weights, as `load_clip` takes them; its image tower must be one at full resolution.
        placed: the scene.
        optics: its gains.
        method: what the walk begins at.
        max_value: what digital numbers are divided by for the method.
        device: where to compute.
    Raises: DataError on words that say nothing, bands of no known wavelength, and where MS and PAN do not lie on one
        another; ValueError on words that are too many, and on a CLIP whose image tower looks at patches or at a whole
        image; or as `load_clip`.
    """
    from clippan_lib.clip import Supervisor, load_clip  # part of the time to start that only words need
    from clippan_lib.data.synthetic.materials import CENTRE_NM

    if not words.strip():
        raise DataError("the words that the image shall be walked along are blank; say what it shall be")
    refuse_displaced(placed, "words need", "leave --refine out")
    sensor = optics.sensor
    if unknown := [band for band in sensor.bands if band not in CENTRE_NM]:
        raise DataError(
            f"words need bands whose wavelengths are known, and {', '.join(unknown)} is none; give --sensor, or name "
            f"them by --bands ({', '.join(CENTRE_NM)})"
        )
    towers = load_clip(*clip)
    towers.check_pixels()
    lrms, pan, held = gathered(placed.windows)
    lrms, pan = (_held(image / max_value, held) for image in (lrms, pan))
    supervisor = Supervisor.as_it_is(towers, sensor, lrms, pan).to(device)
    supervisor.embed_words(words)  # refuses more than it can read
    deviation = _rounded(lrms.std((-2, -1), keepdim=True) + _SMALL).to(device)

    def rate(window: PairWindow) -> Tensor:
        lrms, pan = (image.to(device) / max_value for image in (window.lrms, window.pan))
        with torch.no_grad():
            hrms = in_memory(method.stages(lrms, pan))
        return rate_of(
            hrms, _loss(supervisor, words, lrms, pan), deviation, gnyq=optics.gnyq, ratio=sensor.ratio
        )

    rates = [rate(window).item() for window in placed.windows]
    # the length of a step is a root mean square: so over all windows
    mean = sqrt(sum(1 / one**2 for one in rates if one) / len(rates))
    shared = _rounded(torch.full((1, 1, 1, 1), 1 / mean if mean else 0.0, device=device))
    return Refinement(words, supervisor, clip, deviation, shared, optics.gnyq, sensor.ratio)


def _held(image: Float[Tensor, "n c _ _"], held: Bool[Tensor, "n 1 _ _"]) -> Float[Tensor, "1 c 1 _"]:
    """The pixels that hold data, (1, c, 1, n)."""
    scale = image.shape[-1] // held.shape[-1]
    which = held.repeat_interleave(scale, -1).repeat_interleave(scale, -2)[:, 0]
    return image.movedim(1, 0)[:, which][None, :, None]


def _rounded(values: Tensor) -> Tensor:
    """So that other numbers of threads, which add up in another order, mean the same job."""
    return torch.tensor([float(f"{value:.4g}") for value in values.flatten()]).view_as(values).to(values)
