"""What was measured of all windows of one split at one resolution."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from clippan_lib.audit.measures import (
    SMALLEST,
    dark_ratios,
    fingerprints,
    knows_haze,
    measured_ms,
    pan_surface,
    rank_correlations,
    reference_offset,
    simulation_errors,
)
from clippan_lib.data.patches import PatchSet
from clippan_lib.data.stacks import Batch, Resolution
from clippan_lib.optics import Optics
from clippan_lib.sensors import Sensor

Prints = list[tuple[np.ndarray, int]]
KEPT, FITTED = 6, 20  # windows kept for the pictures; windows whose MTF gain is fitted


@dataclass(eq=False)
class SplitAudit:
    """What was measured of one split at one resolution; offsets in px of PAN, rows then columns.

    Args:
        split, resolution: which.
        sensor: its sensor.
        patches: the windows, None if the files could not be opened.
        side: side of a window, in LRMS px.
        looked, detailed: windows read, and those of the sample among them.
        refusals: why others could not be read.
        no_window: why there is none, though nothing is wrong with the files; "" if there are windows.
        filled: scene -> whether it holds anything but zeros.
        zeros, saturated: values that are 0, and the largest or more; `counts` of all; by image.
        low, high: smallest and largest value of each band and of PAN, in [0, 1].
        prints: fingerprints of the measured MS and the windows they are from.
        surfaces: R2 of PAN from the bands by offset, one per window of the sample.
        phases: offset of LRMS on the reference -> windows of the sample.
        errors: energy of LRMS that the reference, degraded with each of `GAINS`, does not explain, per band.
        energy: energy of LRMS about its mean, per band.
        fits: how well each of `orders` explains the haze, one row per window of the sample.
        darks: `dark_ratios`, one row per window of the sample.
        examples: the first windows of the sample.
        optics: gains and shift of the training scenes at full resolution, where they can be measured.
        no_optics: why they could not.
    """

    split: str
    resolution: Resolution
    sensor: Sensor
    patches: PatchSet | None = None
    side: int = 0
    looked: int = 0
    detailed: int = 0
    refusals: list[str] = field(default_factory=list)
    no_window: str = ""
    filled: dict[int, bool] = field(default_factory=dict)
    zeros: Counter = field(default_factory=Counter)
    saturated: Counter = field(default_factory=Counter)
    counts: Counter = field(default_factory=Counter)
    low: Tensor | None = None
    high: Tensor | None = None
    prints: Prints = field(default_factory=list)
    surfaces: list[Tensor] = field(default_factory=list)
    phases: Counter = field(default_factory=Counter)
    errors: Tensor | float = 0.0
    energy: Tensor | float = 0.0
    fits: list[list[float]] = field(default_factory=list)
    darks: list[np.ndarray] = field(default_factory=list)
    examples: list[Batch] = field(default_factory=list)
    optics: Optics | None = None
    no_optics: str = ""
    small: str = ""

    def scan(self, index: int, batch: Batch) -> None:
        """What is cheap, of every window."""
        images = {"LRMS": batch.lrms, "PAN": batch.pan} | ({} if batch.gt is None else {"GT": batch.gt})
        for name, image in images.items():
            self.zeros[name] += int((image == 0).sum())
            self.saturated[name] += int((image >= 1).sum())
            self.counts[name] += image.numel()
        low, high = (
            torch.cat([limit(image, (0, 2, 3)) for image in (batch.lrms, batch.pan)])
            for limit in (torch.amin, torch.amax)
        )
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)
        scene = self.patches.scene_of(index)
        some = all(bool(image.any()) for image in images.values())
        self.filled[scene] = self.filled.get(scene, False) or some
        self.prints.append((fingerprints(measured_ms(batch, self.resolution)[0]), index))
        self.looked += 1

    def measure(self, batch: Batch) -> None:
        """What is dear, of a window of the sample."""
        self.detailed += 1
        if len(self.examples) < KEPT:
            self.examples.append(batch)
        if knows_haze(self.sensor) and (dark := dark_ratios(batch.lrms)) is not None:
            self.darks.append(dark)
            self.fits.append(rank_correlations(dark, self.sensor))
        if self.side < SMALLEST:
            return
        reach = self.sensor.ratio * (3 if self.side >= 32 else 1)
        surface = pan_surface(batch.lrms, batch.pan, self.sensor, reach)
        if surface is not None:
            self.surfaces.append(surface)
        offset = None if batch.gt is None else reference_offset(batch.lrms, batch.gt, self.sensor)
        if offset is not None:
            self.phases[offset] += 1
            if self.phases.total() <= FITTED:
                errors, energy = simulation_errors(batch.lrms, batch.gt, self.sensor.ratio, offset)
                self.errors, self.energy = self.errors + errors, self.energy + energy
