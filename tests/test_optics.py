"""Gains and shifts that are known are found again, with their signs; what cannot be measured is refused or not good."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.io
import torch
import yaml

from clippan_lib.data.pair import open_pair
from clippan_lib.data.synthetic import render
from clippan_lib.mtf import degrade, filter_image, mtf_kernel
from clippan_lib.optics import BOUNDS, Optics, fit, measure, measure_optics
from clippan_lib.optics.peaks import STEPS, co_moments, explained, half_width, peak, vertex, without_each
from clippan_lib.optics.search import far_shift
from clippan_lib.sensors import get_sensor, read_sensor

WEIGHTS = (0.1, 0.35, 0.35, 0.2)
FOUND = Optics(
    gnyq=(0.3, 0.2),
    interval=((0.2, 0.4), (0.15, 0.25)),
    common=0.25,
    shift=(0.5, -1.0),
    shift_interval=((0.4, 0.6), (-1.1, -0.9)),
    r2=0.9,
    curve=((0.03, 0.5), (0.6, 0.7)),
    reach=4,
)


@cache
def land(seed=13, side=512):
    """Four bands at full size, and a PAN that they explain but for a little: as sharp as they are."""
    gt = render(seed, get_sensor("IKONOS"), side)["gt"][None]
    pan = torch.einsum("bchw,c->bhw", gt, torch.tensor(WEIGHTS))[:, None]
    return gt, pan + 0.2 * gt[:, :1] * gt[:, 3:]


def moved(image, down, right):
    """The content moved down and to the right by fractions of a pixel, around the borders."""
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64) for side in image.shape[-2:])
    turn = torch.exp(-2j * torch.pi * (down * rows[:, None] + right * columns))
    return torch.fft.ifft2(torch.fft.fft2(image.double()) * turn).real.to(image)


def noisy(image, deviation=0.005):
    return image + deviation * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))


def copies(gain, ratio, side):
    """Two bands that are PAN but for a factor and an offset."""
    pan = land()[1][..., :side, : side + 6 * ratio]
    low = degrade(pan, (gain,), ratio)
    return torch.cat([low, 0.3 * low + 0.2], 1), pan


@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("gain", [0.07, 0.15, 0.3, 0.5])
def test_where_the_bands_are_pan_degraded_the_gain_is_that_of_degrade(gain, ratio):
    lrms, pan = copies(gain, ratio, 96 * ratio)
    found = measure_optics(lrms, pan, ratio)
    # the kernel's response at Nyquist is 5 % lower than its gain: that would show
    np.testing.assert_allclose([*found.gnyq, found.common], gain, rtol=0.01)
    np.testing.assert_allclose(found.shift, 0, atol=0.01)
    assert found.r2 > 0.9999  # at the gain found, not at the nearest of the curve
    assert found.good


@pytest.mark.parametrize(
    ("gains", "shift", "ratio", "seed"),
    [
        ((0.07, 0.15, 0.30, 0.50), (0.0, 0.0), 4, 13),
        ((0.50, 0.30, 0.15, 0.07), (0.5, -0.5), 4, 11),
        ((0.34, 0.32, 0.30, 0.22), (-1.0, 2.0), 4, 14),
        ((0.34, 0.32, 0.30, 0.22), (1.25, 0.75), 2, 13),
        ((0.08, 0.08, 0.07, 0.07), (-1.75, 0.25), 4, 13),
    ],
)
def test_gains_of_their_own_and_the_shift_are_found_under_noise(gains, shift, ratio, seed):
    gt, pan = land(seed)
    found = measure_optics(noisy(degrade(gt, gains, ratio)), noisy(moved(pan, *shift)), ratio)
    np.testing.assert_allclose(found.shift, shift, atol=0.1)
    np.testing.assert_allclose(np.log(found.gnyq), np.log(gains), atol=0.25)
    for truth, (low, high) in zip((*gains, *shift), (*found.interval, *found.shift_interval), strict=True):
        assert low <= truth <= high
    assert found.good


def test_where_pan_lies_too_far_down_and_left_the_shift_is_positive_and_negative():
    gt, pan = land()
    lrms = degrade(gt, (0.3,) * 4, 4)
    found = measure_optics(lrms, pan.roll((3, -2), (2, 3)), 4)
    np.testing.assert_allclose(found.shift, (3, -2), atol=0.05)
    swapped = measure_optics(lrms.mT, pan.roll((3, -2), (2, 3)).mT, 4)
    np.testing.assert_allclose(swapped.shift, found.shift[::-1], atol=0.01)


def test_a_shift_beyond_the_reach_is_not_good_and_found_by_a_larger_reach():
    gt, pan = land()
    lrms, pan = degrade(gt, (0.3,) * 4, 4), moved(pan, -6.5, 0)
    assert not measure_optics(lrms, pan, 4).good
    found = measure_optics(lrms, pan, 4, reach=8)
    np.testing.assert_allclose(found.shift, (-6.5, 0), atol=0.1)
    np.testing.assert_allclose(found.common, 0.3, rtol=0.05)


def test_gains_are_relative_to_pan_lower_where_it_was_sharpened_higher_where_it_is_soft():
    gt, pan = land()
    lrms = degrade(gt, (0.3,) * 4, 4)
    soft = filter_image(pan, mtf_kernel((0.5,), 4))  # .5 at Nyquist: .3 / .5 is what PAN still lacks
    as_it_is, softer, sharper = (
        measure_optics(lrms, each, 4).common for each in (pan, soft, 1.5 * pan - 0.5 * soft)
    )
    assert sharper < 0.9 * as_it_is
    assert softer == pytest.approx(0.6, rel=0.05)


def test_a_gain_and_an_offset_of_pan_and_of_the_bands_change_nothing():
    gt, pan = land()
    lrms = degrade(gt, (0.34, 0.32, 0.30, 0.22), 4)
    found = measure_optics(lrms, pan, 4)
    other = measure_optics(lrms * torch.tensor([0.2, 1.0, 0.5, 0.7])[:, None, None] + 0.1, 0.3 * pan + 0.4, 4)
    np.testing.assert_allclose(other.gnyq, found.gnyq, rtol=1e-3)
    np.testing.assert_allclose(other.shift, found.shift, atol=1e-3)


def test_bands_in_another_order_and_twice_the_same_window_give_the_same_gains():
    gt, pan = land()
    lrms = degrade(gt, (0.34, 0.32, 0.30, 0.22), 4)
    found = measure_optics(lrms, pan, 4)
    reversed_ = measure_optics(lrms.flip(1), pan, 4)
    np.testing.assert_allclose(reversed_.gnyq[::-1], found.gnyq, rtol=1e-3)
    twice = measure_optics(torch.cat([lrms, lrms]), torch.cat([pan, pan]), 4)
    assert twice.common == pytest.approx(found.common, rel=1e-4)
    assert twice.r2 == pytest.approx(found.r2, rel=1e-4)


def test_a_band_that_is_a_sum_of_others_does_no_harm():
    gt, pan = land()
    lrms = degrade(gt, (0.3,) * 4, 4)
    found = measure_optics(torch.cat([lrms, lrms[:, :2].mean(1, keepdim=True)], 1), pan, 4)
    assert found.r2 == pytest.approx(measure_optics(lrms, pan, 4).r2, abs=1e-6)
    assert found.good


def test_two_places_are_not_good():
    gt, pan = land()
    found = measure_optics(degrade(gt, (0.3,) * 4, 4), pan.flip(-1), 4)
    assert found.r2 < 0.1
    assert not found.good


def test_what_is_not_valid_is_not_looked_at():
    gt, pan = land()
    lrms, valid = degrade(gt, (0.3,) * 4, 4), torch.ones(1, 1, 128, 128, dtype=torch.bool)
    valid[..., 40:70, 90:] = False
    spoilt = torch.full_like(pan, torch.nan)
    holes = valid.repeat_interleave(4, -1).repeat_interleave(4, -2)
    found = measure_optics(lrms.masked_fill(~valid, 7.0), torch.where(holes, pan, spoilt), 4, valid)
    other = measure_optics(lrms.masked_fill(~valid, -3.0), torch.where(holes, pan, -spoilt), 4, valid)
    np.testing.assert_allclose(found.gnyq, measure_optics(lrms, pan, 4).gnyq, rtol=0.03)
    assert found == other
    assert found.good


def test_the_curve_ends_at_the_bounds_and_is_highest_near_the_common_gain():
    found = measure_optics(*copies(0.2, 4, 384), 4)
    gains, shares = np.transpose(found.curve)
    np.testing.assert_allclose(gains[[0, -1]], BOUNDS)
    best = shares.argmax()
    assert gains[best - 1] < found.common < gains[best + 1]
    assert shares[best] <= found.r2 <= 1
    assert (np.diff(shares[: best + 1]) > 0).all()
    assert (np.diff(shares[best:]) < 0).all()


@pytest.mark.parametrize(
    "change",
    [
        {"r2": 0.69},
        {"common": 0.03},
        {"common": 0.6},
        {"interval": ((0.2, 0.4), (0.1, 0.31))},
        {"shift": (0.5, -4.1)},
        {"interval": ((np.nan, np.nan), (0.15, 0.25))},
    ],
)
def test_a_fit_is_good_until_one_of_its_numbers_is_not(change):
    assert FOUND.good
    assert not replace(FOUND, **change).good


def test_windows_are_those_that_hold_data_evenly_spread():
    valid = torch.ones(2, 1, 50, 70, dtype=torch.bool)
    assert measure._windows(valid, 7, 32) == ([(0, 0, 0), (1, 0, 0)], (50, 70))  # all fits 7 * 32 * 32
    # 1 x 3 windows of 20 px in rows of 30: the first three columns of the first image are lost
    valid = torch.ones(2, 1, 30, 70, dtype=torch.bool)
    valid[0, ..., :45] = False
    assert measure._windows(valid, 2, 20) == ([(0, 0, 50), (1, 0, 50)], (20, 20))
    assert measure._windows(valid, 3, 20) == ([(0, 0, 50), (1, 0, 0), (1, 0, 50)], (20, 20))


def test_a_scene_of_many_pixels_is_measured_in_windows():
    gt, pan = land()
    lrms = degrade(gt, (0.3,) * 4, 4)
    found = measure_optics(lrms, pan, 4, windows=4, side=50)
    assert found.common == pytest.approx(0.3, rel=0.06)
    assert found.common != measure_optics(lrms, pan, 4).common


def test_pan_is_degraded_by_folding_its_spectrum_as_the_imaging_model_degrades_it():
    gt, pan = (image[..., :212, :260] for image in land())
    lrms = degrade(gt, (0.3,) * 4, 4)
    prepared = fit.prepare(lrms, pan, torch.ones_like(lrms[:, :1], dtype=torch.bool), 4, 4)
    for shift in ((0, 0), (1, -3)):
        seen = fit.degraded(prepared, fit._filtered(prepared, 0.07), np.array(shift, dtype=float))[
            ..., :53, :65
        ]
        expected = degrade((pan - pan.mean()).roll((-shift[0], -shift[1]), (2, 3)), (0.07,), 4)
        torch.testing.assert_close(seen[..., 5:-5, 5:-5], expected[..., 5:-5, 5:-5], atol=2e-5, rtol=0)


def test_the_peak_of_a_curve_over_gains_lies_between_them_or_at_a_bound():
    gains = np.geomspace(0.03, 0.6, 13)
    curves = -((np.log(gains)[:, None] - np.log([0.1, 0.22, 0.9, 0.01])) ** 2)
    at, height = peak(gains, curves + 5)
    np.testing.assert_allclose(at, [0.1, 0.22, 0.6, 0.03], rtol=1e-6)
    np.testing.assert_allclose(height, [5, 5, 5 - np.log(1.5) ** 2, 5 - np.log(3) ** 2], atol=1e-4)


def test_the_vertex_of_a_quadratic_is_found_and_is_at_most_a_pixel_away():
    down, right = STEPS.T
    bowl = -2 * (down - 0.3) ** 2 - (right + 0.1) ** 2 + 0.5 * (down - 0.3) * (right + 0.1)
    far = -((down - 1.7) ** 2) - right**2
    saddle = (down - 0.1) ** 2 - right**2  # highest at the step (-.5, 0)
    expected = [(0.3, -0.1), (1, 0), (-0.5, 0)]
    np.testing.assert_allclose(vertex(np.stack([bowl, far, saddle], 1)), expected, atol=1e-12)


def test_r2_is_that_of_a_regression_and_a_sum_without_a_block_is_that_of_the_others():
    x, y = np.array([1.0, 2, 4, 7, 3]), np.array([2.0, 1, 5, 6, 4])
    features = torch.from_numpy(np.stack([np.ones(5), x, y]))
    assert explained(features @ features.T) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    np.testing.assert_allclose(co_moments(features @ features.T), 4 * np.cov(x, y))
    blocks = torch.stack([features[:, :2] @ features[:, :2].T, features[:, 2:] @ features[:, 2:].T])[None]
    torch.testing.assert_close(without_each(blocks), blocks.flip(1))


def test_the_jackknife_of_a_mean_is_its_interval():
    values = np.array([3.0, 5, 4, 8, 1])
    left_out = (values.sum() - values) / 4
    # t of 4 degrees of freedom, 2.776, times the standard error
    assert half_width(left_out) == pytest.approx(2.7764 * values.std(ddof=1) / np.sqrt(5), rel=1e-4)


def test_a_pair_that_cannot_be_measured_is_refused_with_what_was_seen():
    gt, pan = (image[..., :160, :192] for image in land())
    lrms = degrade(gt, (0.3,) * 4, 4)
    valid = torch.ones(1, 1, 40, 48, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"expected ratio 2, but lrms .* have 4"):
        measure_optics(lrms, pan, 2)
    with pytest.raises(
        ValueError, match=r"lrms \(1, 4, 20, 24\) has \d+ valid pixels.*400 in 4.*larger part"
    ):
        measure_optics(lrms[..., :20, :24], pan[..., :80, :96], 4)
    with pytest.raises(ValueError, match="has 0 valid pixels, in 0 blocks.*larger part"):
        measure_optics(lrms, pan, 4, torch.zeros_like(valid))
    with pytest.raises(ValueError, match="pan is constant: .* variance of 0; .*another part"):
        measure_optics(lrms, torch.full_like(pan, 0.3), 4)
    flat = lrms.clone()
    flat[:, 2] = 0.7
    with pytest.raises(ValueError, match=r"band 2 of lrms \(from 0\) is constant"):
        measure_optics(flat, pan, 4)
    flat[:, 1, 20, 20] = torch.nan
    with pytest.raises(ValueError, match="lrms holds NaN or infinite values; mark them"):
        measure_optics(flat, pan, 4)
    with pytest.raises(ValueError, match="pan holds NaN or infinite values"):
        measure_optics(lrms, pan / 0, 4)
    with pytest.raises(ValueError, match=r"valid \(1, 1, 40, 47\) must be \(1, 1, 40, 48\)"):
        measure_optics(lrms, pan, 4, valid[..., 1:])
    with pytest.raises(ValueError, match="reach 0, windows 4 and side 256 at least 1"):
        measure_optics(lrms, pan, 4, reach=0)


def test_a_device_makes_no_difference(device):
    lrms, pan = copies(0.3, 4, 200)
    found = measure_optics(lrms.to(device), pan.to(device), 4)
    np.testing.assert_allclose(found.gnyq, 0.3, rtol=0.01)


def delivered(folder, ms="ms.tif"):
    """A real scene's pair, in [0, 1]."""
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text(encoding="utf-8"))
    row = manifest["sensor"]
    sensor = get_sensor(row) if isinstance(row, str) else read_sensor(row)
    bands = manifest["source"].get("bands")
    window = open_pair(folder / ms, folder / "pan.tif", bands=bands, sensor=sensor).read(
        slice(None), slice(None)
    )
    return window.lrms / sensor.max_value, window.pan / sensor.max_value


def stored(shared, name):
    images = scipy.io.loadmat(shared / f"data/{name}.mat")
    return (
        torch.from_numpy(np.atleast_3d(images[key]).astype(np.float32) / 2047).permute(2, 0, 1)[None]
        for key in ("I_MS", "I_PAN")
    )


@pytest.mark.parametrize(
    ("name", "common", "shift"), [("imgIK", 0.50, (0.03, -0.15)), ("imgWV2", 0.38, (-0.7, -0.5))]
)
def test_ikonos_is_sharper_than_its_table_says_and_worldview_2_is_not(name, common, shift, shared):
    found = measure_optics(*stored(shared, name), 4)
    assert found.common == pytest.approx(common, abs=0.02)
    np.testing.assert_allclose(found.shift, shift, atol=0.1)
    assert found.good


@pytest.mark.parametrize(
    ("name", "ms", "common", "shift", "r2"),
    [
        ("phr_urban", "ms.tif", 0.075, (0, 0), 0.953),
        ("phr_urban", "ms_as_found.tif", 0.075, (-2.4, -2.25), 0.953),
        ("spot6_cropland", "ms.tif", 0.05, (0, 0), 0.964),
        ("qb_fields", "ms.tif", 0.20, (-0.5, -0.7), 0.964),
    ],
)
def test_products_are_softer_than_the_default_and_lie_where_they_were_found_to_lie(
    name, ms, common, shift, r2, shared
):
    found = measure_optics(*delivered(shared / "scenes" / name, ms), 4)
    assert found.common == pytest.approx(common, rel=0.1)
    np.testing.assert_allclose(found.shift, shift, atol=0.15)
    assert found.r2 == pytest.approx(r2, abs=0.003)
    assert found.good


def test_a_pair_of_two_places_as_delivered_is_not_good(shared):
    folder = shared / "scenes/l9_toa_rgb"
    window = open_pair(folder / "ms.tif", folder / "pan.tif").read(slice(None), slice(None))
    found = measure_optics(window.lrms, window.pan, 2)
    assert found.r2 < 0.1
    assert not found.good


@pytest.mark.parametrize("off", [(20, -9), (-31, 14), (0, 40)])
def test_a_wide_search_finds_a_pan_that_lies_far_off(off):
    gt, pan = land()
    lrms = degrade(gt, (0.25,) * 4, 4)
    (top, left), (low, right) = ([max(0, sign * by) for by in off] for sign in (-1, 1))
    height, width = (128 - abs(by) for by in off)
    # what MS shows at k, PAN shows at 4 * (k + off)
    pan = pan[..., 4 * top : 4 * (top + height), 4 * left : 4 * (left + width)]
    lrms = lrms[..., low : low + height, right : right + width]
    found = measure_optics(lrms, pan, 4, wide=True)
    assert found.shift == pytest.approx([4 * by for by in off], abs=0.2) and found.good
    np.testing.assert_allclose(found.gnyq, 0.25, rtol=0.2)
    assert measure_optics(lrms, pan, 4).r2 < 0.3


def test_a_wide_search_of_two_places_finds_nothing():
    gt, pan = land()
    found = measure_optics(degrade(gt, (0.3,) * 4, 4), pan.flip(-1), 4, wide=True)
    assert found.r2 < 0.3 and not found.good


def test_the_far_shift_of_an_image_that_is_its_own_band_explains_all():
    image = torch.rand(1, 1, 40, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low = degrade(image.repeat_interleave(3, -1).repeat_interleave(3, -2), (0.2,), 3)
    valid = torch.ones_like(low, dtype=torch.bool)
    fine = image.repeat_interleave(3, -1).repeat_interleave(3, -2)
    assert far_shift(low, fine, valid, 3) == ((0, 0), pytest.approx(1, abs=1e-6))
    moved_by, explained = far_shift(low[..., 5:, :-7], fine[..., : -5 * 3, 7 * 3 :], valid[..., 5:, :-7], 3)
    assert moved_by == (5, -7) and explained > 0.9
