"""Audit: what can be wrong with a dataset and shows in its numbers, measured before anything is trained.

Every scene is read in windows. All windows (at most `SCAN` per split and resolution, evenly spread) are read
once for what is cheap: can they be read, values, fingerprints. A seeded sample is measured in detail. The optics are
measured on the middles of four training scenes (`Dataset.measure_optics`).

Left out: near infrared as the band least like the others (over bare ground all bands correlate by 0.99), and
the correlation of neighbouring bands (a reversed order has the same neighbours). Not seen: a shift at full
resolution under half a px of PAN, which the usual grids have, or under one px outside training; offsets of single
windows outside the sample; land in two splits that was resampled, filtered or mirrored.
"""

from clippan_lib.audit.checks import Leak, offsets
from clippan_lib.audit.findings import Finding
from clippan_lib.audit.split import SplitAudit
from clippan_lib.audit.survey import Audit, audit

__all__ = ["Audit", "Finding", "Leak", "SplitAudit", "audit", "offsets"]
