"""Multiresolution analysis: the toolbox's images, values by hand, and scenes whose details are known."""

import math

import numpy as np
import pytest
import torch

from clippan_lib import mtf
from clippan_lib.fusion import get_method
from clippan_lib.fusion.classical import awlp, mtf_glp, mtf_glp_fs, mtf_glp_hpm, multiresolution
from clippan_lib.fusion.classical.lowpass import wavelet_lowpass, wavelet_smoothing
from clippan_lib.fusion.classical.statistics import Spread
from clippan_lib.sensors import get_sensor

GNYQ = (0.35, 0.34, 0.32, 0.30)
GLP = {"mtf_glp": mtf_glp, "mtf_glp_fs": mtf_glp_fs, "mtf_glp_hpm": mtf_glp_hpm}
REFERENCE = {"mtf_glp": "MTF_GLP", "mtf_glp_fs": "MTF_GLP_FS", "mtf_glp_hpm": "MTF_GLP_HPM", "awlp": "AWLP"}


def assert_same(actual, expected, atol=1e-9):
    np.testing.assert_allclose(actual, expected, atol=atol)


def pair(bands=4, batch=2, h=10, w=14, seed=0):
    """Bands that share half of what they show, and a PAN that sees them all, in float64."""
    draw = torch.Generator().manual_seed(seed)
    scene = torch.rand(batch, bands + 1, h, w, generator=draw, dtype=torch.float64)
    lrms = 0.3 + 0.4 * scene[:, :1] + 0.4 * scene[:, 1:]
    noise = torch.rand(batch, 1, 4 * h, 4 * w, generator=draw, dtype=torch.float64)
    return lrms, mtf.exp23(lrms, 4).mean(1, keepdim=True) + 0.1 * noise


def quad(*values):
    """Four values per band as 2 x 2 pixels."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, len(values), 2, 2)


@pytest.fixture
def four_pixels(monkeypatch):
    """Two bands and a PAN; the method's own low-pass halves an image, that for the deviation is 20 30 20 30."""
    monkeypatch.setattr(
        multiresolution, "upsample", lambda lrms, ratio, border: quad([1, 3, 1, 3], [3, 1, 3, 1])
    )
    monkeypatch.setattr(multiresolution, "_lowpass", lambda image, gnyq, ratio, border: image / 2)
    monkeypatch.setattr(multiresolution, "separable", lambda image, rows, columns: image / 2)
    for name in ("filter_image", "imresize"):
        monkeypatch.setattr(multiresolution, name, lambda image, how: quad([20, 30, 20, 30]))
    return torch.zeros(1, 2, 1, 1).double(), quad([10, 30, 20, 40]), 2


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # deviations 1 over 5: PAN in the unit of either band is -1 3 1 5
        (mtf_glp, quad([0.5, 4.5, 1.5, 5.5], [2.5, 2.5, 3.5, 3.5])),
        # in the first pixel the low-pass is negative: six times the detail, the most that modulation does
        (mtf_glp_hpm, quad([-2, 6, 2, 6], [0, 2, 6, 2])),
        # covariances 10 and -10 over 62.5
        (mtf_glp_fs, quad([1.8, 5.4, 2.6, 6.2], [2.2, -1.4, 1.4, -2.2])),
    ],
)
def test_four_pixels_by_hand(method, expected, four_pixels):
    assert_same(method(*four_pixels, [0.3, 0.3]), expected)


def test_four_pixels_of_awlp_by_hand(four_pixels):
    # the details 1 3 2 4 are shared as 1:3 and 3:1
    assert_same(awlp(*four_pixels), quad([1.5, 7.5, 2, 9], [4.5, 2.5, 6, 3]))


def test_a_scene_that_is_pan_in_other_units_is_recovered_at_full_scale():
    _, pan = pair()
    unit, offset = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in ([2, 0.5, -1], [0, 3, 5]))
    lrms = unit * mtf.degrade(pan.expand(-1, 3, -1, -1), GNYQ[:3], 4) + offset
    assert_same(mtf_glp_fs(lrms, pan, 4, GNYQ[:3]), unit * pan + offset)


@pytest.mark.parametrize("gain", [0.15, 0.35])
def test_a_band_with_a_smaller_gain_at_nyquist_gets_more_details(gain):
    lrms, pan = pair(1)
    more, less = ((mtf_glp_fs(lrms, pan, 4, [x]) - mtf.exp23(lrms, 4)).norm() for x in (gain, gain + 0.1))
    assert more > less


@pytest.mark.parametrize("method", GLP.values(), ids=GLP)
def test_bands_of_the_same_shape_keep_their_ratio(method):
    lrms, pan = pair(1)
    fused = method(torch.cat([lrms, 3 * lrms], 1), pan, 4, [0.3, 0.3])
    assert_same(fused[:, 1], 3 * fused[:, 0])


def test_a_pan_without_structure_returns_what_the_kernels_lose_of_the_mean():
    lrms, pan = pair()
    flat, lms = torch.full_like(pan, 0.4), mtf.exp23(lrms, 4)
    kept = mtf.mtf_kernel(GNYQ, 4).sum((1, 2))[:, None, None]
    assert (kept > 0.998).all() and (kept < 0.9992).all()
    assert_same(mtf_glp(lrms, flat, 4, GNYQ), lms + (1 - kept) * lms.mean((2, 3), keepdim=True))
    assert_same(mtf_glp_hpm(lrms, flat, 4, GNYQ), lms / kept)
    assert torch.equal(mtf_glp_fs(lrms, flat, 4, GNYQ), lms)
    assert torch.equal(awlp(lrms, flat, 4), lms)


def test_a_band_is_modulated_where_the_low_pass_is_bright_and_added_to_where_both_are_dark():
    lms, low = quad([4, 2, 3, 0]), quad([4, 3, 7, 0])
    fused = multiresolution.modulated(lms, quad([5, 6, 7, 8]), low, Spread(lms=lms).tally())
    assert_same(fused, quad([5, 4, 3, 8]))


def test_awlp_shares_the_details_in_proportion_to_brightness_and_contrast():
    lrms, pan = pair(3)
    lms, fused = mtf.exp23(lrms, 4).numpy(), awlp(lrms, pan, 4).numpy()
    coarse = mtf.imresize(mtf.imresize(pan, (10, 14)), (40, 56)).numpy()
    rows, columns = (wavelet_smoothing(side, 4) for side in (40, 56))
    for i in range(2):
        details = (pan[i, 0].numpy() - rows @ pan[i, 0].numpy() @ columns.T) / coarse[i].std()
        shares = (fused[i] - lms[i]) / lms[i].std((1, 2), keepdims=True)
        assert_same(shares.mean(0), details)
        assert_same(shares[1:] * lms[i, :-1], shares[:-1] * lms[i, 1:])


def test_awlp_leaves_a_band_without_structure_and_a_dark_scene_alone():
    lrms, pan = pair()
    lrms[:, 2] = 0.3
    assert torch.equal(awlp(lrms, pan, 4)[:, 2], mtf.exp23(lrms, 4)[:, 2])
    assert (awlp(0 * lrms, pan, 4) == 0).all()


def test_the_wavelet_smoothing_keeps_constants_and_decimates_to_gsas_low_pass():
    matrix = wavelet_smoothing(40, 4)
    assert_same(matrix.sum(1), np.ones(40))
    assert_same(matrix[21, 21 - 8 : 21 + 9], [math.comb(16, k) / 2**16 for k in range(17)])
    assert_same(matrix[2::4], wavelet_lowpass(40, 4))
    assert_same(wavelet_smoothing(9, 2)[4], [math.comb(8, k) / 2**8 for k in range(9)])


def reference(array):
    """(row, column[, band]) numbers as a float64 batch of one."""
    return torch.from_numpy(np.atleast_3d(array).astype(np.float64).transpose(2, 0, 1))[None]


@pytest.fixture(scope="module", params=["WV2_RR", "WV2_FR"])
def scene(shared, request):
    stored = dict(np.load(shared / "reference" / f"{request.param}.npz"))
    stored |= np.load(shared / "reference" / f"{request.param}_extra.npz")
    pan = stored["pan_lr" if request.param.endswith("RR") else "pan"]
    return reference(stored["ms_lr"]), reference(pan), stored


def fuse_wv2(name, lrms, pan):
    return get_method(name, get_sensor("WV2"), 4, border="circular")(lrms, pan)


@pytest.mark.parametrize("name", REFERENCE)
def test_the_methods_equal_the_toolboxs_given_its_interpolation(scene, name, monkeypatch):
    lrms, pan, stored = scene
    lms = reference(stored["exp"])
    monkeypatch.setattr(
        multiresolution,
        "upsample",
        lambda image, ratio, border: lms if image is lrms else mtf.upsample(image, ratio, border),
    )
    # the stored image is the toolbox's rounded to float32: half a step at most is rounding
    expected = reference(stored[REFERENCE[name]])
    step = torch.from_numpy(np.spacing(expected.abs().float().numpy())).clamp(min=1e-6)
    assert ((fuse_wv2(name, lrms, pan) - expected).abs() <= 0.51 * step).all()


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("unit", [1, 2047])
def test_the_methods_equal_the_toolboxs_in_any_unit(scene, name, unit):
    lrms, pan, stored = scene
    expected = reference(stored[REFERENCE[name]])
    fused = unit * fuse_wv2(name, lrms / unit, pan / unit)
    # the stored interpolation was rounded to float32: README's tolerance, relative to 11-bit numbers
    assert (fused - expected).abs().max() < 2.5e-4 * max(1.0, expected.abs().max().item() / 2047)
