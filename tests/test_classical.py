"""Fusion without training: the toolbox's images, the solvers, and what must not matter."""

import importlib
import math
import pkgutil

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib import mtf
from clippan_lib.fusion import CLASSICAL, classical, get_method
from clippan_lib.fusion.classical import (
    awlp,
    bdsd,
    bdsd_pc,
    brovey,
    bt_h,
    exp,
    fe_hpm,
    gihs,
    gs,
    gsa,
    mtf_glp,
    mtf_glp_fs,
    mtf_glp_hpm,
    mtf_glp_hpm_r,
    pracs,
    sr_d,
    tv,
)
from clippan_lib.fusion.classical.least_squares import nonnegative
from clippan_lib.fusion.classical.lowpass import wavelet_lowpass
from clippan_lib.sensors import get_sensor

GNYQ = (0.35, 0.34, 0.32, 0.30, 0.29, 0.28, 0.23, 0.22)
GNYQ_PAN = 0.15

METHODS = {
    "exp": lambda lrms, pan, ratio, gnyq: exp(lrms, pan, ratio),
    "brovey": lambda lrms, pan, ratio, gnyq: brovey(lrms, pan, ratio),
    "gihs": lambda lrms, pan, ratio, gnyq: gihs(lrms, pan, ratio),
    "gs": lambda lrms, pan, ratio, gnyq: gs(lrms, pan, ratio),
    "gsa": lambda lrms, pan, ratio, gnyq: gsa(lrms, pan, ratio),
    "bt_h": lambda lrms, pan, ratio, gnyq: bt_h(lrms, pan, ratio),
    "pracs": lambda lrms, pan, ratio, gnyq: pracs(lrms, pan, ratio),
    "bdsd": lambda lrms, pan, ratio, gnyq: bdsd(lrms, pan, ratio, gnyq, GNYQ_PAN),
    "bdsd_pc": lambda lrms, pan, ratio, gnyq: bdsd_pc(lrms, pan, ratio, gnyq, GNYQ_PAN),
    "mtf_glp": mtf_glp,
    "mtf_glp_fs": mtf_glp_fs,
    "mtf_glp_hpm": mtf_glp_hpm,
    "mtf_glp_hpm_r": mtf_glp_hpm_r,
    "awlp": lambda lrms, pan, ratio, gnyq: awlp(lrms, pan, ratio),
    "fe_hpm": lambda lrms, pan, ratio, gnyq: fe_hpm(lrms, pan, ratio, taps=13),  # the small images hold no 25
    "sr_d": sr_d,
    "tv": tv,
}
all_methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def pair(bands=4, ratio=4, batch=2, h=10, w=14, seed=0):
    """Correlated bands and a PAN that sees them all, in float64."""
    draw = torch.Generator().manual_seed(seed)
    scene = torch.rand(batch, bands + 1, h, w, generator=draw, dtype=torch.float64)
    lrms = 0.2 + 0.5 * scene[:, :1] + 0.3 * scene[:, 1:]
    noise = torch.rand(batch, 1, ratio * h, ratio * w, generator=draw, dtype=torch.float64)
    return lrms, mtf.exp23(lrms, ratio).mean(1, keepdim=True) + 0.1 * noise


def assert_same(actual, expected, atol=1e-9):
    np.testing.assert_allclose(actual, expected, atol=atol)


@all_methods
@pytest.mark.parametrize("bands", [3, 4, 8])
@pytest.mark.parametrize("ratio", [2, 4])
def test_the_image_has_the_bands_of_one_input_and_the_size_of_the_other(method, bands, ratio):
    lrms, pan = pair(bands, ratio, h=7, w=9)
    fused = method(lrms, pan, ratio, GNYQ[:bands])
    assert fused.shape == (2, bands, 7 * ratio, 9 * ratio)
    assert fused.isfinite().all()


@all_methods
def test_the_unit_does_not_matter(method):
    lrms, pan = pair()
    assert_same(method(2047 * lrms, 2047 * pan, 4, GNYQ[:4]) / 2047, method(lrms, pan, 4, GNYQ[:4]))


# PRACS mixes PAN with the bands, so both must have one unit
@pytest.mark.parametrize("method", [METHODS[name] for name in METHODS if name != "pracs"])
def test_the_gain_of_pan_does_not_matter(method):
    lrms, pan = pair()
    assert_same(method(lrms, 3 * pan, 4, GNYQ[:4]), method(lrms, pan, 4, GNYQ[:4]))


@all_methods
def test_permuted_bands_give_the_permuted_image(method):
    lrms, pan = pair(5)  # BT-H takes four bands for blue, green, red and near infrared
    order = [2, 0, 3, 1, 4]
    permuted = method(lrms[:, order], pan, 4, [GNYQ[i] for i in order])
    assert_same(permuted, method(lrms, pan, 4, GNYQ[:5])[:, order])


@all_methods
def test_each_image_of_a_batch_is_fused_as_if_alone(method):
    (one, pan_one), (two, pan_two) = pair(batch=1, seed=1), pair(batch=1, seed=2)
    together = method(torch.cat([one, two]), torch.cat([pan_one, pan_two]), 4, GNYQ[:4])
    alone = torch.cat([method(one, pan_one, 4, GNYQ[:4]), method(two, pan_two, 4, GNYQ[:4])])
    assert_same(together, alone)


@all_methods
def test_single_precision_is_enough_and_kept(method, device):
    lrms, pan = pair()
    fused = method(lrms.float().to(device), pan.float().to(device), 4, GNYQ[:4])
    assert fused.dtype == torch.float32
    assert_same(fused.cpu(), method(lrms, pan, 4, GNYQ[:4]), atol=2e-5)


@all_methods
def test_training_patches_are_fused_to_finite_images(method):
    lrms, pan = (x.float() for x in pair(8, batch=32, h=16, w=16))
    assert method(lrms, pan, 4, GNYQ).abs().max() < 10


@all_methods
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("ms", "pan"), [(0.3, 0.5), (0.0, 0.4), (0.3, 0.0), (0.0, 0.0)])
def test_constant_images_stay_constant(method, ms, pan, dtype):
    lrms = torch.full((2, 4, 16, 16), ms, dtype=dtype)
    fused = method(lrms, torch.full((2, 1, 64, 64), pan, dtype=dtype), 4, GNYQ[:4])
    # BDSD puts back the 0.2 % that the kernels, which sum to a little under 1, take away
    assert_same(fused, ms * torch.ones_like(fused), atol=1e-3)


@all_methods
def test_repeated_bands_give_a_finite_image_with_repeated_bands(method):
    lrms, pan = pair(3)
    fused = method(lrms[:, [0, 0, 1, 1, 2, 2]], pan, 4, [0.3] * 6)
    assert fused.abs().max() < 10
    assert_same(fused[:, ::2], fused[:, 1::2], atol=1e-6)


@pytest.mark.parametrize("name", ["exp", "gsa", "mtf_glp_hpm_r"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_pan_adds_nothing(name, dtype):
    lrms = pair()[0].to(dtype)
    pan = torch.full((2, 1, 40, 56), 0.4, dtype=dtype)
    assert torch.equal(METHODS[name](lrms, pan, 4, GNYQ[:4]), mtf.exp23(lrms, 4))


@all_methods
def test_pan_sharpens_every_band(method):
    lrms, pan = pair()
    detail = (method(lrms, pan, 4, GNYQ[:4]) - mtf.exp23(lrms, 4)).flatten(2).norm(dim=-1)
    assert (detail > 1).all() if method is not METHODS["exp"] else (detail == 0).all()


@all_methods
def test_a_pair_that_does_not_fit_is_refused(method):
    lrms, pan = pair()
    with pytest.raises(ValueError, match="do not belong together"):
        method(lrms, pan[..., :-4], 4, GNYQ[:4])
    with pytest.raises(ValueError, match="expected ratio 2, .* have 4"):
        method(lrms, pan, 2, GNYQ[:4])


@pytest.mark.parametrize("name", ["bdsd", "bdsd_pc", "mtf_glp_hpm_r"])
def test_gains_that_do_not_fit_the_bands_are_refused(name):
    with pytest.raises(ValueError, match="3 kernels for 4 bands"):
        METHODS[name](*pair(), 4, GNYQ[:3])


def test_gsa_of_one_band_is_pan_in_the_unit_of_that_band():
    lrms, pan = pair(1)
    fused, lms = gsa(lrms, pan, 4), mtf.exp23(lrms, 4)
    pan_lr = mtf.separable(pan, *(wavelet_lowpass(side, 4) for side in (40, 56)))
    for i in range(2):
        slope, offset = np.polyfit(pan[i].ravel(), fused[i].ravel(), 1)
        assert_same(fused[i], slope * pan[i] + offset)
        assert fused[i].mean().item() == pytest.approx(lms[i].mean().item())
        assert slope == pytest.approx(1 / np.polyfit(lrms[i].ravel(), pan_lr[i].ravel(), 1)[0])


def test_gsas_lowpass_keeps_constants_and_centres_a_point_at_its_phase():
    matrix = wavelet_lowpass(40, 4)
    assert_same(matrix.sum(1), np.ones(10))
    binomial = [math.comb(16, k) / 2**16 for k in range(17)]  # [1 4 6 4 1] / 16 four times
    assert_same(matrix[5, 22 - 8 : 22 + 9], binomial)


@pytest.mark.parametrize(("h", "w", "block"), [(10, 14, None), (12, 8, 16)])
def test_bdsd_is_least_squares_in_every_block(h, w, block):
    lrms, pan = pair(h=h, w=w)
    lms = mtf.exp23(lrms, 4)
    low = mtf.imresize(lms, (h, w))
    blurred = mtf.filter_image(low, mtf.mtf_kernel(GNYQ[:4], 4))
    x, y = torch.cat([blurred, mtf.degrade(pan, [GNYQ_PAN], 4)], 1), low - blurred
    fused, details = bdsd(lrms, pan, 4, GNYQ[:4], GNYQ_PAN, block), torch.cat([lms, pan], 1)
    rows, columns = (block or 4 * h), (block or 4 * w)
    for i, top, left in np.ndindex(2, 4 * h // rows, 4 * w // columns):
        box = (i, ..., slice(top * rows, (top + 1) * rows), slice(left * columns, (left + 1) * columns))
        low_box = (i, ..., *(slice(s.start // 4, s.stop // 4) for s in box[2:]))
        gamma, *_ = np.linalg.lstsq(x[low_box].flatten(1).T, y[low_box].flatten(1).T, rcond=None)
        assert_same(fused[box] - lms[box], np.tensordot(gamma.T, details[box], 1), atol=1e-6)


def test_a_change_in_one_block_of_bdsd_leaves_the_others_alone():
    lrms, pan = pair(batch=1, h=32, w=32)
    changed = pan.clone()
    changed[..., 24:32, 24:32] += 0.5  # further from the other blocks than the kernel reaches
    before, after = (bdsd(lrms, x, 4, GNYQ[:4], GNYQ_PAN, 64) for x in (pan, changed))
    moved = (after - before).abs().amax((0, 1))
    assert moved[:64, :64].min() > 1e-6
    assert max(moved[64:].max(), moved[:, 64:].max()) < 1e-10


@pytest.mark.parametrize("block", [0, 2, 6, 16, 80])
def test_a_block_that_does_not_fit_is_refused(block):
    with pytest.raises(
        ValueError, match=f"block {block} must be a multiple of ratio 4 and divide pan's 40 x 56"
    ):
        bdsd(*pair(), 4, GNYQ[:4], GNYQ_PAN, block)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 3))
def test_nonnegative_least_squares_equal_scipys(seed, unknowns, problems):
    draw = np.random.default_rng(seed)
    # a common part makes the columns nearly parallel, as spectral bands are
    a = draw.normal(size=(2, 30, unknowns)) + 5 * draw.normal(size=(2, 30, 1))
    y = draw.normal(size=(2, 30, problems))
    gram, cross = torch.from_numpy(a.mT @ a), torch.from_numpy(a.mT @ y)
    solution = nonnegative(gram, cross)
    expected = np.stack(
        [[scipy.optimize.nnls(a[i], y[i, :, j])[0] for j in range(problems)] for i in range(2)]
    )
    assert_same(solution.mT, expected, atol=1e-8)


def test_nonnegative_least_squares_of_identical_columns_end():
    gram = torch.ones(1, 3, 3, dtype=torch.float64) + 1e-13 * torch.eye(3)
    solution = nonnegative(gram, torch.tensor([[[2.0], [2.0], [2.0]]], dtype=torch.float64))
    assert (solution >= 0).all()
    assert solution.sum().item() == pytest.approx(2)


def test_bdsd_pc_adds_pan_and_takes_bands_away():
    lrms, pan = pair(seed=3)
    lms = mtf.exp23(lrms, 4)
    detail = (bdsd_pc(lrms, pan, 4, GNYQ[:4], GNYQ_PAN) - lms).flatten(2)
    for i in range(2):
        columns = torch.cat([lms, pan], 1)[i].flatten(1).T
        gamma, *_ = np.linalg.lstsq(columns, detail[i].T, rcond=None)
        assert gamma[:-1].max() < 1e-9
        assert gamma[-1].min() > 0.01


def test_where_bdsd_has_the_physical_signs_bdsd_pc_is_bdsd():
    lrms = pair(1, seed=4)[0]
    pan = mtf.exp23(lrms, 4) + 0.01 * torch.rand(2, 1, 40, 56, dtype=torch.float64)
    free, signed = (METHODS[name](lrms, pan, 4, [0.3]) for name in ("bdsd", "bdsd_pc"))
    assert_same(free, signed)


def test_hpm_r_leaves_the_ratio_of_bands_with_the_same_shape_alone():
    lrms, pan = pair(1)
    fused = mtf_glp_hpm_r(torch.cat([lrms, 3 * lrms], 1), pan, 4, [0.3, 0.3])
    assert_same(fused[:, 1], 3 * fused[:, 0])


REFERENCE = {"gsa": "GSA", "bdsd": "BDSD", "bdsd_pc": "BDSD_PC", "mtf_glp_hpm_r": "MTF_GLP_HPM_R"}


def reference(array):
    """(row, column[, band]) numbers as a float64 batch of one."""
    return torch.from_numpy(np.atleast_3d(array).astype(np.float64).transpose(2, 0, 1))[None]


@pytest.fixture(scope="module", params=["WV2_RR", "WV2_FR"])
def scene(shared, request):
    stored = np.load(shared / "reference" / f"{request.param}.npz")
    pan = stored["pan_lr" if request.param.endswith("RR") else "pan"]
    return reference(stored["ms_lr"]), reference(pan), stored


def fuse_wv2(name, lrms, pan):
    """As the toolbox does, BDSD with the whole image as one block."""
    block = {"block": 128} if name == "bdsd" else {}
    return get_method(name, get_sensor("WV2"), 4, border="circular")(lrms, pan, **block)


@pytest.mark.parametrize("name", REFERENCE)
def test_the_methods_equal_the_toolboxs_given_its_interpolation(scene, name, monkeypatch):
    lrms, pan, stored = scene
    lms = reference(stored["exp"])

    def given(image, ratio, border):
        return lms if image is lrms else mtf.upsample(image, ratio, border)

    for found in pkgutil.iter_modules(classical.__path__, classical.__name__ + "."):
        module = importlib.import_module(found.name)
        if hasattr(module, "upsample"):
            monkeypatch.setattr(module, "upsample", given)
    expected = reference(stored[REFERENCE[name]])
    # one float32 step of the stored image; BDSD's own tolerance is in the README of the reference
    step = (
        5e-4
        if name == "bdsd"
        else torch.from_numpy(np.spacing(expected.abs().float().numpy())).clamp(min=1e-6)
    )
    assert ((fuse_wv2(name, lrms, pan) - expected).abs() <= step).all()


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("unit", [1, 2047])
def test_the_methods_equal_the_toolboxs_in_any_unit(scene, name, unit):
    lrms, pan, stored = scene
    expected = reference(stored[REFERENCE[name]])
    fused = unit * fuse_wv2(name, lrms / unit, pan / unit)
    # the stored interpolation was rounded to float32: README's tolerances, relative to 11-bit numbers
    scale = max(1.0, expected.abs().max().item() / 2047)
    assert (fused - expected).abs().max() < (1e-3 if name == "bdsd" else 2.5e-4) * scale


@pytest.mark.parametrize("name", REFERENCE)
def test_single_precision_images_in_unit_range_stay_within_a_fiftieth_of_a_digital_number(scene, name):
    lrms, pan, stored = scene
    fused = 2047 * fuse_wv2(name, (lrms / 2047).float(), (pan / 2047).float())
    assert (fused - reference(stored[REFERENCE[name]])).abs().max() < 0.02


# What methods that passed the comparison above give on images from a formula: four pixels and the mean.
STORED = {
    "exp": (0.592106209519, 0.303907267673, 0.331447068621, 0.249346375427, 0.609729016350),
    "brovey": (0.586174588330, 0.243537079108, 0.414864169723, 0.308852543322, 0.609729016350),
    "gihs": (0.585218679964, 0.242875479142, 0.434145157593, 0.326823488260, 0.609729016350),
    "gs": (0.585913996273, 0.247130275376, 0.441494651095, 0.334597604466, 0.609729016350),
    "gsa": (0.593047193532, -0.068018007787, 0.344264392178, 0.050440286337, 0.609729016350),
    "bt_h": (0.618826948735, -0.212904364738, 0.356264178167, 0.202457999700, 0.610958832036),
    "pracs": (0.591537060275, 0.239312925607, 0.346036820903, 0.228492300099, 0.614716130616),
    "bdsd": (0.478642601970, 0.284004745451, 0.492443872897, 0.377416508565, 0.617832820510),
    "bdsd_pc": (0.494683563649, 0.249482221916, 0.463314264386, 0.352372687288, 0.617125033660),
    "mtf_glp": (0.476589463089, -0.131537633761, 0.298077460538, 0.010568210200, 0.611007107436),
    "mtf_glp_fs": (0.499188046800, -0.128124502427, 0.298439214922, 0.000275512406, 0.611735642297),
    "mtf_glp_hpm": (0.512508496713, -0.104215178640, 0.307312074028, 0.117812898292, 0.617329909659),
    "mtf_glp_hpm_r": (0.537289880367, 0.080793188777, 0.310936778020, 0.130888169889, 0.621719949069),
    "awlp": (0.519029856286, 0.004114861776, 0.292397924301, 0.090405850293, 0.609485965677),
    "fe_hpm": (0.550587836742, 0.085695616083, 0.303552261474, 0.144154673219, 0.631747707777),
    "sr_d": (0.530755671017, -0.237806995225, 0.117269572435, -0.141427138286, 0.617142440063),
    "tv": (0.578456177759, -0.272428515862, 0.290413263937, -0.078541186246, 0.610509731734),
}
PIXELS = ((0, 0, 0, 0), (0, 3, 5, 19), (1, 1, 31, 0), (1, 2, 26, 27))


def waves(*shape, step):
    """A tensor that needs no random generator: sin(step * k) over its flat index k, in [0, 1]."""
    k = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return 0.5 + 0.5 * torch.sin(step * k).reshape(shape)


def probe(name):
    lrms = 0.2 + 0.5 * waves(2, 1, 8, 9, step=0.37) + 0.3 * waves(2, 4, 8, 9, step=0.71)
    pan = mtf.exp23(lrms, 4).mean(1, keepdim=True) + 0.2 * waves(2, 1, 32, 36, step=0.53)
    fused = get_method(name, get_sensor("QB"), 4)(lrms, pan)
    return (*(fused[pixel].item() for pixel in PIXELS), fused.mean().item())


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_method_gives_the_stored_numbers(name):
    assert probe(name) == pytest.approx(STORED[name], abs=1e-9)


def run(stages, answers=()):
    """The image, and what was answered to the method: what it tallies itself, or the answers given."""
    given, said = iter(answers), []
    try:
        requests = next(stages)
        while True:
            said.append(next(given) if answers else tuple(request.tally() for request in requests))
            requests = stages.send(said[-1])
    except StopIteration as end:
        return end.value, said


@pytest.mark.parametrize("name", [row.name for row in CLASSICAL.values() if row.reach(4) is not None])
def test_a_corner_is_fused_as_in_the_whole_scene_where_borders_are_repeated_and_not_where_they_are_joined(
    name,
):
    row, side, size = CLASSICAL[name], 37, (45, 52)
    lrms, pan = pair(batch=1, h=size[0], w=size[1])
    kept, errors = 4 * (side - row.reach(4)), {}
    for border in ("replicate", "circular"):
        settings = row.settings(get_sensor("QB"), 4) | {"border": border}
        whole, said = run(row.fuse.stages(lrms, pan, **settings))
        errors[border] = []
        for bottom, right in np.ndindex(2, 2):
            starts = [end * (length - side) for end, length in zip((bottom, right), size, strict=True)]
            low, high = (tuple(slice(k * at, k * (at + side)) for at in starts) for k in (1, 4))
            # of the scene's corner; what lies within reach of the window's other sides is left out
            near = tuple(slice(-kept, None) if end else slice(kept) for end in (bottom, right))
            window, _ = run(row.fuse.stages(lrms[..., *low], pan[..., *high], **settings), said)
            errors[border].append((window - whole[..., *high])[..., *near].abs().max().item())
    assert max(errors["replicate"]) < 1e-9
    assert min(errors["circular"]) > 1e-3
