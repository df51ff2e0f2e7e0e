"""Sentences say what the numbers say."""

import math

import pandas as pd
import pytest

from clippan_lib.figures.prose import best_of, change, difference, listed, said


@pytest.mark.parametrize(
    "numbers, expected",
    [
        ((0.1, 0.3), "rises from 0.100 to 0.300"),
        ((0.3, 0.1), "falls from 0.300 to 0.100"),
        ((0.1, 0.1004), "stays at 0.100"),
    ],
)
def test_a_change_is_told_as_far_as_the_digits_tell_it(numbers, expected):
    assert change(*numbers) == expected


@pytest.mark.parametrize(
    "mean, half, expected",
    [
        (0.1, 0.05, "+0.100 ± 0.050 dB, surely above 0"),
        (-0.1, 0.05, "-0.100 ± 0.050 dB, surely below 0"),
        (0.1, 0.2, "+0.100 ± 0.200 dB, which may be chance"),
        (0.1, math.nan, "+0.100 dB, which may be chance"),
    ],
)
def test_a_difference_is_sure_only_where_its_interval_leaves_zero(mean, half, expected):
    assert difference(mean, half, "dB") == expected


def test_names_are_listed():
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert said("One.", "", "Two.").data == "One. Two."


def test_the_best_of_each_column_is_told_as_the_metric_wants_it():
    scores = pd.DataFrame({"MPSNR": [30.0, 31.0], "SAM": [2.0, 2.0], "QNR": [math.nan] * 2}, index=["a", "b"])
    assert best_of(scores, {"MPSNR": "high", "SAM": "low", "QNR": "high"}) == {"MPSNR": "b", "SAM": "a"}
