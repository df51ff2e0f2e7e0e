"""What a handful of seeds allows to say."""

import numpy as np
from scipy import stats


def confidence_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Mean and half width of Student's t interval of the mean.

    Args:
        values: (n,), one per seed.
        level: level of confidence, between 0 and 1.
    Returns: mean, half width; the half width is NaN for fewer than two values.
    Raises: ValueError on no values or on NaN.
    """
    if values.size == 0 or np.isnan(values).any():
        raise ValueError(f"values {values}: give at least one and no NaN (are the same seeds in both runs?)")
    n = values.size
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(values.mean()), float(half)


def difference_text(mean: float, half: float, digits: int = 4) -> str:
    """A mean difference with its sign and the half width of its interval, which one seed (NaN) does not have."""
    return f"{mean:+.{digits}f}" + ("" if np.isnan(half) else f" ± {half:.{digits}f}")
