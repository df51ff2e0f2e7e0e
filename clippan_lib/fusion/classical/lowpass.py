"""Low-pass filters that belong to methods instead of sensors."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=32)
def wavelet_smoothing(length: int, ratio: int) -> np.ndarray:
    """(length, length) weights of the toolbox's LPfilter along one axis.

    Its wavelet code filters with [1 4 6 4 1]/16 without holes, once per level on the mirrored signal going
    down and once per level on what that left coming up.
    """
    levels = int(np.ceil(np.log2(ratio)))
    matrix = np.eye(length)
    for margin in (4,) * levels + (0,) * levels:
        padded = np.pad(matrix, ((margin, margin), (0, 0)), mode="symmetric")
        rows = len(padded) - 4
        matrix = sum(tap * padded[start : start + rows] for start, tap in enumerate((1, 4, 6, 4, 1))) / 16
    return matrix


def wavelet_lowpass(length: int, ratio: int) -> np.ndarray:
    """(length/ratio, length) weights of the toolbox's LPfilterPlusDec: `wavelet_smoothing`, decimated."""
    return wavelet_smoothing(length, ratio)[ratio // 2 :: ratio]


def wavelet_reach(ratio: int) -> int:
    """How far `wavelet_smoothing` looks, in PAN px: 2 pixels a level, going down and coming up."""
    return 4 * int(np.ceil(np.log2(ratio)))
