"""Audit: what can be wrong with a dataset and shows in its numbers, measured before anything is trained.

Every scene is read in windows. All windows (at most `SCAN` per split and resolution, evenly spread) are read
once for what is cheap: can they be read, values, fingerprints. A seeded sample is measured in detail.

Left out: near infrared as the band least like the others (over bare ground all bands correlate by 0.99), and
the correlation of neighbouring bands (a reversed order has the same neighbours). Not seen: a shift at full
resolution under one px of PAN, which the usual grids have; offsets of single windows outside the sample; land
in two splits that was resampled, filtered or mirrored.
"""

from clippan_lib.audit.checks import Finding, Leak, offsets
from clippan_lib.audit.split import SplitAudit
from clippan_lib.audit.survey import Audit, audit

__all__ = ["Audit", "Finding", "Leak", "SplitAudit", "audit", "offsets"]
