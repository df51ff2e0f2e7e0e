"""Scores without a reference: the toolbox's numbers, a slow oracle, hand-worked values, limits, gradients."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib.errors import DataError
from clippan_lib.metrics import BETTER, full_scores
from clippan_lib.metrics.no_reference import (
    d_lambda,
    d_lambda_k,
    d_s,
    distortions,
    hqnr,
    pan_lowpass,
    qnr,
    uiqi,
)
from clippan_lib.metrics.reference import q2n
from clippan_lib.mtf import exp23, filter_image, imresize, mtf_kernel, upsample
from clippan_lib.sensors import Sensor, get_sensor

few = settings(max_examples=10, deadline=None)
COUNT_UP = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)


def planar(array) -> torch.Tensor:
    """(row, column, band) or (row, column) of any number type, as a float64 batch of one."""
    array = np.atleast_3d(np.asarray(array, dtype=np.float64))
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))[None]


def scene(seed: int, c: int = 4, h: int = 8, w: int = 12, b: int = 2, dtype=torch.float64):
    """Unrelated positive images in the places of (hrms, lms, pan, pan_lp)."""
    generator = torch.Generator().manual_seed(seed)
    return [0.1 + torch.rand(b, n, h, w, generator=generator, dtype=dtype) for n in (c, c, 1, 1)]


def slow_uiqi(first: np.ndarray, second: np.ndarray, block: int) -> float:
    """Q of two (H, W) bands, block by block, in the one-fraction form of Wang and Bovik."""
    scores = []
    for top, left in itertools.product(range(0, first.shape[0], block), range(0, first.shape[1], block)):
        x, y = (band[top : top + block, left : left + block].ravel() for band in (first, second))
        (vx, cov), (_, vy) = np.cov(x, y)
        scores.append(4 * cov * x.mean() * y.mean() / ((vx + vy) * (x.mean() ** 2 + y.mean() ** 2)))
    return float(np.mean(scores))


def test_scores_equal_the_toolbox_on_every_stored_method(shared):
    folder = shared / "reference"
    expected = json.loads((folder / "reference.json").read_text())["scenes"]["WV2_FR"]["fr_metrics"]
    images = {**np.load(folder / "WV2_FR.npz"), **np.load(folder / "WV2_FR_extra.npz")}
    images["EXP"], lms, pan = images["exp"], planar(images["exp"]), planar(images["pan"])
    pan_lp, gnyq = pan_lowpass(pan, 4, "circular"), get_sensor("WV2").gnyq
    assert len(expected) == 23
    for method, numbers in expected.items():
        hrms = planar(images[method])
        spectral, spatial = distortions(hrms, lms, pan, pan_lp)
        khan = d_lambda_k(hrms, lms, gnyq, 4, dn_max=1.0)
        products = {"QNR": (1 - spectral) * (1 - spatial), "HQNR": (1 - khan) * (1 - spatial)}
        for name, score in {"D_lambda": spectral, "D_S": spatial, "D_lambda_K": khan, **products}.items():
            assert float(score) == pytest.approx(numbers[name], rel=1e-9, abs=1e-15), (method, name)


def test_scores_equal_the_toolbox_on_a_larger_scene_upsampled_here(shared):
    folder = shared / "reference"
    scenes = json.loads((folder / "reference.json").read_text())["large_scenes_metrics_only"]["scenes"]
    numbers = scenes["WV2_FR256"]["fr_metrics"]["EXP"]
    inputs = np.load(folder / "WV2_FR256_inputs.npz")
    pan, lms = planar(inputs["pan"]), exp23(planar(inputs["ms_lr"]), 4, "circular").float().double()
    spectral, spatial = distortions(lms, lms, pan, pan_lowpass(pan, 4, "circular"))
    assert float(spectral) == numbers["D_lambda"] == 0
    assert float(spatial) == pytest.approx(numbers["D_S"], rel=1e-9)
    khan = d_lambda_k(lms, lms, get_sensor("WV2").gnyq, 4, dn_max=1.0)
    assert float(khan) == pytest.approx(numbers["D_lambda_K"], rel=1e-9)


def test_the_full_table_in_single_precision_equals_the_toolbox_to_five_digits(shared):
    folder = shared / "reference"
    numbers = json.loads((folder / "reference.json").read_text())["scenes"]["WV2_FR"]["fr_metrics"]["GSA"]
    images = np.load(folder / "WV2_FR.npz")
    hrms, lrms, pan = (planar(images[name]).float() / 2047 for name in ("GSA", "ms_lr", "pan"))
    table = full_scores(hrms, lrms, pan, get_sensor("WV2"), 4, border="circular")
    names = {"D_lambda": "D_lambda", "D_s": "D_S", "QNR": "QNR", "D_lambda_K": "D_lambda_K", "HQNR": "HQNR"}
    for name, theirs in names.items():
        assert float(table[name]) == pytest.approx(numbers[theirs], rel=2e-5), name


def test_a_quality_index_worked_by_hand():
    x = torch.stack([COUNT_UP, 2 * COUNT_UP, 5 - COUNT_UP])[None]
    # doubled: luminance 2*2.5*5/(6.25+25) = 0.8, structure 2*2/(1+4) = 0.8
    # mirrored: same means, correlation -1
    expected = torch.tensor([[[1, 0.64, -1], [0.64, 1, -0.64], [-1, -0.64, 1]]], dtype=torch.float64)
    torch.testing.assert_close(uiqi(x, block=2), expected, rtol=1e-12, atol=1e-12)


def test_distortions_worked_by_hand():
    first, double, mirrored = COUNT_UP, 2 * COUNT_UP, 5 - COUNT_UP
    hrms, lms = torch.stack([first, double])[None], torch.stack([first, first])[None]
    pan, pan_lp = first[None, None], mirrored[None, None]
    # one pair: |0.64 - 1|; with pan: |1 + 1| and |0.64 + 1|
    assert d_lambda(hrms, lms, 2).tolist() == pytest.approx([0.36])
    assert d_s(hrms, lms, pan, pan_lp, 2).tolist() == pytest.approx([(2 + 1.64) / 2])
    assert qnr(hrms, lms, pan, pan, 2).tolist() == pytest.approx([(1 - 0.36) * (1 - 0.36 / 2)])


def test_a_quality_index_equals_its_definition_block_by_block(device):
    x, y, *_ = scene(0, c=3)
    expected = [
        [[slow_uiqi(f, s, 4) for s in ys] for f in xs] for xs, ys in zip(x.numpy(), y.numpy(), strict=True)
    ]
    found = uiqi(x.to(device), y.to(device), 4).cpu()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.1, 0.7, 1500.0])
def test_constant_blocks_are_judged_by_their_means(dtype, level):
    varied = COUNT_UP.to(dtype).repeat(4, 4)
    flat = torch.full_like(varied, level)
    x = torch.stack([flat, flat, 2 * flat, varied])[None]
    torch.testing.assert_close(uiqi(x, block=8)[0, 0], torch.tensor([1, 1, 0.8, 0], dtype=dtype))
    assert uiqi(torch.zeros_like(x), block=8).tolist() == torch.ones(1, 4, 4).tolist()


@few
@given(seed=st.integers(0, 999))
def test_a_quality_index_is_symmetric_and_bounded(seed):
    x, y, *_ = scene(seed, c=3)
    q = uiqi(x, y, 4)
    torch.testing.assert_close(q, uiqi(y, x, 4).mT, rtol=1e-12, atol=1e-12)
    assert q.abs().max() < 1
    torch.testing.assert_close(uiqi(x, block=4).diagonal(dim1=1, dim2=2), torch.ones(2, 3, dtype=x.dtype))


@few
@given(seed=st.integers(0, 999), order=st.permutations(range(4)), factor=st.floats(0.01, 100))
def test_neither_the_order_of_bands_nor_a_common_scale_matters(seed, order, factor):
    hrms, lms, pan, pan_lp = scene(seed)
    expected = distortions(hrms, lms, pan, pan_lp, 4)
    turned = distortions(hrms[:, order], lms[:, order], pan, pan_lp, 4)
    scaled = distortions(*(factor * image for image in (hrms, lms, pan, pan_lp)), 4)
    torch.testing.assert_close(turned, expected, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(scaled, expected, rtol=1e-10, atol=1e-14)


@few
@given(seed=st.integers(0, 999))
def test_more_of_the_same_noise_is_never_better(seed):
    _, lms, pan, _ = scene(seed, h=32, w=32)
    lms = pan * torch.tensor([0.9, 1.0, 1.1, 1.2]).view(1, 4, 1, 1) + 0.1 * lms
    noise = torch.randn(lms.shape, generator=torch.Generator().manual_seed(seed))
    little, much = (distortions(lms + amount * noise, lms, pan, pan) for amount in (0.05, 0.5))
    assert (much[0] > little[0]).all()
    assert (much[1] > little[1]).all()


def test_both_distortions_at_once_are_those_computed_alone():
    images = scene(1)
    spectral, spatial = distortions(*images, 4)
    torch.testing.assert_close(spectral, d_lambda(*images[:2], 4), rtol=1e-12, atol=0)
    torch.testing.assert_close(spatial, d_s(*images, 4), rtol=1e-12, atol=0)
    torch.testing.assert_close(qnr(*images, 4), (1 - spectral) * (1 - spatial))
    assert spectral[0] != spectral[1]


def test_an_image_whose_relations_did_not_move_has_the_best_scores():
    _, lms, pan, _ = scene(2, h=32, w=64)
    assert d_lambda(lms, lms).tolist() == d_s(lms, lms, pan, pan).tolist() == [0.0, 0.0]
    assert qnr(lms, lms, pan, pan).tolist() == [1.0, 1.0]
    gains = (0.3, 0.32, 0.34, 0.22)
    blurred = filter_image(lms, mtf_kernel(gains, 4))
    torch.testing.assert_close(
        d_lambda_k(lms, blurred, gains, 4), torch.zeros(2, dtype=lms.dtype), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(hqnr(lms, blurred, pan, pan, gains, 4), 1 - d_s(lms, blurred, pan, pan))


def test_the_score_of_khan_blurs_the_fused_image_and_rounds_if_asked():
    hrms, lms, pan, pan_lp = scene(3, h=32, w=64)
    gains = (0.3, 0.32, 0.34, 0.22)
    blurred = filter_image(hrms, mtf_kernel(gains, 4))
    torch.testing.assert_close(d_lambda_k(hrms, lms, gains, 4), 1 - q2n(blurred, lms))
    rounded = d_lambda_k(hrms, lms, gains, 4, dn_max=15)
    torch.testing.assert_close(rounded, 1 - q2n(blurred, lms, dn_max=15))
    assert (rounded != d_lambda_k(hrms, lms, gains, 4)).all()
    expected = (1 - rounded) * (1 - d_s(hrms, lms, pan, pan_lp))
    torch.testing.assert_close(hqnr(hrms, lms, pan, pan_lp, gains, 4, dn_max=15), expected)


def test_low_pass_pan_is_shrunk_then_interpolated():
    pan = scene(4, h=32, w=48)[2]
    torch.testing.assert_close(pan_lowpass(pan, 4), exp23(imresize(pan, (8, 12)), 4), rtol=0, atol=0)
    # the weights of the 23 taps, as published, sum to 1 - 4e-9
    torch.testing.assert_close(pan_lowpass(torch.ones_like(pan), 4), torch.ones_like(pan), rtol=0, atol=1e-7)


def test_both_images_that_are_compared_with_have_the_border_asked_for():
    lrms, pan = scene(13, h=16, w=24)[0], scene(13, h=64, w=96)[2]
    hrms, sensor = scene(14, h=64, w=96)[0], get_sensor("QB")
    for border in ("replicate", "circular"):
        low = upsample(lrms, 4, border), upsample(imresize(pan, (16, 24)), 4, border)
        table = full_scores(hrms, lrms, pan, sensor, 4, border=border)
        torch.testing.assert_close(table["D_s"], d_s(hrms, low[0], pan, low[1]))
        torch.testing.assert_close(table["D_lambda"], d_lambda(hrms, low[0]))
        torch.testing.assert_close(table["D_lambda_K"], d_lambda_k(hrms, low[0], sensor.gnyq, 4, 2047))
    repeated = full_scores(hrms, lrms, pan, sensor, 4)
    assert all((repeated[name] != table[name]).all() for name in ("D_lambda", "D_s", "D_lambda_K"))
    assert torch.equal(repeated["D_s"], full_scores(hrms, lrms, pan, sensor, 4, border="replicate")["D_s"])


def test_the_full_table_holds_each_score():
    sensor = Sensor("odd", ("a", "b", "c"), 8, 3, (0.3, 0.25, 0.2), 0.15, (0, 1, 2), (0, 1, 2))
    hrms, _, pan, _ = scene(5, c=3, h=96, w=96, dtype=torch.float32)
    lrms = scene(6, c=3, h=32, w=32, dtype=torch.float32)[0]
    table = full_scores(hrms, lrms, pan, sensor, 3)
    assert {"D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR"} < set(table) < set(BETTER)
    khan = d_lambda_k(hrms, upsample(lrms, 3), sensor.gnyq, 3, dn_max=255)
    torch.testing.assert_close(table["D_lambda_K"], khan)
    assert (khan != d_lambda_k(hrms, upsample(lrms, 3), sensor.gnyq, 3, dn_max=1)).all()
    eight_bits, other = (
        full_scores(hrms, lrms, pan, sensor, 3, 255),
        full_scores(hrms, lrms, pan, sensor, 3, 15),
    )
    assert torch.equal(eight_bits["D_lambda_K"], table["D_lambda_K"])
    torch.testing.assert_close(other["D_lambda_K"], d_lambda_k(hrms, upsample(lrms, 3), sensor.gnyq, 3, 15))
    torch.testing.assert_close(table["QNR"], (1 - table["D_lambda"]) * (1 - table["D_s"]))
    torch.testing.assert_close(table["HQNR"], (1 - table["D_lambda_K"]) * (1 - table["D_s"]))
    assert all(score.shape == (2,) and score.dtype == torch.float32 for score in table.values())


@pytest.mark.parametrize("score", [d_lambda, d_s, qnr, distortions])
def test_gradients_are_those_of_finite_differences(score, device):
    images = [image.to(device).requires_grad_() for image in scene(7, c=3, h=3, w=6, b=1)]
    images = images[:2] if score is d_lambda else images
    assert torch.autograd.gradcheck(lambda *x: score(*x, 3), images, nondet_tol=1e-12)


def test_gradients_of_the_khan_score_are_those_of_finite_differences():
    hrms, lms, *_ = scene(8, c=1, h=32, w=32, b=1)
    pixels = hrms[..., 10:12, 10:13].clone().requires_grad_()

    def score(patch):
        rows = torch.cat([hrms[..., 10:12, :10], patch, hrms[..., 10:12, 13:]], -1)
        return d_lambda_k(torch.cat([hrms[..., :10, :], rows, hrms[..., 12:, :]], -2), lms, (0.3,), 4)

    assert torch.autograd.gradcheck(score, pixels)


@pytest.mark.parametrize("level", [0.0, 0.37, 1.0])
def test_gradients_are_finite_on_constant_blocks(level, device):
    images = [image.to(device) for image in scene(9, h=32, w=64, dtype=torch.float32)]
    for image in images:
        image[..., :32] = level
    hrms = images[0].requires_grad_()
    total = qnr(hrms, *images[1:]) + d_lambda_k(hrms, images[1], (0.3,) * 4, 4)
    (gradient,) = torch.autograd.grad(total.sum(), hrms)
    assert gradient.isfinite().all()
    assert gradient[..., 32:].abs().max() > 0


def test_images_that_do_not_belong_together_are_refused():
    hrms, lms, pan, pan_lp = scene(10, h=32, w=32)
    bad = pan.clone()
    bad[0, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"hrms \(2, 4, 32, 32\) and lms \(2, 3, 32, 32\)"):
        d_lambda(hrms, lms[:, :3])
    with pytest.raises(ValueError, match="pan has 1 values that are not finite"):
        d_s(hrms, lms, bad, pan_lp)
    with pytest.raises(ValueError, match="must be one band"):
        qnr(hrms, lms, hrms, lms)
    with pytest.raises(ValueError, match="must be one band"):
        distortions(hrms, lms, pan[:1], pan_lp[:1])
    with pytest.raises(ValueError, match="differ in batch or sides"):
        uiqi(hrms, pan[..., :16])
    with pytest.raises(ValueError, match="the image has 1"):
        d_lambda(hrms[:, :1], lms[:, :1])
    with pytest.raises(ValueError, match="not finite"):
        d_lambda_k(hrms * torch.nan, lms, (0.3,) * 4, 4)
    with pytest.raises(ValueError, match="3 kernels for 4 bands"):
        d_lambda_k(hrms, lms, (0.3,) * 3, 4)


@pytest.mark.parametrize("score", [d_lambda, d_s, qnr, distortions, d_lambda_k, hqnr])
def test_sides_that_blocks_do_not_tile_are_refused_with_the_sides_to_crop_to(score):
    images = scene(11, h=40, w=64)
    images = images[:2] if score in (d_lambda, d_lambda_k) else images
    gains = ((0.3,) * 4, 4) if score in (d_lambda_k, hqnr) else ()
    with pytest.raises(ValueError, match=r"\(40, 64\).*block 32; crop the image to \(32, 64\)"):
        score(*images, *gains)


def test_the_full_table_refuses_what_does_not_fit_the_sensor_or_the_ratio():
    hrms, _, pan, _ = scene(12, h=64, w=64)
    lrms = hrms[..., :16, :16]
    with pytest.raises(ValueError, match="lrms has 4 bands and sensor WV3 8"):
        full_scores(hrms, lrms, pan, get_sensor("WV3"), 4)
    with pytest.raises(ValueError, match="expected ratio 2"):
        full_scores(hrms, lrms, pan, get_sensor("QB"), 2)
    with pytest.raises(ValueError, match=r"\(64, 64\) are no multiples of ratio 5"):
        pan_lowpass(pan, 5)


def test_digital_numbers_are_refused_where_they_would_be_rounded_again():
    hrms, lms, pan, pan_lp = (1000 * image for image in scene(13, h=32, w=64))
    gains = (0.3, 0.32, 0.34, 0.22)
    says = r"lms has values as large as 1\d{3}.*, and this score is for images in \[0, 1\]"
    with pytest.raises(DataError, match=says):
        d_lambda_k(hrms, lms, gains, 4, dn_max=2047)
    with pytest.raises(DataError, match=says):
        hqnr(hrms, lms, pan, pan_lp, gains, 4, dn_max=2047)
    with pytest.raises(DataError, match="lrms has values as large as"):
        full_scores(hrms, lms[..., :8, :16], pan, get_sensor("QB"), 4)
    torch.testing.assert_close(hqnr(hrms, lms, pan, pan_lp, gains, 4), hqnr(*scene(13, h=32, w=64), gains, 4))
