"""How ratio methods divide by an image: exactly where it is bright, within bounds and smoothly where it is dark."""

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import assert_same, draw

from clippan_lib import mtf
from clippan_lib.fusion import get_method
from clippan_lib.fusion.classical.statistics import Spread, modulation
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")
RATIO = ("brovey", "bt_h", "pracs", "mtf_glp_hpm", "mtf_glp_hpm_r", "awlp", "fe_hpm")
ratio_methods = pytest.mark.parametrize("name", RATIO)


def row(*values):
    """Values as an image of one row."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def of_images(band, divisor):
    """With the statistics of the images themselves."""
    found = Spread(band=band, divisor=divisor).tally()
    return modulation(
        band, divisor, found.deviation("band"), found.mean("divisor"), found.deviation("divisor")
    )


def land(height, width, seed=0):
    """Twelve waves, the long ones high: a field of mean about 0 and deviation about 1."""
    rows, columns = torch.arange(height)[:, None].double(), torch.arange(width).double()
    turns = torch.rand(12, 3, generator=torch.Generator().manual_seed(seed)).double()
    return sum(
        ((1 + k) * (0.06 * (a - 0.5) * rows + 0.06 * (b - 0.5) * columns) + 6.3 * c).sin() / (1 + k) ** 0.5
        for k, (a, b, c) in enumerate(turns)
    )


@cache
def lake():
    """Reflectance of land, and of a lake that is about 0 and in part negative: LRMS, PAN, and the truth."""
    common = land(160, 192)
    truth = torch.stack([0.15 + 0.01 * k + 0.02 * common + 0.01 * land(160, 192, 1 + k) for k in range(4)])
    water = land(160, 192, 9) > 0.5
    truth = torch.where(water, 0.002 + 0.1 * (truth - 0.16), truth)[None]
    assert 0.01 < (truth < 0).double().mean() < 0.2
    return mtf.degrade(truth, QB.gnyq, 4), truth.mean(1, keepdim=True), truth


def test_four_pixels_by_hand():
    # gain 2; the divisor's root mean square is 12, so the least divisor is 1
    found = modulation(
        row(9, 2, 3, 50), row(4, 0.5, 0, -10), *(row(value) for value in (4.0, math.sqrt(140), 2.0))
    )
    # band/divisor; lifted by 0.5 and by 1, as haze of 1 and of 2 in the band; the limit of (1 + 5) gains
    assert_same(found, row(9 / 4, 3 / 1, 5 / 1, 12))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2, 2), st.floats(0.01, 100))
def test_it_is_the_quotient_on_a_bright_divisor_and_within_five_gains_of_the_gain_on_any(seed, level, unit):
    band, divisor = unit * (level + draw(2, 3, 9, 11, seed=seed)), level + draw(2, 1, 9, 11, seed=seed + 1)
    found, moments = of_images(band, divisor), Spread(band=band, divisor=divisor).tally()
    gain = moments.deviation("band") / moments.deviation("divisor")
    assert ((found - gain).abs() <= 5 * gain * (1 + 1e-9)).all()
    least = divisor.square().mean((2, 3), keepdim=True).sqrt() / 12
    bright = (divisor >= least) & ((band - gain * divisor).abs() <= 5 * gain * divisor)
    assert bright.any() and torch.equal(found[bright], (band / divisor)[bright])


def test_it_has_no_step_where_the_divisor_passes_the_least_or_0():
    divisor = torch.linspace(-1, 3, 4001, dtype=torch.float64).view(1, 1, 1, -1)
    for band in (divisor + 0.3, torch.full_like(divisor, 2.0), -divisor):
        steps = of_images(band, divisor).diff().abs()
        assert steps.max() < 0.2  # of band / divisor some are 1000 and more


def test_a_divisor_that_is_0_all_over_gives_0_and_a_constant_one_the_quotient():
    band, dark = draw(1, 2, 5, 7), torch.zeros(1, 1, 5, 7, dtype=torch.float64)
    assert torch.equal(of_images(band, dark), torch.zeros_like(band))
    assert torch.equal(of_images(band, dark + 3), band / 3)


def test_gradients_are_finite_where_the_divisor_is_0():
    band, divisor = draw(1, 2, 5, 7), draw(1, 1, 5, 7, seed=1)
    divisor[..., :2] = 0
    band, divisor = band.requires_grad_(), divisor.requires_grad_()
    of_images(band, divisor).square().sum().backward()
    assert band.grad.isfinite().all() and divisor.grad.isfinite().all()


@ratio_methods
@torch.inference_mode()
def test_a_lake_of_negative_reflectance_keeps_every_pixel_near_the_truth(name):
    lrms, pan, truth = lake()
    lowest, highest = truth.min(), truth.max()
    fused = get_method(name, QB, 4)(lrms, pan)
    assert fused.min() > 2 * lowest - highest and fused.max() < 2 * highest - lowest
    plain = get_method("exp", QB, 4)(lrms, pan)
    assert (fused - truth).square().mean() < 0.6 * (plain - truth).square().mean()


@ratio_methods
@pytest.mark.parametrize("unit", [0.01, 10000.0])
@torch.inference_mode()
def test_the_unit_of_a_dark_scene_does_not_matter(name, unit):
    lrms, pan, _ = lake()
    method = get_method(name, QB, 4)
    assert_same(method(unit * lrms, unit * pan) / unit, method(lrms, pan))


@ratio_methods
@torch.inference_mode()
def test_a_dark_scene_in_single_precision_is_that_in_double(name):
    lrms, pan, _ = lake()
    method = get_method(name, QB, 4)
    assert_same(method(lrms.float(), pan.float()), method(lrms, pan), atol=1e-5)


@ratio_methods
@torch.inference_mode()
def test_a_dark_scene_is_fused_in_a_batch_as_alone(name):
    (lrms, pan, _), method = lake(), get_method(name, QB, 4)
    both = method(torch.cat([lrms, 0.5 + lrms]), torch.cat([pan, 0.5 + pan]))
    assert_same(both[:1], method(lrms, pan))


@pytest.mark.parametrize("name", [name for name in RATIO if name != "pracs"])
@torch.inference_mode()
def test_images_of_zeros_and_of_negative_values_give_finite_images(name):
    lrms, pan, _ = lake()
    method = get_method(name, QB, 4)
    for low, high in (
        (0 * lrms, pan),
        (lrms, 0 * pan),
        (-lrms, -pan),
        (lrms - lrms.mean(), pan - pan.mean()),
    ):
        fused = method(low, high)
        assert fused.isfinite().all() and fused.abs().max() < 10 * lrms.abs().max()
