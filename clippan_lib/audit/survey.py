"""A dataset read in windows, measured and judged."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from clippan_lib.audit.checks import CHECKS, Leak, leakage, unreadable
from clippan_lib.audit.findings import Finding
from clippan_lib.audit.split import SplitAudit
from clippan_lib.data.manifest import Manifest
from clippan_lib.data.patches import Dataset, open_dataset
from clippan_lib.data.splits import SPLITS
from clippan_lib.data.stacks import Resolution
from clippan_lib.errors import DataError, NoWindow
from clippan_lib.shapes import Progress

SCAN, SAMPLE, SIDE = 20_000, 100, 64


@dataclass(frozen=True)
class Audit:
    """All findings, and the measurements behind them for the pictures. Made by `audit`."""

    manifest: Manifest
    findings: tuple[Finding, ...]
    parts: tuple[SplitAudit, ...] = ()
    leaks: tuple[Leak, ...] = ()

    @property
    def passed(self) -> bool:
        """No fault was found; warnings do not count."""
        return all(finding.severity != "fault" for finding in self.findings)


def audit(
    manifest: Manifest,
    data_root: str | Path | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Measure a dataset; what cannot be read becomes a finding and stops nothing else.

    Args:
        manifest: from `load_manifest`.
        data_root: as in `open_dataset`.
        sample: windows per split and resolution that are measured in detail, at least 1.
        seed: seed of the sample.
        progress: called after each window, labelled by split and resolution.
    Returns: findings in the order of the checks, the measurements, and examples of leaks.
    Raises: ValueError on a sample below 1.
    """
    if sample < 1:
        raise ValueError(f"sample {sample} must be 1 or more")
    try:
        dataset = open_dataset(manifest, data_root)
        available = dataset.available
    except DataError as error:
        return Audit(manifest, (unreadable("all", "all", f"not opened: {error}", 1),))
    parts = [_part(dataset, split, resolution, sample, seed, progress) for split, resolution in available]
    findings = [finding for check in CHECKS for part in parts if (finding := check(part))]
    shared = [leakage(parts, pair) for pair in combinations(SPLITS, 2)]
    findings += [finding for finding, _ in shared if finding]
    leaks = [leak for _, found in shared for leak in found]
    return Audit(manifest, tuple(findings), tuple(parts), tuple(leaks))


def _part(
    dataset: Dataset, split: str, resolution: Resolution, sample: int, seed: int, progress: Progress | None
) -> SplitAudit:
    part = SplitAudit(split, resolution, dataset.sensor)
    try:
        scene = dataset.scenes(split, resolution)[0]
        shorter = min(scene.height, scene.width)
        part.side = shorter // -(-shorter // SIDE)  # so that the windows leave little of the scene out
        part.patches = dataset.patches(split, resolution, part.side)
    except NoWindow as error:
        part.no_window = str(error)
        return part
    except DataError as error:
        part.refusals.append(str(error))
        return part
    if resolution == "reduced" and dataset.measurable:
        part.small = dataset.too_small(sharp=True)
    total = len(part.patches)
    indices = np.unique(np.linspace(0, total - 1, min(SCAN, total)).round().astype(int)).tolist()
    detailed = set(np.random.default_rng(seed).permutation(indices)[:sample].tolist())
    refused = set()  # a scene that refused once is not read again for its other windows
    for done, index in enumerate(indices, start=1):
        place = part.patches.scene_of(index)
        try:
            batch = None if place in refused else part.patches.batch([index])
        except DataError as error:
            refused.add(place)
            part.refusals.append(str(error))
            batch = None
        if batch is not None:
            part.scan(index, batch)
            if index in detailed:
                part.measure(batch)
        if progress:
            progress(f"{split} {resolution}", done, len(indices), {})
    if (split, resolution) == ("train", "full") and dataset.measurable:
        try:
            part.optics = dataset.measure_optics()
        except ValueError as error:  # of damaged files too
            part.no_optics = str(error)
    return part
