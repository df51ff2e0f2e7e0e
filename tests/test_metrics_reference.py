"""Scores against a reference: the toolbox's numbers, slow oracles, hand-worked values, limits, gradients."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    peak_signal_noise_ratio,
    spectral_angle_mapper,
)

from clippan_lib.errors import DataError
from clippan_lib.metrics import BETTER, reduced_scores
from clippan_lib.metrics.reference import block_moments, crop_border, ergas, mpsnr, q2n, sam, scc
from clippan_lib.mtf import degrade, exp23
from clippan_lib.sensors import get_sensor

few = settings(max_examples=10, deadline=None)
SCORES = {
    "MPSNR": mpsnr,
    "ERGAS": partial(ergas, ratio=4),
    "SAM": sam,
    "Q2n": partial(q2n, block=4),
    "SCC": scc,
}


def planar(array) -> torch.Tensor:
    """(row, column, band) or (row, column) of any number type, as a float64 batch of one."""
    array = np.atleast_3d(np.asarray(array, dtype=np.float64))
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))[None]


def formula(seed: int, b: int = 2, c: int = 4, h: int = 5, w: int = 7) -> torch.Tensor:
    """Digital numbers from 1 to 211, the same on every machine."""
    k, i, j, n = torch.meshgrid(*(torch.arange(s) for s in (c, h, w, b)), indexing="ij")
    value = (seed * 17 + 29 * k + 7 * i * i + 13 * j + 5 * i * j + 53 * n + 3 * i * j * k) % 211 + 1
    return value.permute(3, 0, 1, 2).double()


def noisy(image: torch.Tensor, amount: float, seed: int) -> torch.Tensor:
    noise = torch.randn(image.shape, dtype=image.dtype, generator=torch.Generator().manual_seed(seed))
    return image + amount * noise


# The definition of the hypercomplex product, element by element.
def times(p: list[float], q: list[float]) -> list[float]:
    if len(p) == 1:
        return [p[0] * q[0]]
    half = len(p) // 2
    a, b, c, d = p[:half], p[half:], q[:half], q[half:]
    left = [u - v for u, v in zip(times(a, c), times(star(d), b), strict=True)]
    right = [u + v for u, v in zip(times(star(a), star(d)), times(c, star(b)), strict=True)]
    return left + right


def star(q: list[float]) -> list[float]:
    return [q[0], *(-v for v in q[1:])]


def slow_q2n(hrms: np.ndarray, gt: np.ndarray, block: int) -> float:
    """Q2n of one (c, H, W) image, pixel by pixel; no band of gt may be constant in a block."""
    c, height, width = gt.shape
    size = 1
    while size < c:
        size *= 2
    pad = [(0, 0), (0, -height % block), (0, -width % block)]
    hrms, gt = np.pad(hrms, pad, mode="symmetric"), np.pad(gt, pad, mode="symmetric")
    scores = []
    for top in range(0, gt.shape[1], block):
        for left in range(0, gt.shape[2], block):
            tiles = [image[:, top : top + block, left : left + block].reshape(c, -1) for image in (gt, hrms)]
            x, y = (np.ones((size, block * block)) for _ in tiles)
            for band in range(c):
                mean, deviation = tiles[0][band].mean(), tiles[0][band].std(ddof=1)
                x[band], y[band] = ((tile[band] - mean) / deviation + 1 for tile in tiles)
            scores.append(slow_quality(x, y))
    return float(np.mean(scores))


def slow_quality(x: np.ndarray, y: np.ndarray) -> float:
    count = x.shape[1]
    unbias = count / (count - 1)
    mean_x, mean_y = x.mean(1), y.mean(1)
    products = np.mean([times(list(x[:, n]), star(list(y[:, n]))) for n in range(count)], 0)
    q = unbias * (products - np.array(times(list(mean_x), star(list(mean_y)))))
    power_x, power_y = (mean_x**2).sum(), (mean_y**2).sum()
    spread = unbias * ((x**2).sum(0).mean() - power_x + (y**2).sum(0).mean() - power_y)
    return 2 * np.sqrt(power_x * power_y) / (power_x + power_y) * 2 / spread * np.linalg.norm(q)


def slow_scc(hrms: np.ndarray, gt: np.ndarray) -> float:
    def edges(image: np.ndarray) -> np.ndarray:
        p = np.pad(image[:, 1:-1, 1:-1], [(0, 0), (1, 1), (1, 1)])
        rows = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
        columns = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
        return np.hypot(rows[:, :-2] - rows[:, 2:], columns[:, :, :-2] - columns[:, :, 2:]).ravel()

    a, b = edges(hrms), edges(gt)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize(("cut", "section"), [(21, "rr_metrics_cut21"), (0, "rr_metrics_nocut")])
def test_scores_equal_the_toolbox_on_every_stored_method(shared, cut, section):
    folder = shared / "reference"
    expected = json.loads((folder / "reference.json").read_text())["scenes"]["WV2_RR"][section]
    images = {**np.load(folder / "WV2_RR.npz"), **np.load(folder / "WV2_RR_extra.npz")}
    images["EXP"], gt = images["exp"], planar(images["gt"]) / 2047
    assert len(expected) == 23
    for method, numbers in expected.items():
        scores = reduced_scores(planar(images[method]) / 2047, gt, 4, dn_max=2047, cut=cut)
        for name in ("Q2n", "SAM", "ERGAS", "SCC"):
            assert float(scores[name]) == pytest.approx(numbers[name], rel=1e-9), (method, name)


def test_scores_equal_the_toolbox_on_a_larger_scene_degraded_here(shared):
    folder = shared / "reference"
    scenes = json.loads((folder / "reference.json").read_text())["large_scenes_metrics_only"]["scenes"]
    gt = planar(np.load(folder / "WV2_RR256_inputs.npz")["gt"])
    lms = exp23(degrade(gt, get_sensor("WV2").gnyq, 4).float().double(), 4, "circular").float().double()
    scores = reduced_scores(lms / 2047, gt / 2047, 4, dn_max=2047, cut=21)
    for name, number in scenes["WV2_RR256"]["rr_metrics_cut21"]["EXP"].items():
        if name in scores:
            assert float(scores[name]) == pytest.approx(number, rel=1e-9), name


def test_a_peak_ratio_worked_by_hand_is_the_mean_over_bands():
    gt = torch.full((1, 2, 5, 7), 0.5)
    hrms = gt + torch.tensor([0.1, 0.01]).view(1, 2, 1, 1)
    assert mpsnr(hrms, gt).tolist() == pytest.approx([(20 + 40) / 2], rel=1e-5)


def test_an_ergas_worked_by_hand():
    gt = torch.tensor([0.5, 0.25], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 5, 7)
    assert ergas(gt + 0.1, gt, 4).tolist() == pytest.approx([25 * 0.1**0.5], rel=1e-12)


def test_an_angle_worked_by_hand_averages_pixels_and_leaves_zero_ones_out():
    gt = torch.tensor([[[[1.0, 2.0, 0.0]], [[0.0, 1.0, 0.0]]]])
    hrms = torch.tensor([[[[3.0, 4.0, 1.0]], [[3.0, 2.0, 1.0]]]])
    assert sam(hrms, gt).tolist() == pytest.approx([(45 + 0) / 2], rel=1e-6)


def test_an_edge_correlation_worked_by_hand():
    gt, hrms = torch.zeros(2, 1, 1, 4, 4, dtype=torch.float64)
    gt[..., 1, 1] = hrms[..., 1, 2] = 1  # magnitudes (0, 2, 2, sqrt 2) and (2, 0, sqrt 2, 2)
    assert scc(hrms, gt).tolist() == pytest.approx([4 * 2**0.5 / 10], rel=1e-12)


@pytest.mark.parametrize("bands", [1, 2, 3, 8])
def test_a_hypercomplex_quality_worked_by_hand(bands):
    gt = formula(1, 1, bands, 4, 4)
    mean, deviation = gt.mean((-2, -1), keepdim=True), gt.flatten(2).std(-1)[..., None, None]
    stretched = mean + 3 * (gt - mean)  # same means, three times the deviation: 2*3/(1+9)
    assert q2n(stretched, gt, block=4).tolist() == pytest.approx([0.6], rel=1e-12)
    if bands != 3:  # the fourth band, there only to fill up, does not move
        assert q2n(gt + deviation, gt, block=4).tolist() == pytest.approx([2 * 1 * 2 / (1 + 4)], rel=1e-12)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 8])
def test_a_hypercomplex_quality_equals_its_definition_pixel_by_pixel(bands):
    gt, hrms = formula(1, 2, bands), formula(3, 2, bands)
    expected = [slow_q2n(h.numpy(), g.numpy(), 4) for h, g in zip(hrms, gt, strict=True)]
    assert q2n(hrms, gt, block=4).tolist() == pytest.approx(expected, rel=1e-10)
    assert q2n(hrms / 255, gt / 255, block=4, dn_max=255).tolist() == pytest.approx(expected, rel=1e-10)


def test_edge_correlation_equals_its_definition():
    gt, hrms = formula(1), formula(3)
    expected = [slow_scc(h.numpy(), g.numpy()) for h, g in zip(hrms, gt, strict=True)]
    assert scc(hrms, gt).tolist() == pytest.approx(expected, rel=1e-10)


def test_peak_ratio_ergas_and_angle_agree_with_torchmetrics():
    gt, hrms = formula(1) / 255, formula(3) / 255
    degrees = torch.rad2deg(spectral_angle_mapper(hrms, gt, reduction="none")).mean((-2, -1))
    torch.testing.assert_close(sam(hrms, gt), degrees, rtol=1e-9, atol=0)
    # torchmetrics takes low/high for its ratio
    others = error_relative_global_dimensionless_synthesis(hrms, gt, ratio=4, reduction="none")
    torch.testing.assert_close(ergas(hrms, gt, 4), others, rtol=1e-9, atol=0)
    bands = [[peak_signal_noise_ratio(h, g, data_range=1.0) for h, g in zip(hs, gs, strict=True)]
             for hs, gs in zip(hrms, gt, strict=True)]  # fmt: skip
    assert mpsnr(hrms, gt).tolist() == pytest.approx(np.mean(bands, 1).tolist(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_perfect_image_has_the_best_scores(dtype, device):
    gt = (formula(1) / 255).to(device, dtype)
    assert mpsnr(gt, gt).tolist() == [torch.inf] * 2
    assert ergas(gt, gt, 4).tolist() == sam(gt, gt).tolist() == [0.0, 0.0]
    for score in (scc(gt, gt), q2n(gt, gt, block=4), q2n(gt, gt, block=4, dn_max=255)):
        torch.testing.assert_close(score, torch.ones(2, dtype=dtype, device=device))


def test_scores_of_a_batch_are_those_of_its_images():
    gt, hrms = formula(1) / 255, formula(3) / 255
    for name, score in SCORES.items():
        alone = torch.cat([score(hrms[i : i + 1], gt[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(score(hrms, gt), alone, rtol=1e-12, atol=0, msg=name)
        assert alone[0] != alone[1]


def test_single_precision_is_enough_for_five_digits(device):
    gt, hrms = formula(1, 1, 8, 64, 64) / 255, formula(3, 1, 8, 64, 64) / 255
    double = reduced_scores(hrms, gt, 4, 255)
    single = reduced_scores(hrms.float().to(device), gt.float().to(device), 4, 255)
    for name in double:
        assert float(single[name]) == pytest.approx(float(double[name]), rel=1e-5), name


@few
@given(seed=st.integers(0, 99), order=st.permutations(range(4)))
def test_the_order_of_bands_does_not_matter(seed, order):
    gt = formula(seed) / 255
    hrms = noisy(gt, 0.1, seed)
    for name in ("MPSNR", "ERGAS", "SAM", "SCC"):
        score = SCORES[name]
        torch.testing.assert_close(score(hrms[:, order], gt[:, order]), score(hrms, gt), rtol=1e-10, atol=0)


@few
@given(seed=st.integers(0, 99), factor=st.floats(0.01, 100))
def test_a_common_scale_does_not_matter_and_angles_ignore_brightness(seed, factor):
    gt = formula(seed) / 255
    hrms = noisy(gt, 0.1, seed)
    for name in ("ERGAS", "SAM", "Q2n", "SCC"):
        score = SCORES[name]
        torch.testing.assert_close(score(factor * hrms, factor * gt), score(hrms, gt), rtol=1e-9, atol=0)
    shade = 0.5 + torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(sam(factor * shade * hrms, gt), sam(hrms, gt), rtol=1e-9, atol=0)


@few
@given(seed=st.integers(0, 99))
def test_more_of_the_same_noise_is_never_better(seed):
    gt = formula(seed, h=12, w=12) / 255
    for name, score in SCORES.items():
        little, much = (score(noisy(gt, amount, seed), gt) for amount in (0.02, 0.3))
        assert ((much < little) if BETTER[name] == "high" else (much > little)).all(), name


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_those_of_finite_differences(name, device):
    gt = formula(1, 2, 3, 4, 5) / 255
    hrms, gt = noisy(gt, 0.1, 0).to(device).requires_grad_(), gt.to(device)
    assert torch.autograd.gradcheck(lambda x: SCORES[name](x, gt), hrms, nondet_tol=1e-12)


@pytest.mark.parametrize("name", ["ERGAS", "SAM", "Q2n", "SCC"])
@pytest.mark.parametrize("case", ["perfect", "constant", "zero", "constant reference", "opposite"])
def test_gradients_are_finite_where_a_score_has_a_corner(name, case, device):
    gt = formula(1, 1, 3, 8, 8) / 255
    hrms = gt.clone()
    if case == "constant":
        hrms[..., :4, :4] = 0.5
    elif case == "zero":
        hrms[..., :4, :4] = 0
    elif case == "constant reference":
        gt[..., :4, :4] = 1.0
    elif case == "opposite":
        hrms = -gt
    hrms = hrms.float().to(device).requires_grad_()
    (gradient,) = torch.autograd.grad(SCORES[name](hrms, gt.float().to(device)).sum(), hrms)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 0.1, 0.7, 1500.0])
def test_constant_blocks_are_perfect_if_equal_and_worthless_if_not(dtype, level):
    gt = formula(1, 1, 3, 4, 8).to(dtype)
    gt[..., :4] = level
    hrms = gt.clone()
    assert block_moments(gt, 4).variance[0, 0].tolist() == [0.0] * 3
    assert q2n(hrms, gt, block=4).tolist() == pytest.approx([1.0], rel=1e-6)
    hrms[..., :4] += 0.25 * level + 1e4 * (level == 0)
    assert q2n(hrms, gt, block=4).tolist() == pytest.approx([0.5], abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.1, 0.7, 1500.3])
def test_a_constant_band_adds_nothing_but_its_mean(dtype, level):
    gt = formula(1, 1, 2, 5, 5).to(dtype)
    gt[:, 0] = level
    stretched = gt.clone()
    stretched[:, 1] = gt[:, 1].mean() + 3 * (gt[:, 1] - gt[:, 1].mean())
    assert q2n(gt, gt, block=5).tolist() == pytest.approx([1.0], rel=1e-6)
    assert q2n(stretched, gt, block=5).tolist() == pytest.approx([0.6], rel=1e-5)


def test_digital_numbers_are_rounded_and_cut_at_zero_before_q2n():
    gt, hrms = formula(1), formula(3)
    below = hrms.clone()
    hrms[..., 0, 0], below[..., 0, 0] = 0, -3
    exact = q2n(hrms / 255, gt / 255, block=4, dn_max=255)
    torch.testing.assert_close(q2n((below + 0.4) / 255, (gt - 0.4) / 255, block=4, dn_max=255), exact)
    assert (q2n(below / 255, gt / 255, block=4) != exact).all()


def test_the_border_cut_keeps_what_the_toolbox_keeps():
    image = formula(1, h=50, w=60)
    assert torch.equal(crop_border(image), image[..., 20:-21, 20:-21])
    assert crop_border(image, 0) is image
    assert crop_border(image, 25).shape == (2, 4, 1, 11)


def test_the_reduced_table_holds_each_score_after_the_cut():
    gt, hrms = formula(1, 1, 4, 66, 70) / 255, formula(3, 1, 4, 66, 70) / 255
    table = reduced_scores(hrms, gt, 4, dn_max=255, cut=2)
    h, g = crop_border(hrms, 2), crop_border(gt, 2)
    assert table["Q2n"] == q2n(h, g, dn_max=255)
    assert (table["MPSNR"], table["ERGAS"]) == (mpsnr(h, g), ergas(h, g, 4))
    assert (table["SAM"], table["SCC"]) == (sam(h, g), scc(h, g))
    assert set(table) < set(BETTER)


@pytest.mark.parametrize("name", SCORES)
def test_images_that_cannot_be_compared_are_refused(name):
    gt = formula(1)
    with pytest.raises(ValueError, match=r"\(2, 4, 5, 6\).*\(2, 4, 5, 7\)"):
        SCORES[name](gt[..., :6], gt)
    bad = gt.clone()
    bad[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="gt has 1 values that are not finite"):
        SCORES[name](gt, bad)


def test_what_a_score_cannot_handle_is_refused_with_the_value_seen():
    gt = formula(1)
    with pytest.raises(ValueError, match="2 bands of gt have mean 0"):
        ergas(gt, gt * torch.tensor([1.0, 0, 1, 1]).view(1, 4, 1, 1), 4)
    with pytest.raises(ValueError, match="every pixel of an image is zero"):
        sam(gt, torch.zeros_like(gt))
    with pytest.raises(ValueError, match=r"sides \(2, 7\) must be 3"):
        scc(gt[..., :2, :], gt[..., :2, :])
    with pytest.raises(ValueError, match="side 5 is under half of the block 32"):
        q2n(gt, gt)
    with pytest.raises(ValueError, match="block of 1"):
        q2n(gt, gt, block=1)
    with pytest.raises(ValueError, match=r"cut of 21 does not fit sides \(5, 7\)"):
        crop_border(gt)
    with pytest.raises(ValueError, match="cut of -1"):
        crop_border(gt, -1)
    with pytest.raises(ValueError, match=r"crop the image to \(4, 4\)"):
        block_moments(gt, 4)
    with pytest.raises(ValueError, match="smaller block"):
        block_moments(gt, 32)


@pytest.mark.parametrize(
    "score", [mpsnr, partial(q2n, block=4, dn_max=2047), partial(reduced_scores, ratio=4, dn_max=255)]
)
def test_digital_numbers_are_refused_where_a_score_belongs_to_0_to_1(score):
    gt = formula(1)
    with pytest.raises(
        DataError, match=r"gt has values as large as 211, .* divide by the sensor's largest digital n"
    ):
        score(gt, gt)
    with pytest.raises(DataError, match="gt has values as large as -30000"):
        score(gt / 255, gt / 255 - 30000 * (gt == gt.amin()))
    with pytest.raises(DataError, match="hrms has values as large as 211"):
        score(gt, gt / 255)


def test_overshoot_and_pixels_that_went_astray_are_scored():
    gt = 1.5 * formula(1) / 211 - 0.2
    near = gt + 1e-3
    astray = near.index_put((torch.tensor(0),) * 4, torch.tensor(100.0).double())
    for score in (mpsnr, partial(q2n, block=4, dn_max=2047)):
        assert score(astray, gt)[0] < score(near, gt)[0] and score(astray, gt)[1] == score(near, gt)[1]


def test_of_digital_numbers_a_dn_max_of_1_gives_the_q2n_of_the_same_images_in_0_to_1():
    hrms, gt = formula(1), formula(2)
    scaled = q2n(hrms / 255, gt / 255, block=4, dn_max=255)
    torch.testing.assert_close(q2n(hrms, gt, block=4, dn_max=1), scaled)
