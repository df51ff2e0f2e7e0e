"""Intervals over seeds against textbook values."""

import numpy as np
import pytest

from clippan_lib.evaluation.intervals import confidence_interval


def test_the_interval_of_one_to_five_is_the_textbooks():
    mean, half = confidence_interval(np.arange(1.0, 6.0))
    assert mean == 3 and half == pytest.approx(2.7764451 * 2.5**0.5 / 5**0.5, rel=1e-7)


def test_one_seed_has_a_mean_and_no_interval():
    mean, half = confidence_interval(np.array([0.3]))
    assert mean == 0.3 and np.isnan(half)


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_an_interval_of_nothing_or_nan_is_refused(values):
    with pytest.raises(ValueError, match="the same seeds in both runs"):
        confidence_interval(np.array(values))
