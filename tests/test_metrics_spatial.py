"""Sharpness without a reference: slow oracles, hand-worked values, limits, gradients, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import firwin

from clippan_lib.metrics.spatial import (
    box_mean,
    d_rho,
    d_rho_map,
    d_s_f,
    d_s_f_map,
    d_s_r,
    d_s_r_map,
    detail_quality,
    ideal_lowpass,
    local_correlation,
    low_details,
)
from clippan_lib.mtf import decimate, filter_image, mtf_kernel

few = settings(max_examples=10, deadline=None)
GNYQ = (0.3, 0.28, 0.26)


def image(seed: int, c: int = 3, h: int = 8, w: int = 12, b: int = 2) -> torch.Tensor:
    return torch.rand(b, c, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_means(band: np.ndarray, half: int) -> np.ndarray:
    """Means from `half - 1` pixels before to `half` after, zeros outside."""
    padded, side = np.pad(band, half), 2 * half
    rows, columns = band.shape
    cells = [
        [padded[i + 1 : i + 1 + side, j + 1 : j + 1 + side].mean() for j in range(columns)]
        for i in range(rows)
    ]
    return np.array(cells)


@pytest.mark.parametrize("half", [1, 2, 3])
def test_local_correlation_equals_a_slow_oracle(half):
    first, second = image(0), image(1, c=1)
    found = local_correlation(first, second, half)
    for b in range(2):
        y = second[b, 0].numpy() - slow_means(second[b, 0].numpy(), half)
        for c in range(3):
            x = first[b, c].numpy() - slow_means(first[b, c].numpy(), half)
            moments = [slow_means(product, half) for product in (x * y, x * x, y * y)]
            np.testing.assert_allclose(found[b, c], moments[0] / np.sqrt(moments[1] * moments[2]), rtol=1e-9)


def test_an_odd_window_lies_about_its_pixel():
    spike = torch.zeros(1, 1, 5, 7)
    spike[..., 2, 3] = 9.0
    found = box_mean(spike, 3)
    assert torch.equal(found[0, 0] > 0, torch.nn.functional.pad(torch.ones(3, 3), (2, 2, 1, 1)) > 0)
    torch.testing.assert_close(found[..., 2, 3], torch.ones(1, 1))


def test_d_rho_worked_by_hand():
    # means of 2 x 2 windows from each pixel on: x - m is .75 at the first pixel and 0 elsewhere; y - m is .5, and
    # .75 below. So rho is .75*.5/(.75*sqrt(.25 + .5625)) at the first pixel, and 0 where no x varies
    x = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]], dtype=torch.float64)
    y = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]], dtype=torch.float64)
    rho = 0.5 / 0.8125**0.5
    expected = torch.tensor([[[[1 - rho, 1.0], [1.0, 1.0]]]], dtype=torch.float64)
    torch.testing.assert_close(d_rho_map(x, y, 2), expected)
    assert d_rho(x, y, 2).item() == pytest.approx(1 - rho / 4)


def test_d_rho_of_pan_itself_of_its_negative_and_of_nothing():
    pan = image(2, c=1, h=16, w=20)
    assert d_rho(torch.cat([pan, 3 * pan], 1), pan, 4).abs().max() < 1e-12
    torch.testing.assert_close(d_rho(-pan, pan, 4), torch.full((2,), 2.0, dtype=torch.float64))
    assert torch.equal(d_rho(torch.zeros_like(pan), pan, 4), torch.ones(2, dtype=torch.float64))
    # a flat area of float32 is flat, whatever rounding leaves of it; the border sees the zeros outside
    flat = torch.full((1, 1, 16, 20), 0.1)
    assert (d_rho_map(flat, pan[:1].float(), 4)[..., 4:-4, 4:-4] == 1).all()


@few
@given(st.floats(0.1, 10), st.floats(-5, 5), st.sampled_from([2, 3, 4]))
def test_gain_and_offset_of_a_band_do_not_move_d_rho_inside(gain, offset, ratio):
    hrms, pan = image(3, h=18, w=18), image(4, c=1, h=18, w=18)
    inside = (..., slice(6, -6), slice(6, -6))
    moved = d_rho_map(gain * hrms + offset, pan, ratio)[inside]
    torch.testing.assert_close(moved, d_rho_map(hrms, pan, ratio)[inside], rtol=1e-6, atol=1e-6)


def test_blur_and_noise_raise_d_rho():
    pan = image(5, c=1, h=64, w=64)
    hrms = torch.cat([pan, 0.5 * pan, 0.2 + 0.3 * pan], 1)
    blurred = filter_image(hrms, mtf_kernel(GNYQ, 4))
    scores = [d_rho(x, pan, 4) for x in (hrms, hrms + 0.1 * image(6, h=64, w=64), blurred)]
    assert (scores[0] < scores[1]).all() and (scores[1] < scores[2]).all()


def test_d_s_r_worked_by_hand():
    # a = (F.P)/(F.F) = 1; what is left is (0, 1, 0, 0), variance 1/4, and PAN's variance is 1/3
    bands = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).view(1, 1, 2, 2)
    pan = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64).view(1, 1, 2, 2)
    assert d_s_r(bands, pan).item() == pytest.approx(0.75)


def test_d_s_r_is_0_where_the_bands_explain_pan_even_if_two_are_alike():
    hrms = image(7)
    pan = (hrms * torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)[:, None, None]).sum(1, keepdim=True)
    assert d_s_r(hrms, pan).max() < 1e-12
    twice = torch.cat([hrms, hrms[:, :1]], 1)
    assert d_s_r(twice, pan).max() < 1e-10
    assert d_s_r(hrms.float(), pan.float()).max() < 1e-10
    # a PAN of one value: explained by a band of one value, or not at all
    flat = torch.full_like(pan, 0.1)
    assert d_s_r(torch.cat([hrms, flat], 1), flat).tolist() == [0, 0]
    assert d_s_r(hrms, flat.to(hrms)).tolist() == [1, 1] == d_s_r(hrms.float(), flat.float()).tolist()
    # no intercept: an offset is not explained away
    assert (d_s_r(hrms, pan + 1) > 1e-3).all()


def test_the_map_of_d_s_r_has_its_values_window_by_window():
    hrms, pan = image(8, h=20, w=24), image(9, c=1, h=20, w=24)
    found = d_s_r_map(hrms, pan, block=6)
    for b in range(2):
        bands, target = hrms[b].flatten(1).numpy(), pan[b].flatten().numpy()
        weights = np.linalg.lstsq(bands.T, target, rcond=None)[0]
        apart = (target - weights @ bands).reshape(20, 24)
        rows, columns = slice(7, 12), slice(3, 8)
        expected = apart[rows, columns].var() / pan[b, 0, rows, columns].numpy().var()
        assert found[b, 0, 9, 5].item() == pytest.approx(min(expected, 1), rel=1e-9)
    assert found.min() >= 0 and found.max() <= 1
    flat = torch.full_like(pan, 0.25)
    flat[..., :4] = pan[..., :4]
    assert (d_s_r_map(torch.cat([flat, flat], 1), flat, block=6) < 1e-12).all()


def test_the_ideal_low_pass_is_the_hamming_window_of_23_taps_and_keeps_the_mean():
    spike = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    spike[..., 20, 20] = 1
    taps = firwin(23, 1 / 4)
    np.testing.assert_allclose(ideal_lowpass(spike, 4)[0, 0, 20, 9:32], taps * taps[11], atol=1e-12)
    torch.testing.assert_close(ideal_lowpass(torch.full_like(spike, 0.3), 4), torch.full_like(spike, 0.3))


def test_the_quality_of_details_worked_by_hand():
    x = torch.tensor([[-3.0, -1.0], [1.0, 3.0]], dtype=torch.float64)
    flat = torch.zeros_like(x)
    # twice as strong: 2*2/(1 + 4); of the opposite sign: -1, counted as 0; nothing beside something: 0; both nothing: 1
    details = torch.stack([x, 2 * x, -x, flat])[None]
    assert detail_quality(details, x[None, None], 2)[0].tolist() == pytest.approx([1, 0.8, 0, 0])
    assert detail_quality(details, flat[None, None], 2)[0].tolist() == [0, 0, 0, 1]


def test_d_s_f_is_what_its_equation_says():
    hrms, pan, lrms = image(10, h=64, w=96), image(11, c=1, h=64, w=96), image(12, h=16, w=24)
    kernels = mtf_kernel(GNYQ, 4)
    seen = decimate(filter_image(pan, mtf_kernel((0.15,), 4)), 4)
    low = detail_quality(lrms - filter_image(lrms, kernels), seen - ideal_lowpass(seen, 4), 8)
    high = detail_quality(hrms - filter_image(hrms, kernels), pan - ideal_lowpass(pan, 4), 32)
    torch.testing.assert_close(d_s_f(hrms, lrms, pan, GNYQ, 0.15, 4), (high - low).abs().mean(1))
    # at a ratio that does not divide the block, blocks of LRMS are a little smaller, and its last pixels are left out
    odd = image(13, c=1, h=96, w=96)
    assert torch.equal(
        low_details(image(14, h=32, w=32), odd, GNYQ, 0.15, 3),
        low_details(image(14, h=32, w=32), odd, GNYQ, 0.15, 3, block=30),
    )


def test_the_map_of_d_s_f_has_a_value_for_each_block():
    hrms, pan, lrms = image(21, h=64, w=96), image(22, c=1, h=64, w=96), image(23, h=16, w=24)
    found = d_s_f_map(hrms, lrms, pan, GNYQ, 0.15, 4)
    assert found.shape == (2, 1, 2, 3)
    kernels = mtf_kernel(GNYQ, 4)
    seen = decimate(filter_image(pan, mtf_kernel((0.15,), 4)), 4)
    pairs = {
        32: (hrms - filter_image(hrms, kernels), pan - ideal_lowpass(pan, 4)),
        8: (lrms - filter_image(lrms, kernels), seen - ideal_lowpass(seen, 4)),
    }
    # the second block of the last row
    high, low = (
        detail_quality(*(part[..., -block:, block : 2 * block] for part in pair), block)
        for block, pair in pairs.items()
    )
    torch.testing.assert_close(found[:, 0, 1, 1], (high - low).abs().mean(1))
    assert (d_s_f(hrms, lrms, pan, GNYQ, 0.15, 4) <= found.mean((1, 2, 3)) + 1e-12).all()
    with pytest.raises(ValueError, match="block 32 is no multiple of ratio 3"):
        d_s_f_map(hrms, lrms, pan, GNYQ, 0.15, 3)


@pytest.mark.parametrize(
    "score",
    [
        lambda hrms, pan: d_rho(hrms, pan, 3),
        d_s_r,
        lambda hrms, pan: d_s_f(hrms, image(20, h=4, w=4, b=1), pan, GNYQ, 0.15, 2, block=4),
    ],
)
def test_gradients_are_right(score):
    hrms, pan = image(15, h=8, w=8, b=1).requires_grad_(), image(16, c=1, h=8, w=8, b=1)
    assert torch.autograd.gradcheck(lambda x: score(x, pan), hrms, nondet_tol=1e-12)


def test_a_flat_area_has_no_gradient_that_is_not_finite():
    hrms = torch.zeros(1, 3, 8, 8, requires_grad=True)
    d_rho(hrms, image(17, c=1, h=8, w=8, b=1).float(), 4).backward()
    assert torch.isfinite(hrms.grad).all()


def test_what_does_not_fit_is_refused():
    hrms, pan = image(18), image(19, c=1)
    for score in (lambda h, p: d_rho(h, p, 4), d_s_r, d_s_r_map):
        with pytest.raises(ValueError, match=r"pan \(2, 1, 8, 10\) must be one band of hrms' size"):
            score(hrms, pan[..., :10])
        with pytest.raises(ValueError, match="hrms has 1 values that are not finite"):
            score(hrms.index_put((torch.tensor(0),) * 4, torch.tensor(torch.nan).double()), pan)
    with pytest.raises(ValueError, match="half a window of 0 px"):
        local_correlation(hrms, pan, 0)
    with pytest.raises(ValueError, match="must be of one shape, or the second of one band"):
        local_correlation(hrms, hrms[:, :2], 2)
