"""MTF gains, and the shift between MS and PAN, measured from a pair; power spectra."""

from clippan_lib.optics.measure import BOUNDS, Optics, measure_optics
from clippan_lib.optics.spectra import Spectrum, power_spectrum

__all__ = ["BOUNDS", "Optics", "Spectrum", "measure_optics", "power_spectrum"]
