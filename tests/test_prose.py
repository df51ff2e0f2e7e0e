"""Sentences say what the numbers say."""

import math

import pandas as pd
import pytest

from clippan_lib.figures.prose import best_of, best_of_groups, change, difference, in_order, listed, said


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


SCORES = pd.Series({"a": 0.8, "b, blurred": 0.9, "c": 0.8001, "d": math.nan})


def test_names_stand_in_the_order_of_their_numbers_and_equals_as_printed_together():
    assert in_order(SCORES, "high", 3, "dB") == "*b, blurred* 0.900 dB, *c* and *a* 0.800 dB"
    assert in_order(pd.Series({"the truth": math.inf, "a": 30.0}), "high", 1) == "*the truth* ∞, *a* 30.0"
    assert in_order(SCORES, "low", 4) == "*a* 0.8000, *c* 0.8001, *b, blurred* 0.9000"


def test_the_best_of_each_group_is_named_and_the_best_group_first():
    assert (best_of(SCORES, "high"), best_of(SCORES[["d"]], "high")) == ("*b, blurred* 0.900", "none")
    groups = {"one": ["a", "c"], "other": ["b, blurred"], "empty": [], "unknown": ["d"]}
    assert best_of_groups(SCORES, groups, "high") == "other: *b, blurred* 0.900; one: *c* and *a* 0.800"
    assert best_of_groups(SCORES, groups, "low", 4) == "one: *a* 0.8000; other: *b, blurred* 0.9000"
