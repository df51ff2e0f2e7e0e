"""An LRMS and a PAN image that belong together pass; all others are refused by name."""

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib.shapes import check_pair, ratio_of


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 6))
def test_the_ratio_is_read_from_the_shapes(h, w, ratio):
    lrms, pan = torch.zeros(2, 4, h, w), torch.zeros(2, 1, ratio * h, ratio * w)
    assert ratio_of(lrms, pan) == ratio
    check_pair(lrms, pan, ratio)


@pytest.mark.parametrize("side", [(20, 27), (21, 28), (20, 21), (5, 7), (4, 4)])
def test_sides_without_one_common_ratio_are_refused_with_both_shapes(side):
    with pytest.raises(ValueError, match=rf"\(2, 4, 5, 7\) and pan \(2, 1, {side[0]}, {side[1]}\)"):
        ratio_of(torch.zeros(2, 4, 5, 7), torch.zeros(2, 1, *side))


def test_another_ratio_than_expected_is_refused_with_both_ratios():
    with pytest.raises(ValueError, match="expected ratio 4, .* have 2"):
        check_pair(torch.zeros(1, 4, 5, 7), torch.zeros(1, 1, 10, 14), 4)


def test_unequal_batches_are_refused_without_the_type_checker_too():
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match="the batches must be equal"):
            ratio_of(torch.zeros(2, 4, 5, 7), torch.zeros(1, 1, 20, 28))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_unequal_batches_and_a_pan_of_two_bands_are_refused_by_the_type_checker():
    for pan in (torch.zeros(1, 1, 20, 28), torch.zeros(2, 2, 20, 28)):
        with pytest.raises(jaxtyping.TypeCheckError):
            ratio_of(torch.zeros(2, 4, 5, 7), pan)
