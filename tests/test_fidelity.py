"""Low-level losses of Stage II: hand values, limits, properties, gradients."""

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure

from clippan_lib.losses.fidelity import fit_pan_response, pseudo, qnr_loss, spatial, spectral, ssim
from clippan_lib.metrics.no_reference import pan_lowpass, qnr
from clippan_lib.mtf import degrade, exp23, imresize

GNYQ = (0.34, 0.32, 0.30, 0.22)


def image(*shape: int, seed: int = 0, device: str = "cpu") -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device)


def test_ssim_equals_torchmetrics_where_the_window_lies_inside():
    x, y = image(3, 2, 23, 17), image(3, 2, 23, 17, seed=1)
    _, padded = structural_similarity_index_measure(
        x, y, data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(ssim(x, y), padded[..., 5:-5, 5:-5].mean((1, 2, 3)), rtol=1e-9, atol=1e-12)


def test_ssim_is_one_for_equal_images_and_the_hand_worked_value_for_constants():
    x = image(2, 3, 12, 15)
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))
    dark, bright = (torch.full((1, 1, 11, 11), value, dtype=torch.float64) for value in (0.2, 0.4))
    assert ssim(dark, bright).item() == pytest.approx((2 * 0.08 + 1e-4) / (0.04 + 0.16 + 1e-4), abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 1, 10, 12), (1, 1, 12, 13)])
def test_ssim_refuses_small_or_unequal_images(shape):
    with pytest.raises(ValueError, match="equal shapes, 11 pixels or more"):
        ssim(image(*shape), image(1, 1, shape[2], 12))


@pytest.mark.parametrize("gnyq", [None, GNYQ])
def test_spectral_is_zero_for_an_output_that_degrades_to_the_input(gnyq):
    hrms = image(2, 4, 48, 64)
    lrms = imresize(hrms, (12, 16)) if gnyq is None else degrade(hrms, gnyq, 4)
    assert spectral(hrms, lrms, 4, gnyq).item() == pytest.approx(0, abs=1e-12)
    assert spectral(image(2, 4, 48, 64, seed=1), lrms, 4, gnyq).item() > 0.1


def test_spectral_of_constant_images_is_the_hand_worked_value():
    hrms, lrms = 0.5 + 0 * image(1, 1, 48, 48), 0.3 + 0 * image(1, 1, 12, 12)
    # MSE 0.04; SSIM of constants: (2*0.5*0.3 + 1e-4) / (0.25 + 0.09 + 1e-4)
    assert spectral(hrms, lrms, 4).item() == pytest.approx(0.04 + 1 - 0.3001 / 0.3401, abs=1e-9)


def test_bicubic_and_the_sensors_degradation_differ_by_the_phase():
    hrms = image(1, 4, 64, 64)
    lrms = degrade(hrms, GNYQ, 4)
    assert spectral(hrms, lrms, 4, GNYQ) < 1e-9 < 0.01 < spectral(hrms, lrms, 4)


def test_pan_response_recovers_known_weights_and_offset():
    lrms = image(3, 4, 5, 7)
    weights = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
    pan_lr = (lrms * weights[:, None, None]).sum(1, keepdim=True) + 0.05
    response = fit_pan_response(lrms, pan_lr)
    torch.testing.assert_close(response.weights, weights)
    torch.testing.assert_close(response.offset, torch.tensor([0.05], dtype=torch.float64))
    torch.testing.assert_close(response(lrms), pan_lr)


def test_pan_response_survives_two_equal_bands():
    band = image(2, 1, 5, 7)
    response = fit_pan_response(band.expand(2, 3, 5, 7), band)
    torch.testing.assert_close(response(band.expand(2, 3, 5, 7)), band)


def test_pan_response_cannot_be_trained():
    assert list(fit_pan_response(image(1, 4, 5, 7), image(1, 1, 5, 7, seed=1)).parameters()) == []


def test_pan_response_refuses_another_size():
    with pytest.raises(ValueError, match="differ in size"):
        fit_pan_response(image(1, 4, 5, 7), image(1, 1, 10, 14))


def test_spatial_is_zero_where_the_bands_sum_to_pan_and_grows_with_blur():
    hrms = image(1, 4, 32, 32)
    response = fit_pan_response(hrms, hrms.mean(1, keepdim=True))
    pan = response(hrms)
    assert spatial(hrms, pan, response).item() == pytest.approx(0, abs=1e-9)
    mild, strong = (imresize(imresize(hrms, (n, n)), (32, 32)) for n in (16, 8))
    assert 0.01 < spatial(mild, pan, response) < spatial(strong, pan, response)


def test_qnr_loss_is_the_complement_of_the_metric():
    lrms, pan = image(2, 4, 16, 16), image(2, 1, 64, 64, seed=1)
    hrms, lms, pan_lp = image(2, 4, 64, 64, seed=2), exp23(lrms, 4), pan_lowpass(pan, 4)
    quality = qnr(hrms, lms, pan, pan_lp)
    assert qnr_loss(hrms, lms, pan, pan_lp).item() == pytest.approx(1 - quality.mean().item(), abs=1e-12)


def test_a_step_against_the_gradient_of_the_qnr_loss_raises_qnr():
    lrms, pan = image(1, 4, 16, 16), image(1, 1, 64, 64, seed=1)
    lms, pan_lp = exp23(lrms, 4), pan_lowpass(pan, 4)
    hrms = image(1, 4, 64, 64, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad(qnr_loss(hrms, lms, pan, pan_lp), hrms)
    step = hrms.detach() - 1e-3 * gradient / gradient.abs().max()
    assert qnr(step, lms, pan, pan_lp) > qnr(hrms, lms, pan, pan_lp)


def test_pseudo_is_the_mean_absolute_error():
    assert pseudo(torch.zeros(1, 2, 3, 5), torch.full((1, 2, 3, 5), 0.25)).item() == 0.25


@pytest.mark.parametrize("term", ["spectral", "spectral_mtf", "spatial", "qnr", "pseudo"])
def test_every_term_moves_every_band_of_the_output_and_nothing_else(term: str, device: str):
    lrms, pan = image(1, 4, 16, 16, device=device), image(1, 1, 64, 64, seed=1, device=device)
    backbone = nn.Conv2d(4, 4, 3, padding=1).double().to(device)
    lms, pan_lp, target = exp23(lrms, 4), pan_lowpass(pan, 4), image(1, 4, 64, 64, seed=3, device=device)
    response = fit_pan_response(lrms, imresize(pan, (16, 16)))
    before = response.weights.clone()
    hrms = backbone(lms)
    loss = {
        "spectral": lambda: spectral(hrms, lrms, 4),
        "spectral_mtf": lambda: spectral(hrms, lrms, 4, GNYQ),
        "spatial": lambda: spatial(hrms, pan, response),
        "qnr": lambda: qnr_loss(hrms, lms, pan, pan_lp),
        "pseudo": lambda: pseudo(hrms, target),
    }[term]()
    loss.backward()
    assert (backbone.weight.grad.flatten(1).abs().sum(1) > 0).all()
    assert torch.equal(response.weights, before) and not response.weights.requires_grad


def test_the_trained_terms_have_exact_gradients(device: str):
    lrms, pan = image(1, 2, 12, 12, device=device), image(1, 1, 24, 24, seed=1, device=device)
    hrms = image(1, 2, 24, 24, seed=2, device=device).requires_grad_()
    response = fit_pan_response(lrms, imresize(pan, (12, 12)))
    pan_lp, lms = imresize(imresize(pan, (12, 12)), (24, 24)), imresize(lrms, (24, 24))
    # fast mode: one random direction instead of one per pixel
    for loss in (
        lambda h: spectral(h, lrms, 2),
        lambda h: spectral(h, lrms, 2, (0.3, 0.25)),
        lambda h: spatial(h, pan, response),
        lambda h: qnr_loss(h, lms, pan, pan_lp, block=8),
    ):
        assert torch.autograd.gradcheck(loss, (hrms,), fast_mode=True, nondet_tol=1e-12)
