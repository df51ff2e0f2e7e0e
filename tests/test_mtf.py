"""The imaging operators: the toolbox's numbers, adjoints, phase and borders."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib.mtf import (
    decimate,
    degrade,
    exp23,
    filter_image,
    imresize,
    lowpass_kernel,
    mtf_kernel,
    separable,
    sharpened,
    upsample,
)
from clippan_lib.sensors import get_sensor

GNYQ = (0.34, 0.32, 0.30, 0.22)


def image(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference(array):
    """(row, column[, band]) numbers as a float64 batch of one."""
    return torch.from_numpy(np.atleast_3d(array).astype(np.float64).transpose(2, 0, 1))[None]


@pytest.mark.parametrize(
    ("gain", "centre", "total"),
    [
        (0.34, 0.043309, 0.998869),
        (0.325, 0.041570, 0.998823),
        (0.3, 0.038807, 0.998740),
        (0.15, 0.024628, 0.998024),
    ],
)
def test_kernels_have_the_toolboxs_centre_and_sum(gain, centre, total):
    (kernel,) = mtf_kernel([gain], 4)
    assert kernel[20, 20].item() == pytest.approx(centre, abs=6e-7)
    assert kernel.sum().item() == pytest.approx(total, abs=6e-7)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_the_response_is_the_gain_a_41st_short_of_nyquist(ratio):
    # the toolbox counts 40 of the 41 samples of the response; window and cut leave a few parts in a thousand
    frequency = torch.exp(-1j * torch.pi / ratio * 40 / 41 * torch.arange(-20, 21, dtype=torch.float64))
    response = (mtf_kernel(GNYQ, ratio).sum(1) * frequency).sum(1).abs()
    np.testing.assert_allclose(response, GNYQ, rtol=5e-3)


def test_kernels_are_the_same_from_all_eight_sides():
    kernel = mtf_kernel([0.3], 4)
    for side in (kernel.mT, kernel.flip(-1), kernel.rot90(1, (-2, -1))):
        np.testing.assert_allclose(side, kernel, atol=1e-17)


def test_changing_a_kernel_does_not_change_the_next_one():
    mtf_kernel(GNYQ, 4).zero_()
    lowpass_kernel(4).zero_()
    assert mtf_kernel(GNYQ, 4).sum() > 3.9
    assert lowpass_kernel(4).sum() > 0.9


@pytest.mark.parametrize(
    ("gnyq", "ratio", "size"),
    [((), 4, 41), ((0.3, 1.0), 4, 41), ((0.0,), 4, 41), ((0.3,), 1, 41), ((0.3,), 4, 40)],
)
def test_kernels_that_cannot_be_are_refused(gnyq, ratio, size):
    with pytest.raises(ValueError, match="must"):
        mtf_kernel(gnyq, ratio, size)


def test_a_lowpass_kernel_of_even_size_is_refused():
    with pytest.raises(ValueError, match="size 40 odd"):
        lowpass_kernel(4, 40)


def test_a_point_is_spread_into_the_kernel_of_its_band():
    kernels, point = mtf_kernel(GNYQ, 4), torch.zeros(2, 4, 41, 43, dtype=torch.float64)
    point[..., 20, 21] = 1
    np.testing.assert_allclose(filter_image(point, kernels)[1, ..., 1:42], kernels.flip(-1, -2), atol=1e-15)


def test_a_constant_image_is_multiplied_by_the_sum_up_to_the_border():
    filtered = filter_image(torch.ones(1, 4, 5, 7, dtype=torch.float64), mtf_kernel(GNYQ, 4))
    np.testing.assert_allclose(
        filtered, mtf_kernel(GNYQ, 4).sum((1, 2))[None, :, None, None].expand(1, 4, 5, 7)
    )


def test_kernels_that_do_not_fit_the_bands_are_refused():
    with pytest.raises(ValueError, match="3 kernels for 4 bands"):
        filter_image(image(1, 4, 8, 8), mtf_kernel(GNYQ[:3], 4))


def test_the_pixels_kept_are_the_third_of_each_four():
    grid = torch.arange(8.0).expand(1, 1, 8, 8)
    assert decimate(grid, 4)[0, 0, 0].tolist() == [2, 6]
    assert decimate(grid.mT, 2)[0, 0, :, 0].tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("operator", [decimate, lambda x, ratio: degrade(x, GNYQ, ratio)])
def test_sides_that_are_no_multiple_of_the_ratio_are_refused(operator):
    with pytest.raises(ValueError, match=r"\(10, 12\) are no multiples of ratio 4"):
        operator(image(1, 4, 10, 12), 4)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([2, 3, 4, 6]))
def test_degrading_is_one_strided_convolution_at_the_phase(h, w, ratio):
    x, kernels = image(2, 4, ratio * h, ratio * w, seed=h), mtf_kernel(GNYQ, ratio)
    padded = F.pad(x, (20,) * 4, mode="replicate")[..., ratio // 2 :, ratio // 2 :]
    expected = F.conv2d(padded, kernels[:, None], stride=ratio, groups=4)
    np.testing.assert_allclose(degrade(x, GNYQ, ratio), expected, atol=1e-13)


def test_one_gain_serves_all_bands():
    x = image(2, 4, 20, 28)
    np.testing.assert_allclose(degrade(x, [0.3], 4), degrade(x, [0.3] * 4, 4), atol=1e-14)


@pytest.mark.parametrize("ratio", [2, 4])
def test_a_point_is_interpolated_by_the_published_taps(ratio):
    # ratio 4: the second pass leaves the points at distance 2 as they are, so they hold the first pass's tap
    point = torch.zeros(1, 1, 24, 24, dtype=torch.float64)
    point[..., 12, 12] = 1
    row = exp23(point, ratio)[0, 0, 12 * ratio + ratio // 2]
    centre = 12 * ratio + ratio // 2
    assert row[centre] == 1
    assert row[centre + ratio // 2].item() == pytest.approx(0.61066818237, abs=1e-12)
    assert row[centre + 3 * ratio // 2].item() == pytest.approx(-0.145397186478, abs=1e-12)


@pytest.mark.parametrize("border", ["circular", "replicate"])
@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 6])
def test_each_low_resolution_pixel_is_kept_at_its_phase(ratio, border):
    x = image(2, 4, 5, 7)
    assert torch.equal(decimate(upsample(x, ratio, border), ratio), x)


@pytest.mark.parametrize("border", ["circular", "replicate"])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_a_constant_image_stays_constant_up_to_the_border(ratio, border):
    np.testing.assert_allclose(upsample(torch.ones(1, 1, 3, 5).double(), ratio, border), 1, atol=1e-9)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_a_ramp_is_interpolated_linearly_with_pixel_k_at_its_phase(ratio):
    x = torch.arange(30.0, dtype=torch.float64).expand(1, 1, 30, 30)
    row = upsample(x, ratio, "replicate")[0, 0, 0, 9 * ratio : -9 * ratio]
    expected = (torch.arange(30 * ratio)[9 * ratio : -9 * ratio] - ratio // 2) / ratio
    np.testing.assert_allclose(row, expected, atol=1e-7)


def test_the_circular_border_turns_with_the_image_and_the_replicated_one_does_not():
    x = image(1, 2, 12, 16)
    turned = x.roll((1, 2), (-2, -1))
    around = exp23(x, 4, "circular").roll((4, 8), (-2, -1))
    np.testing.assert_allclose(exp23(turned, 4, "circular"), around, atol=1e-14)
    assert (exp23(turned, 4) - exp23(x, 4).roll((4, 8), (-2, -1))).abs().max() > 0.1


def test_replicating_is_interpolating_a_padded_image():
    x = image(2, 4, 5, 7)
    padded = exp23(F.pad(x, (9,) * 4, mode="replicate"), 4, "circular")[..., 36:-36, 36:-36]
    np.testing.assert_allclose(exp23(x, 4), padded, atol=1e-14)


def test_replicating_does_not_let_the_other_side_in():
    edge = torch.zeros(1, 1, 24, 24)
    edge[..., 12:] = 1
    assert exp23(edge, 4)[..., 0].abs().max() < 1e-3
    assert exp23(edge, 4, "circular")[..., 0].min() > 0.1


def test_interpolation_is_not_rounded_where_layers_are(device):
    x = image(1, 4, 5, 7).float().to(device)
    plain = upsample(x, 4)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(upsample(x, 4), plain)


def test_other_ratios_are_refused_by_exp23_and_under_two_by_upsample():
    with pytest.raises(ValueError, match="by 2 or 4, not by 3"):
        exp23(image(1, 1, 5, 7), 3)
    with pytest.raises(ValueError, match="ratio 1 must be 2 or more"):
        upsample(image(1, 1, 5, 7), 1)


def test_halving_a_point_gives_keys_cubic_stretched_to_two_pixels():
    point = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    point[..., 3] = 1
    expected = [-0.03515625, 0.43359375, 0.11328125, -0.01171875]
    np.testing.assert_allclose(imresize(point, (1, 4))[0, 0, 0], expected, atol=1e-15)


def test_the_border_is_mirrored_when_resizing():
    x = image(1, 2, 16, 24)
    mirrored = torch.cat([x.flip(-1), x, x.flip(-1)], -1)
    mirrored = torch.cat([mirrored.flip(-2), mirrored, mirrored.flip(-2)], -2)
    np.testing.assert_allclose(imresize(x, (4, 6)), imresize(mirrored, (12, 18))[..., 4:8, 6:12], atol=1e-14)


@pytest.mark.parametrize("size", [(10, 16), (13, 19), (80, 100)])
def test_resizing_agrees_with_torch_away_from_the_border(size):
    x = image(1, 2, 40, 50)
    ours, theirs = imresize(x, size), F.interpolate(x, size, mode="bicubic", antialias=True)
    rows, columns = size[0] // 4, size[1] // 4
    inside = (..., slice(rows, -rows), slice(columns, -columns))
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-6)


def test_resizing_to_the_same_size_changes_nothing():
    x = image(2, 4, 5, 7)
    np.testing.assert_allclose(imresize(x, (5, 7)), x, atol=1e-15)


def test_resizing_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"\(0, 3\) must be at least 1 x 1"):
        imresize(image(1, 1, 5, 7), (0, 3))


OPERATORS = {
    "filter": lambda x: filter_image(x, mtf_kernel(GNYQ, 4)),
    "decimate": lambda x: decimate(x, 4),
    "degrade": lambda x: degrade(x, GNYQ, 4),
    "imresize": lambda x: imresize(x, (5, 7)),
    "exp23": lambda x: exp23(x, 4),
    "exp23_circular": lambda x: exp23(x, 2, "circular"),
    "upsample_cubic": lambda x: upsample(x, 3),
    "separable": lambda x: separable(x, np.eye(3, 20), np.eye(2, 28)),
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_the_gradient_is_the_adjoint(operator, device):
    x = image(2, 4, 20, 28).to(device).requires_grad_()
    out = operator(x)
    y = image(*out.shape, seed=1).to(device)
    (back,) = torch.autograd.grad(out, x, y)
    assert (out * y).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-12)
    np.testing.assert_allclose(
        operator(3 * x + back).detach().cpu(), (3 * out + operator(back)).detach().cpu(), atol=1e-11
    )


@pytest.mark.parametrize("name", ["degrade", "imresize", "exp23"])
def test_gradients_are_right(name, device):
    x = image(1, 4, 4, 8).to(device).requires_grad_()
    assert torch.autograd.gradcheck(OPERATORS[name], x, fast_mode=True, nondet_tol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_single_precision_in_gives_single_precision_out(operator, device):
    x = image(2, 4, 20, 28)
    out = operator(x.float().to(device))
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.cpu(), operator(x), atol=1e-5)


def test_operators_first_used_in_inference_mode_can_be_trained_through_later():
    with torch.inference_mode():
        degrade(exp23(image(1, 1, 6, 9), 4), [0.21], 4)
    x = image(1, 1, 6, 9).requires_grad_()
    degrade(exp23(x, 4), [0.21], 4).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["QB", "IKONOS", "GE1", "WV4", "WV2", "WV3"])
def test_kernels_equal_the_toolboxs(shared, name):
    stored = np.load(shared / "reference" / "mtf_kernels_all.npz")
    sensor, key = get_sensor(name), {"GE1": "GeoEye1"}.get(name, name)
    np.testing.assert_allclose(mtf_kernel(sensor.gnyq, 4), stored[f"ms_{key}"].transpose(2, 0, 1), atol=1e-16)
    np.testing.assert_allclose(mtf_kernel([sensor.gnyq_pan], 4)[0], stored[f"pan_{key}"], atol=1e-16)


def test_the_default_and_the_lowpass_kernel_equal_the_toolboxs(shared):
    stored = np.load(shared / "reference" / "mtf_kernels_all.npz")
    np.testing.assert_allclose(mtf_kernel([0.3], 4)[0], stored["ms_other"], atol=1e-16)
    np.testing.assert_allclose(lowpass_kernel(4)[0], stored["lpfiltergauss_ratio4"], atol=1e-16)
    assert np.abs(stored["ms_other"] - stored["lpfiltergauss_ratio4"]).max() > 1e-3


def test_a_degraded_and_interpolated_scene_equals_the_toolboxs(shared):
    scene = np.load(shared / "reference" / "WV2_RR.npz")
    # 6.2e-5 is half a float32 step of digital numbers up to 2047, and the tolerance its README gives for exp
    ms_lr = reference(scene["ms_lr"])
    np.testing.assert_allclose(degrade(reference(scene["gt"]), get_sensor("WV2").gnyq, 4), ms_lr, atol=6.2e-5)
    np.testing.assert_allclose(
        imresize(reference(scene["pan_hr"]), (128, 128)), reference(scene["pan_lr"]), atol=6.2e-5
    )
    np.testing.assert_allclose(exp23(ms_lr, 4, "circular"), reference(scene["exp"]), atol=6.2e-5)


# ---------------------------------------------------------------- sharpness at the image's own Nyquist frequency


def wave(across: float, down: float = 0.0, side: int = 96):
    """A wave of so many periods a pixel."""
    place = torch.arange(side, dtype=torch.float64)
    return torch.cos(2 * torch.pi * (across * place + down * place[:, None]))[None, None]


@pytest.mark.parametrize("gain", [0.3, 0.8, 1.0, 2.5])
@pytest.mark.parametrize(("frequency", "power"), [(0.0, 0), (0.25, 0.25), (0.5, 1)])
def test_a_wave_is_changed_by_the_gain_to_the_square_of_its_share_of_nyquist(gain, frequency, power):
    inner = (..., slice(24, -24), slice(24, -24))
    for seen in (wave(frequency), wave(0, frequency)):
        expected = gain**power * seen
        assert torch.allclose(sharpened(seen, gain)[inner], expected[inner], atol=0.02 * max(1, gain))


def test_towards_the_corner_of_the_spectrum_nothing_grows_beyond_the_gain():
    inner = (..., slice(24, -24), slice(24, -24))
    corner = wave(0.5, 0.5)
    assert torch.allclose(sharpened(corner, 2.0)[inner], 2.0 * corner[inner], atol=0.05)
    assert torch.allclose(sharpened(corner, 0.5)[inner], 0.25 * corner[inner], atol=0.05)


def test_what_is_softened_can_be_sharpened_back_along_the_axes():
    smooth = upsample(image(1, 2, 12, 12), 4)
    inner = (..., slice(10, -10), slice(10, -10))
    assert (sharpened(sharpened(smooth, 0.5), 2.0) - smooth)[inner].abs().max() < 0.01


def test_a_gain_of_1_leaves_the_image_as_it_is_and_the_gradient_is_right():
    seen = image(1, 1, 6, 7).requires_grad_()
    assert sharpened(seen, 1.0) is seen
    assert torch.autograd.gradcheck(lambda x: sharpened(x, 1.7), (seen,))


@pytest.mark.parametrize("gain", [0.0, -1.0, 4.1])
def test_gains_that_are_none_are_refused(gain):
    with pytest.raises(ValueError, match=f"gain {gain} at Nyquist must lie above 0, and be 4 at most"):
        sharpened(image(1, 1, 8, 8), gain)
