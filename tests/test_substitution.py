"""Component substitution: the toolbox's images, values by hand, and where PAN brings nothing new."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib import mtf
from clippan_lib.fusion.classical import brovey, bt_h, gihs, gs, pracs, substitution
from clippan_lib.fusion.classical.statistics import Percentile, Spread

MATCHING = {"gihs": gihs, "brovey": brovey, "gs": gs}
REFERENCE = {"bt_h": "BT_H", "brovey": "Brovey", "gihs": "IHS", "gs": "GS", "pracs": "PRACS"}


def assert_same(actual, expected, atol=1e-9):
    np.testing.assert_allclose(actual, expected, atol=atol)


def pair(bands=4, batch=2, h=10, w=14, seed=0):
    """Bands that share half of what they show, with a darkest value of their own, and a PAN, in float64."""
    draw = torch.Generator().manual_seed(seed)
    scene = torch.rand(batch, bands + 1, h, w, generator=draw, dtype=torch.float64)
    lrms = 0.3 + 0.1 * torch.arange(bands)[:, None, None] + 0.4 * scene[:, :1] + 0.4 * scene[:, 1:]
    noise = torch.rand(batch, 1, 4 * h, 4 * w, generator=draw, dtype=torch.float64)
    return lrms, mtf.exp23(lrms, 4).mean(1, keepdim=True) + 0.1 * noise


def quad(*values):
    """Four values per band as 2 x 2 pixels."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, len(values), 2, 2)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (gihs, quad([0, 3, 1, 4], [2, 3, 3, 4])),
        (brovey, quad([0, 3, 4 / 3, 4], [2, 3, 8 / 3, 4])),
        (gs, quad([0, 3.2, 0.8, 4], [2, 2.8, 3.2, 4])),  # slopes 1.2 and 0.8 on the intensity
    ],
)
def test_four_pixels_by_hand(method, expected, monkeypatch):
    # the intensity is 1 2 3 4 and PAN, given its mean and deviation, 1 3 2 4
    monkeypatch.setattr(
        substitution, "upsample", lambda lrms, ratio, border: quad([0, 2, 2, 4], [2, 2, 4, 4])
    )
    assert_same(method(torch.zeros(1, 2, 1, 1).double(), quad([10, 30, 20, 40]), 2), expected)


def test_four_pixels_of_bt_h_by_hand(monkeypatch):
    # the low-passed PAN is the sum of the bands, so the intensity is 0 2 4 6 and PAN stands 2 too high
    monkeypatch.setattr(
        substitution, "upsample", lambda lrms, ratio, border: quad([0, 2, 2, 4], [2, 2, 4, 4])
    )
    monkeypatch.setattr(substitution, "filter_image", lambda pan, kernels: quad([2, 4, 6, 8]))
    fused = bt_h(torch.zeros(1, 2, 1, 1).double(), quad([2, 5, 5, 8]), 2)
    assert_same(fused, quad([0, 3, 1.5, 4], [2, 2, 3.5, 4]))


@pytest.mark.parametrize("method", MATCHING.values(), ids=MATCHING)
def test_a_pan_that_is_the_intensity_in_another_unit_adds_nothing(method):
    lrms, _ = pair()
    lms = mtf.exp23(lrms, 4)
    assert_same(method(lrms, 5 * lms.mean(1, keepdim=True) + 2, 4), lms)


@pytest.mark.parametrize("name", REFERENCE)
def test_a_pan_without_structure_adds_nothing(name):
    lrms, pan = pair(3)
    assert torch.equal(getattr(substitution, name)(lrms, torch.full_like(pan, 0.4), 4), mtf.exp23(lrms, 4))


@pytest.mark.parametrize("method", MATCHING.values(), ids=MATCHING)
def test_the_mean_of_the_bands_becomes_pan_in_their_unit(method):
    lrms, pan = pair()
    before, after = (image.mean(1, keepdim=True) for image in (mtf.exp23(lrms, 4), method(lrms, pan, 4)))
    assert_same(Spread(after=after, pan=pan).tally().correlation("after", "pan"), np.ones((2, 1, 1, 1)))
    assert_same(after.mean((2, 3)), before.mean((2, 3)))
    assert_same(after.std((2, 3)), before.std((2, 3)))


def test_gihs_adds_the_same_to_every_band():
    lrms, pan = pair()
    detail = gihs(lrms, pan, 4) - mtf.exp23(lrms, 4)
    assert_same(detail, detail[:, :1].expand_as(detail))


def test_brovey_leaves_the_ratios_of_the_bands_alone():
    lrms, pan = pair()
    lms, fused = mtf.exp23(lrms, 4), brovey(lrms, pan, 4)
    assert_same(fused[:, 1:] / fused[:, :-1], lms[:, 1:] / lms[:, :-1])


def test_gs_keeps_the_means_and_leaves_a_band_without_structure_alone():
    lrms, pan = pair()
    lrms[:, 2] = 0.3
    lms, fused = mtf.exp23(lrms, 4), gs(lrms, pan, 4)
    assert_same(fused.mean((2, 3)), lms.mean((2, 3)))
    assert_same(fused[:, 2], lms[:, 2])


@pytest.mark.parametrize("bands", [3, 8])
def test_bt_h_leaves_the_ratios_above_the_darkest_values_alone(bands):
    lrms, pan = pair(bands)
    lms, fused = mtf.exp23(lrms, 4), bt_h(lrms, pan, 4)
    darkest = lms.amin((2, 3), keepdim=True)
    before, after = lms - darkest, fused - darkest
    assert_same(after * before[:, :1], before * after[:, :1])


def test_bt_h_of_four_bands_takes_them_for_blue_to_near_infrared():
    lrms, pan = pair()
    lms = mtf.exp23(lrms, 4).numpy()
    haze = np.percentile(lms, 1, axis=(2, 3), method="hazen") * [0.95, 0.45, 0.40, 0.05]
    low = mtf.filter_image(pan, mtf.lowpass_kernel(4)).numpy()
    for i, fused in enumerate(bt_h(lrms, pan, 4).numpy()):
        above = lms[i] - haze[i, :, None, None]
        weights = np.linalg.lstsq(lms[i].reshape(4, -1).T, low[i].ravel(), rcond=None)[0]
        intensity = np.tensordot(weights, above, 1)
        matched = (pan[i, 0].numpy() - low[i].mean()) * intensity.std() / low[i].std() + intensity.mean()
        expected = np.maximum(above, 0) * matched / intensity + haze[i, :, None, None]
        assert (above < 0).any()
        assert_same(fused, expected)


def test_bt_h_of_constant_bands_does_not_sharpen_their_rounding():
    lrms = torch.tensor([0.1, 0.3, 0.5, 0.2, 0.4])[:, None, None].expand(2, -1, 16, 16)
    fused = bt_h(lrms, pair(batch=2, h=16, w=16)[1].float(), 4)
    assert_same(fused, mtf.exp23(lrms, 4), atol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 40), st.floats(0, 100))
def test_percentiles_are_hazens(seed, height, width, percent):
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)).double()
    expected = np.percentile(image, percent, axis=(2, 3), method="hazen", keepdims=True)
    assert_same(Percentile(image, percent).tally().percentile(), expected)


def test_pracs_of_one_band_is_the_weighted_residue_of_pan_over_that_band():
    lrms, pan = pair(1)
    lms, fused = mtf.exp23(lrms, 4), pracs(lrms, pan, 4, beta=0.5)
    low = mtf.imresize(mtf.imresize(pan, (10, 14)), (40, 56))
    for i in range(2):
        slope, offset = np.polyfit(lms[i].ravel(), low[i].ravel(), 1)
        explained = slope * lms[i] + offset
        residue = (pan[i] - pan[i].mean()) - (explained - explained.mean())
        stability = 1 - (1 - lms[i] / explained).abs()
        assert_same(fused[i], lms[i] + 0.5 * stability * residue)


def test_pracs_follows_a_band_unlike_pan_with_less_of_it():
    lrms, pan = pair()
    lrms[:, 3] = pair(seed=1)[0][:, 0]  # a scene of its own, which PAN does not see
    pan = mtf.exp23(lrms[:, :3], 4).mean(1, keepdim=True) + pan - pan.mean()
    detail = (pracs(lrms, pan, 4) - mtf.exp23(lrms, 4)).flatten(2).norm(dim=-1)
    assert (detail[:, 3] < 0.5 * detail[:, :3].amin(1)).all()


def test_the_details_of_pracs_grow_with_beta_and_end_at_0():
    lrms, pan = pair()
    none, one, two = (pracs(lrms, pan, 4, beta) for beta in (0.0, 1.0, 2.0))
    assert_same(none, mtf.exp23(lrms, 4))
    assert_same(two - none, 2 * (one - none))
    assert_same(pracs(lrms, pan, 4) - none, 0.95 * (one - none))


def reference(array):
    """(row, column[, band]) numbers as a float64 batch of one."""
    return torch.from_numpy(np.atleast_3d(array).astype(np.float64).transpose(2, 0, 1))[None]


@pytest.fixture(scope="module", params=["WV2_RR", "WV2_FR"])
def scene(shared, request):
    stored = dict(np.load(shared / "reference" / f"{request.param}.npz"))
    stored |= np.load(shared / "reference" / f"{request.param}_extra.npz")
    pan = stored["pan_lr" if request.param.endswith("RR") else "pan"]
    return reference(stored["ms_lr"]), reference(pan), stored


@pytest.mark.parametrize("name", REFERENCE)
def test_the_methods_equal_the_toolboxs_given_its_interpolation(scene, name, monkeypatch):
    lrms, pan, stored = scene
    monkeypatch.setattr(substitution, "upsample", lambda lrms, ratio, border: reference(stored["exp"]))
    fused = getattr(substitution, name)(lrms, pan, 4)
    # the stored image is the toolbox's rounded to float32: half a step at most is rounding
    expected = reference(stored[REFERENCE[name]])
    step = torch.from_numpy(np.spacing(expected.abs().float().numpy())).clamp(min=1e-6)
    assert ((fused - expected).abs() <= 0.51 * step).all()


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("unit", [1, 2047])
def test_the_methods_equal_the_toolboxs_in_any_unit(scene, name, unit):
    lrms, pan, stored = scene
    expected = reference(stored[REFERENCE[name]])
    fused = unit * getattr(substitution, name)(lrms / unit, pan / unit, 4, border="circular")
    # the stored interpolation was rounded to float32: README's tolerance, relative to 11-bit numbers
    assert (fused - expected).abs().max() < 2.5e-4 * max(1.0, expected.abs().max().item() / 2047)
