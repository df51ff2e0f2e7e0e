"""Filter estimation: the toolbox's filters and images, a blur that is found again, and the estimate's parts."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib import mtf
from clippan_lib.fusion.classical import fe_hpm, filter_estimation
from clippan_lib.fusion.classical.filter_estimation import edge_taper, estimate_psf


def assert_same(actual, expected, atol=1e-9):
    np.testing.assert_allclose(actual, expected, atol=atol)


def gaussian(sigma, taps=13):
    """A blur of the given width, largest in the middle, in float64."""
    axis = torch.arange(taps, dtype=torch.float64) - taps // 2
    profile = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = profile[:, None] * profile
    return kernel / kernel.sum()


def blurred_pair(sigma=1.5, seed=0):
    """A rough PAN, and three bands that are its blur in units of their own."""
    draw = torch.Generator().manual_seed(seed)
    pan = torch.rand(1, 1, 56, 72, generator=draw, dtype=torch.float64)
    low = mtf.filter_image(pan, gaussian(sigma)[None])
    return torch.cat([low, 2 * low + 1, 0.5 * low], 1), pan


def quad(*values):
    """Four values per band as 2 x 2 pixels."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, len(values), 2, 2)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_the_blur_of_the_bands_is_found_again(sigma):
    lms, pan = blurred_pair(sigma)
    psf = estimate_psf(lms, pan, 4, taps=13)
    # the tapered border is no blur; a sigma of half a pixel more or less differs by a third of the peak
    assert_same(psf[0], gaussian(sigma), atol=0.1 * gaussian(sigma).max())


def test_a_filter_is_positive_sums_to_1_and_peaks_in_the_middle_of_a_shifted_pair():
    lms, pan = blurred_pair()
    psf = estimate_psf(torch.cat([lms, lms.roll((3, -2), (2, 3))]), torch.cat([pan, pan]), 4, taps=13)
    assert psf.dtype == torch.float64
    assert (psf >= 0).all()
    assert_same(psf.sum((1, 2)), [1, 1])
    assert (psf.flatten(1).argmax(1) == 6 * 13 + 6).all()
    assert_same(psf[1], psf[0], atol=0.1 * psf.max())


def test_each_pair_of_a_batch_gets_its_own_filter():
    (lms, pan), (other_lms, other_pan) = blurred_pair(1.0), blurred_pair(2.0, seed=1)
    both = estimate_psf(torch.cat([lms, other_lms]), torch.cat([pan, other_pan]), 4, taps=13)
    assert_same(both[:1], estimate_psf(lms, pan, 4, taps=13))
    assert_same(both[1:], estimate_psf(other_lms, other_pan, 4, taps=13))
    assert both[0].max() > 2 * both[1].max()


def test_a_pan_without_structure_yields_the_identity():
    lms, pan = blurred_pair()
    identity = torch.zeros(1, 5, 5).double()
    identity[0, 2, 2] = 1
    assert torch.equal(estimate_psf(lms, torch.full_like(pan, 0.4), 4, taps=5), identity)


def test_a_heavier_penalty_widens_the_filter():
    lms, pan = blurred_pair()
    peaks = [estimate_psf(lms, pan, 4, taps=13, regularisation=weight).max() for weight in (1e-4, 1e-2, 1.0)]
    assert peaks[0] > 1.05 * peaks[1] > 1.1 * peaks[2]


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 7)])
def test_the_penalty_is_the_energy_plus_the_power_of_the_2_by_2_gradient(height, width):
    pan = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0)).double()
    down = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    power = sum(torch.fft.rfft2(kernel, s=(height, width)).abs() ** 2 for kernel in (down, down.T))
    energy = pan.var((2, 3), correction=0, keepdim=True) * height * width
    assert_same(filter_estimation._penalty(pan, 0.3), 0.3 * energy * (1 + power))


def test_a_taper_of_two_pixels_by_hand():
    image = torch.tensor([0.0, 2, 4, 6, 8]).expand(1, 1, 5, 5)
    tapered = edge_taper(image, 2)[0, 0]
    assert_same(tapered[2], [1, 2.5, 4, 6.5, 4])
    assert_same(tapered[1], [1, 2.75, 4.5, 6.75, 4])
    assert_same(tapered[0], [1, 3, 5, 7, 4])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 9), st.integers(0, 10**6))
def test_a_taper_weighs_by_the_autocorrelation_of_its_square(width, rows, columns, seed):
    height, length = 2 * width + 1 + rows, 2 * width + 1 + columns
    image = torch.rand(2, 3, height, length, generator=torch.Generator().manual_seed(seed)).double()
    weights = []
    for side in (height, length):
        spectrum = torch.fft.fft(torch.ones(width, dtype=torch.float64), side - 1)
        correlation = torch.fft.ifft(spectrum.abs() ** 2).real
        weights.append(1 - torch.cat([correlation, correlation[:1]]) / correlation.max())
    square = torch.zeros(height, length, dtype=torch.float64)
    square[:width, :width] = 1 / width**2
    square = square.roll((-(width // 2),) * 2, (0, 1))
    blurred = torch.fft.ifft2(torch.fft.fft2(image) * torch.fft.fft2(square)).real
    weight = weights[0][:, None] * weights[1]
    assert_same(edge_taper(image, width), weight * image + (1 - weight) * blurred)


def test_four_pixels_of_fe_hpm_by_hand(monkeypatch):
    # in the unit of the band, PAN is 1 3 3 1 and its low-pass 1 1 3 3
    lrms, lms, pan_low = torch.zeros(1, 1, 1, 1).double(), quad([1, 3, 1, 3]), quad([10, 10, 30, 30])
    monkeypatch.setattr(filter_estimation, "estimate_psf", lambda *pair: None)
    monkeypatch.setattr(filter_estimation, "_blur", lambda pan, psf: pan_low)
    monkeypatch.setattr(filter_estimation, "decimate", lambda image, ratio: image)
    monkeypatch.setattr(
        filter_estimation, "upsample", lambda image, ratio, border: lms if image is lrms else image
    )
    assert_same(fe_hpm(lrms, quad([10, 30, 30, 10]), 2), quad([1, 9, 1, 1]))


@pytest.mark.parametrize("taps", [0, 1, 4, 17])
def test_taps_that_do_not_fit_are_refused(taps):
    with pytest.raises(ValueError, match=rf"taps {taps} must be odd, at least 3 .* \(16, 20\) of pan"):
        fe_hpm(torch.rand(1, 3, 4, 5), torch.rand(1, 1, 16, 20), 4, taps=taps)


def test_as_many_taps_as_pixels_are_enough():
    assert fe_hpm(torch.rand(2, 3, 5, 6), torch.rand(2, 1, 15, 18), 3, taps=15).isfinite().all()


@pytest.mark.parametrize("regularisation", [0.0, -1e-4])
def test_a_regularisation_that_is_not_positive_is_refused(regularisation):
    lms, pan = blurred_pair()
    with pytest.raises(ValueError, match=f"regularisation {regularisation} must be positive"):
        estimate_psf(lms, pan, 4, regularisation=regularisation)


def reference(array):
    """(row, column[, band]) numbers as a float64 batch of one."""
    return torch.from_numpy(np.atleast_3d(array).astype(np.float64).transpose(2, 0, 1))[None]


@pytest.fixture(scope="module", params=["WV2_RR", "WV2_FR"])
def scene(shared, request):
    """A pair, the toolbox's penalty of 1e5 in digital numbers relative to PAN, its interpolation, PSF and image."""
    stored = np.load(shared / "reference" / f"{request.param}.npz")
    numbers = json.loads((shared / "reference" / "reference.json").read_text())["scenes"][request.param]
    pan = reference(stored["pan_lr" if request.param.endswith("RR") else "pan"])
    psf = torch.tensor(numbers["intermediates"]["fe_hpm_psf"], dtype=torch.float64)
    regularisation = 1e5 / (pan - pan.mean()).square().sum().item()
    return reference(stored["ms_lr"]), pan, regularisation, reference(stored["exp"]), psf, stored["FE_HPM"]


def test_the_filter_and_the_image_are_the_toolboxs_given_its_interpolation(scene, monkeypatch):
    lrms, pan, regularisation, lms, psf, image = scene
    assert_same(estimate_psf(lms, pan, 4, regularisation=regularisation)[0], psf, atol=1e-10)
    monkeypatch.setattr(
        filter_estimation,
        "upsample",
        lambda image, ratio, border: lms if image is lrms else mtf.upsample(image, ratio, border),
    )
    # the stored image is the toolbox's rounded to float32: half a step at most is rounding
    expected = reference(image)
    step = torch.from_numpy(np.spacing(expected.abs().float().numpy())).clamp(min=1e-6)
    fused = fe_hpm(lrms, pan, 4, regularisation=regularisation, border="circular")
    assert ((fused - expected).abs() <= 0.51 * step).all()


@pytest.mark.parametrize("unit", [1, 2047])
def test_the_image_is_the_toolboxs_in_any_unit(scene, unit):
    lrms, pan, regularisation, *_, image = scene
    expected = reference(image)
    fused = unit * fe_hpm(lrms / unit, pan / unit, 4, regularisation=regularisation, border="circular")
    # the stored interpolation was rounded to float32: README's tolerance, relative to 11-bit numbers
    assert (fused - expected).abs().max() < 2.5e-4 * max(1.0, expected.abs().max().item() / 2047)


def test_the_default_penalty_is_close_to_the_toolboxs(scene):
    lrms, pan, _, lms, psf, image = scene
    assert_same(estimate_psf(lms, pan, 4)[0], psf, atol=0.04 * psf.max())
    assert (fe_hpm(lrms, pan, 4, border="circular") - reference(image)).abs().mean() < 0.3
