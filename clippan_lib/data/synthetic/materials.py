"""Reflectance of the materials synthetic landscapes are made of, by wavelength."""

import numpy as np

from clippan_lib.sensors import Sensor

CENTRE_NM = {
    "coastal": 427.0, "blue": 478.0, "green": 546.0, "yellow": 608.0, "red": 659.0, "red_edge": 724.0,
    "red_edge1": 705.0, "red_edge2": 740.0,
    "nir": 833.0, "nir1": 833.0, "nir2": 949.0, "swir1": 1610.0, "swir2": 2200.0,
}  # fmt: skip
_GRID_NM = (425, 480, 545, 605, 660, 725, 833, 950, 1610, 2200)
_PERCENT = {  # mean reflectance at _GRID_NM, and the material that vigour 1 turns it into
    "grass": ("4 5 9 8 7 20 36 38 25 14", "stubble"),
    "crop": ("3 4 8 6 5 23 46 48 24 11", "stubble"),
    "rapeseed": ("5 6 20 22 18 30 44 45 28 15", "crop"),
    "stubble": ("9 12 19 24 28 31 35 37 42 32", "soil"),
    "soil": ("7 9 13 17 20 23 27 30 38 33", "dark_soil"),
    "dark_soil": ("5 6 8 10 12 14 17 19 22 18", "soil"),
    "tree": ("2 3 5 4 3 14 32 34 15 6", "stubble"),
    "conifer": ("2 2 4 3 2 10 22 23 10 4", "tree"),
    "water": ("5 5 5 3 2 2 1 1 0 0", "turbid"),
    "turbid": ("7 9 11 10 8 6 3 2 0 0", "soil"),
    "sand": ("14 19 27 33 37 39 42 44 50 46", "rock"),
    "rock": ("11 14 17 20 22 23 24 25 30 28", "dark_soil"),
    "asphalt": ("9 9 10 11 11 12 13 13 16 15", "concrete"),
    "concrete": ("20 23 26 28 30 31 33 33 38 34", "asphalt"),
    "gravel": ("14 17 21 23 25 26 28 28 32 29", "rock"),
    "paint": ("45 50 54 56 57 57 56 54 45 40", "concrete"),
    "roof_tile": ("7 8 12 21 27 30 33 34 38 33", "roof_grey"),
    "roof_grey": ("13 14 15 15 16 16 17 18 20 19", "roof_white"),
    "roof_white": ("60 70 77 79 80 80 78 74 60 50", "concrete"),
    "roof_blue": ("20 29 24 17 15 20 32 35 30 30", "roof_grey"),
    "car_red": ("6 6 6 14 38 44 46 47 40 38", "roof_grey"),
    "car_dark": ("4 4 4 4 4 5 6 6 6 6", "roof_grey"),
}
MATERIALS = tuple(_PERCENT)


def wavelengths(sensor: Sensor) -> np.ndarray:
    """Central wavelength of each band, in nanometres.

    Raises: ValueError on a band name without a known wavelength.
    """
    unknown = [band for band in sensor.bands if band not in CENTRE_NM]
    if unknown:
        raise ValueError(
            f"sensor {sensor.name}: no wavelength known for bands {unknown}; "
            f"synthetic scenes know {', '.join(CENTRE_NM)}"
        )
    return np.array([CENTRE_NM[band] for band in sensor.bands])


def spectra(nm: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Reflectances of all materials at the wavelengths `nm`, with a random smooth deviation per material.

    Args:
        nm: (k,) wavelengths in nanometres, 425 to 2200 (clamped outside).
        rng: one draw per call; the same state gives the same deviations whatever `nm` is.
    Returns: mean (materials, k) and change per unit of vigour (materials, k), both in reflectance.
    """
    table = {name: np.array(percent.split(), float) / 100 for name, (percent, _) in _PERCENT.items()}
    knots = rng.normal(1, 0.08, (len(table), 1)) + rng.normal(0, 0.05, (len(table), 4))
    log_nm, knot_nm = np.log(nm), np.log([425, 600, 900, 2200])
    deviation = np.stack([np.interp(log_nm, knot_nm, row) for row in knots])
    pure = {name: np.interp(nm, _GRID_NM, row) for name, row in table.items()}
    mean = np.stack(list(pure.values()))
    towards = np.stack([pure[target] for _, target in _PERCENT.values()])
    return mean * deviation, (towards - mean) * deviation
