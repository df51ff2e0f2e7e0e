"""Whole scenes fused tile by tile, by any method, into a GeoTIFF."""

from clippan_lib.sharpening.job import Job, plan_job
from clippan_lib.sharpening.passes import sharpen

__all__ = ["Job", "plan_job", "sharpen"]
