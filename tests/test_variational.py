"""TV: the sensors and their adjoint, the minimum, its limits, a real scene."""

import numpy as np
import pytest
import scipy.optimize
import torch
from pairs import assert_same, draw, pair

from clippan_lib import mtf
from clippan_lib.fusion.classical import gsa
from clippan_lib.fusion.classical.variational import (
    Sensors,
    gradient,
    minimise,
    minus_adjoint,
    pan_weights,
    sampling_matrix,
    squared_length,
    tv,
)
from clippan_lib.metrics.reference import crop_border, ergas, q2n, sam
from clippan_lib.sensors import get_sensor

GNYQ = (0.35, 0.3, 0.22)


def sensors(h, w, ratio, weights=(0.5, 0.3, 0.1)):
    rows, columns = (torch.from_numpy(sampling_matrix(GNYQ, ratio * side, ratio)) for side in (h, w))
    return Sensors(ratio * rows, columns, torch.tensor(weights).double().view(1, 3, 1, 1))


def inner(*pairs):
    return sum((x * y).sum() for x, y in pairs).item()


def objective(model, ms, pan, image, strength):
    seen_ms, seen_pan = model.see(image)
    misfit = (ms - seen_ms).square().sum() + (pan - seen_pan).square().sum()
    return (misfit + strength * squared_length(gradient(image)).sqrt().sum()).item()


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_the_adjoint_of_the_sensors_is_exact(ratio):
    model, image = sensors(5, 7, ratio), draw(2, 3, 5 * ratio, 7 * ratio)
    ms, pan = draw(2, 3, 5, 7, seed=1), draw(2, 1, 5 * ratio, 7 * ratio, seed=2)
    seen_ms, seen_pan = model.see(image)
    there, back = inner((seen_ms, ms), (seen_pan, pan)), inner((image, model.adjoint(ms, pan)))
    assert there == pytest.approx(back, rel=1e-12)


def test_the_adjoint_of_the_gradient_is_exact():
    image, other = draw(2, 3, 5, 7), draw(2, 3, 5, 7, seed=3)
    field = draw(2, 3, 5, 6, seed=1), draw(2, 3, 4, 7, seed=2)
    there = inner(*zip(gradient(image), field, strict=True))
    assert there == pytest.approx(inner((image, other - minus_adjoint(other, field))), rel=1e-12)


def test_the_gradient_of_an_image_by_hand():
    along, down = field = gradient(torch.tensor([[[[1.0, 4.0], [2.0, 9.0]]]]).double())
    assert along.flatten().tolist() == [3, 7]
    assert down.flatten().tolist() == [1, 5]
    assert squared_length(field).flatten().tolist() == [9 + 1, 25, 49, 0]


@pytest.mark.parametrize("ratio", [2, 4])
def test_the_sensors_see_what_degrade_gives_but_for_its_sum(ratio):
    image = 2 + draw(2, 3, 6 * ratio, 7 * ratio)
    unit = mtf.mtf_kernel(GNYQ, ratio).sum((1, 2)).view(3, 1, 1)
    seen = sensors(6, 7, ratio).see(image)[0] / ratio
    assert_same(seen, mtf.degrade(image, GNYQ, ratio) / unit, atol=2e-5)


def test_the_curvature_bounds_the_sensors_closely():
    model, image = sensors(4, 5, 4), draw(1, 3, 16, 20)
    for _ in range(300):
        seen = model.adjoint(*model.see(image / image.norm()))
        image = seen
    assert 0.7 * model.curvature().item() < image.norm().item() <= model.curvature().item()


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 0.1, 0.7])
@pytest.mark.parametrize("ratio", [2, 4])
def test_every_iteration_lowers_the_objective(strength, ratio):
    lrms, pan = pair(6, 7, ratio, batch=1)
    model, start = sensors(6, 7, ratio), mtf.upsample(lrms, ratio)
    images = [minimise(model, ratio * lrms, pan, start, strength, n) for n in range(40)]
    values = [objective(model, ratio * lrms, pan, image, strength) for image in images]
    assert all(later < earlier for earlier, later in zip(values, values[1:], strict=False))


def test_the_minimum_is_a_generic_solvers():
    lrms, pan = pair(3, 4, 2, batch=1)
    model, strength, start = sensors(3, 4, 2), 0.3, mtf.upsample(lrms, 2)

    def smoothed(vector, width):
        image = torch.from_numpy(vector).view(start.shape).requires_grad_()
        seen_ms, seen_pan = model.see(image)
        misfit = (2 * lrms - seen_ms).square().sum() + (pan - seen_pan).square().sum()
        value = misfit + strength * (squared_length(gradient(image)) + width**2).sqrt().sum()
        return value.item(), torch.autograd.grad(value, image)[0].numpy().ravel()

    vector = start.numpy().ravel()
    exactly = {"maxiter": 50_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-10}
    for width in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5):
        found = scipy.optimize.minimize(smoothed, vector, (width,), "L-BFGS-B", jac=True, options=exactly)
        vector = found.x
    expected = torch.from_numpy(vector).view(start.shape)
    image = minimise(model, 2 * lrms, pan, start, strength, 3000)
    ours, theirs = (objective(model, 2 * lrms, pan, x, strength) for x in (image, expected))
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours < objective(model, 2 * lrms, pan, start, strength) * 0.9
    assert_same(image, expected, atol=1e-3)


def test_with_next_to_no_variation_the_data_are_met():
    model = sensors(8, 9, 2)
    ms, pan = model.see(mtf.upsample(2 + draw(2, 3, 8, 9), 2) + 0.1 * draw(2, 3, 16, 18, seed=1))
    start = mtf.upsample(ms / 2, 2)
    image = minimise(model, ms, pan, start, 1e-10, 3000)
    for seen, first, datum in zip(model.see(image), model.see(start), (ms, pan), strict=True):
        assert (seen - datum).norm() < 0.005 * (first - datum).norm()


def test_more_strength_gives_less_variation():
    lrms, pan = pair()
    fused = [tv(lrms, pan, 4, GNYQ, strength=strength) for strength in (1e-4, 1e-2, 1.0)]
    variation = [squared_length(gradient(image)).sum().sqrt().item() for image in fused]
    assert variation[0] > 1.001 * variation[1] > 1.1 * variation[2]


def test_constant_images_are_left_exactly_alone():
    lrms = torch.tensor([0.3, 0.0, 5.0]).double().view(1, 3, 1, 1).expand(2, 3, 6, 7)
    fused = tv(lrms, torch.full((2, 1, 24, 28), 0.5).double(), 4, GNYQ)
    assert_same(fused, lrms[:, :, :1, :1].expand_as(fused), atol=1e-8)


def test_the_weights_are_those_of_a_ridge_and_never_negative():
    bands = draw(2, 3, 9, 11)
    bands = bands - bands.mean((2, 3), keepdim=True)
    truth = torch.tensor([2.0, 0.5, -1.0]).view(3, 1, 1)
    weights = pan_weights(bands + 3, (truth * bands).sum(1, keepdim=True) - 8)[:, :, 0, 0]
    for i in range(2):
        columns = bands[i].flatten(1).T.numpy()
        length = np.linalg.norm(columns, axis=0)
        system = np.vstack([columns / length, np.sqrt(0.1) * np.eye(3)])
        right = np.concatenate([columns @ truth.double().numpy().ravel(), np.zeros(3)])
        assert_same(weights[i], scipy.optimize.nnls(system, right)[0] / length, atol=1e-8)
    assert (weights[:, 2] == 0).all()


@pytest.mark.parametrize("unit", [1e-4, 2047.0])
def test_the_units_of_either_image_do_not_matter(unit):
    lrms, pan = pair()
    expected = tv(lrms, pan, 4, GNYQ)
    assert_same(tv(unit * lrms, pan, 4, GNYQ) / unit, expected)
    assert_same(tv(lrms, unit * pan + 3 * unit, 4, GNYQ), expected)


def test_each_image_of_a_batch_is_fused_as_if_alone():
    (one, pan_one), (two, pan_two) = pair(batch=1), pair(batch=1, seed=7)
    together = tv(torch.cat([one, 5 * two]), torch.cat([pan_one, pan_two]), 4, GNYQ)
    assert_same(together, torch.cat([tv(one, pan_one, 4, GNYQ), tv(5 * two, pan_two, 4, GNYQ)]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": [1.0, 1.0]}, "2 weights for 3 bands"),
        ({"strength": 0.0}, "strength 0.0 must be above 0"),
        ({"strength": float("nan")}, "strength nan must be above 0"),
        ({"iterations": 0}, "iterations 0 at least 1"),
        ({"gnyq": GNYQ[:2]}, "2 kernels for 3 bands"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        tv(*pair(), 4, **{"gnyq": GNYQ, **wrong})


def test_a_real_scene_is_fused_better_than_by_gsa(shared):
    stored = np.load(shared / "reference" / "WV2_RR.npz")
    lrms, pan, gt = (
        torch.from_numpy(np.atleast_3d(stored[key]).astype(np.float64).transpose(2, 0, 1))[None]
        for key in ("ms_lr", "pan_lr", "gt")
    )
    fused, other = tv(lrms, pan, 4, get_sensor("WV2").gnyq), gsa(lrms, pan, 4)
    fused, other, lms, gt = (crop_border(x) for x in (fused, other, mtf.exp23(lrms, 4), gt))
    assert ergas(fused, gt, 4) < min(ergas(other, gt, 4), 0.5 * ergas(lms, gt, 4))
    assert q2n(fused, gt) > q2n(other, gt)
    assert sam(fused, gt) < sam(lms, gt)
