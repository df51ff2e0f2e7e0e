"""MTF gains, and the shift between MS and PAN, measured from a pair."""

from clippan_lib.optics.measure import BOUNDS, Optics, measure_optics

__all__ = ["BOUNDS", "Optics", "measure_optics"]
