"""Iterated back-projection: what it fixes, what it leaves, and as the last layer of a network."""

import pickle

import pytest
import torch
from torch import nn

from clippan_lib.fusion import NETWORKS, find_method, get_method, network_for, staged_method, title_of
from clippan_lib.fusion.classical.stages import in_memory
from clippan_lib.fusion.consistency import (
    Consistent,
    consistent,
    consistent_with_both,
    reach,
    reach_with_both,
)
from clippan_lib.fusion.tiled import as_staged
from clippan_lib.mtf import degrade, upsample
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")


def pair(b=2, h=6, w=9, ratio=4, bands=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    lrms = torch.rand(b, bands, h, w, generator=generator, dtype=dtype)
    return lrms, torch.rand(b, 1, ratio * h, ratio * w, generator=generator, dtype=dtype)


def test_one_step_on_an_even_image_is_the_error_of_the_filter_worked_by_hand():
    # the MTF filter multiplies an even image by its sum s, EXP leaves an even error as it is: 0.5 + (0.8 - s 0.5)
    lrms, image = torch.full((1, 1, 8, 8), 0.8), torch.full((1, 1, 32, 32), 0.5)
    total = degrade(torch.ones(1, 1, 32, 32), (0.3,), 4).mean().item()
    assert 0.99 < total < 1
    moved = consistent(image, lrms, (0.3,), 4, 1)
    assert torch.allclose(moved, torch.full_like(moved, 0.5 + 0.8 - total * 0.5), atol=1e-5)


def test_no_steps_change_nothing():
    lrms, image = pair()[0], torch.rand(2, 4, 24, 36)
    assert consistent(image, lrms.float(), QB.gnyq, 4, 0) is image


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_every_step_brings_the_degraded_image_nearer_to_lrms(ratio):
    lrms, pan = pair(ratio=ratio)
    image, errors = pan.expand(-1, 4, -1, -1), []
    for steps in range(5):
        now = consistent(image, lrms, QB.gnyq, ratio, steps)
        errors.append((degrade(now, QB.gnyq, ratio) - lrms).square().mean().sqrt().item())
    assert all(after < 0.95 * before for before, after in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.5 * errors[0]


def test_what_degrade_does_not_see_stays_as_it_is():
    lrms, pan = pair(b=1, h=32, w=32)
    image = pan.expand(-1, 4, -1, -1)
    # a wave of the finest period, which the filter takes away
    fine = 0.1 * torch.cos(torch.pi * torch.arange(128.0).double()).expand(1, 4, 128, 128)
    moved = consistent(image + fine, lrms, QB.gnyq, 4, 3) - consistent(image, lrms, QB.gnyq, 4, 3)
    assert (moved - fine)[..., 56:-56].abs().max() < 1e-3


def test_the_truth_of_a_pair_without_noise_is_left_alone_inside():
    generator = torch.Generator().manual_seed(1)
    gt = upsample(torch.rand(1, 4, 12, 10, generator=generator, dtype=torch.float64), 4)
    lrms = degrade(gt, QB.gnyq, 4)
    assert (consistent(gt, lrms, QB.gnyq, 4, 3) - gt).abs().max() < 1e-12


def test_it_is_linear_and_its_gradient_is_right():
    lrms, pan = pair(b=1, h=3, w=4)
    one, other = pan.expand(-1, 4, -1, -1), torch.rand(1, 4, 12, 16, dtype=torch.float64)
    mixed = consistent(0.3 * one + 0.7 * other, lrms, QB.gnyq, 4, 2)
    parts = 0.3 * consistent(one, lrms, QB.gnyq, 4, 2) + 0.7 * consistent(other, lrms, QB.gnyq, 4, 2)
    assert torch.allclose(mixed, parts, atol=1e-12)
    small = torch.rand(1, 1, 6, 8, dtype=torch.float64, requires_grad=True)
    low = torch.rand(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: consistent(x, y, (0.3,), 2, 2), (small, low))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "-1 steps of consistency: give 0 to 100"),
        ({"steps": 101}, "101 steps of consistency: give 0 to 100"),
        ({"ratio": 2}, r"hrms \(2, 4, 24, 36\) and lrms \(2, 4, 6, 9\) are not a ratio of 2 apart"),
        ({"gnyq": (0.3, 0.3)}, "2 kernels for 4 bands"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    lrms, _ = pair(dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        consistent(torch.rand(2, 4, 24, 36), lrms, **({"gnyq": QB.gnyq, "ratio": 4, "steps": 1} | change))


def test_a_step_reaches_no_further_than_it_says():
    assert reach(4, 2) == 2 * reach(4, 1)
    side = 2 * reach(4, 1) + 3
    lrms, image = torch.zeros(1, 1, side, side).double(), torch.zeros(1, 1, 4 * side, 4 * side).double()
    far = image.clone()
    far[..., 0, 0] = 1
    middle = 4 * (side // 2)
    assert consistent(far, lrms, (0.3,), 4, 1)[..., middle, middle].abs() < 1e-15


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "arbrpn"])
def test_as_a_last_layer_it_moves_no_parameter_and_lets_all_learn(name):
    lrms, pan = pair(b=1, dtype=torch.float32)
    network = network_for(name, QB, seed=1, consistency=2)
    inner = network.network
    assert isinstance(network, Consistent)
    assert [*network.parameters()] == [*inner.parameters()]
    expected = consistent(inner(lrms, pan), lrms, QB.gnyq, 4, 2)
    assert torch.equal(network(lrms, pan), expected)
    network(lrms, pan).square().mean().backward()
    assert any(parameter.grad.abs().max() > 0 for parameter in inner.parameters())


def test_a_last_layer_of_no_steps_or_of_no_sharpness_is_refused():
    with pytest.raises(ValueError, match="0 steps of consistency as a last layer"):
        Consistent(nn.Identity(), QB.gnyq, 4, 0)
    with pytest.raises(ValueError, match="gain 0.0 at Nyquist"):
        Consistent(nn.Identity(), QB.gnyq, 4, 1, sharpness=0.0)


def test_behind_a_classical_method_it_goes_by_name():
    lrms, pan = pair(dtype=torch.float32)
    with_steps = get_method("gsa+3", QB, 4)
    expected = consistent(get_method("gsa", QB, 4)(lrms, pan), lrms, QB.gnyq, 4, 3)
    assert torch.equal(with_steps(lrms, pan), expected)
    assert torch.equal(pickle.loads(pickle.dumps(with_steps))(lrms, pan), expected)
    staged = staged_method("gsa+3", QB, 4)
    assert torch.allclose(in_memory(staged.stages(lrms, pan)), expected, atol=1e-6)
    assert staged.reach == staged_method("gsa", QB, 4).reach + reach(4, 3)
    titles = {
        "bt_h": "BT-H",
        "bt_h+1": "BT-H + 1 step",
        "bt_h+3": "BT-H + 3 steps",
        "bt_h++3": "BT-H + 3 steps with PAN",
    }
    assert {name: title_of(name) for name in titles} == titles
    assert find_method("bt_h+12")[1] == (12, False) and find_method("bt_h++2")[1] == (2, True)
    assert [str(find_method(name)[1]) for name in titles] == ["", "+1", "+3", "++3"]


@pytest.mark.parametrize(
    "name", ["gsa+", "gsa+0", "gsa+x", "gsa+-1", "gsa+1.5", "gsa++", "gsa+++3", "gsa+101", "gsa+" + "9" * 30]
)
def test_steps_that_are_no_number_are_refused(name):
    with pytest.raises(ValueError, match=r"is no number of steps of consistency from 1 to 100; write gsa\+3"):
        get_method(name, QB, 4)


def test_steps_without_a_sensor_are_refused():
    with pytest.raises(
        ValueError, match=r"gsa\+1 needs the MTF gains of a sensor for its steps of consistency"
    ):
        staged_method("gsa+1", None, 4)


# ---------------------------------------------------------------- with LRMS and PAN


def of_one_land(h=24, w=20, dtype=torch.float64):
    """A truth whose bands are smooth, the PAN that is .1, .2, .3 and .4 of them and .05, and the LRMS."""
    generator = torch.Generator().manual_seed(2)
    gt = 0.3 + 0.2 * upsample(torch.rand(1, 4, h, w, generator=generator, dtype=dtype), 4)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype)[:, None, None]
    return gt, degrade(gt, QB.gnyq, 4), (shares * gt).sum(1, keepdim=True) + 0.05, shares


def test_a_step_of_one_band_puts_pan_in_its_place():
    # PAN is the band, times two, plus .1: phi is 2 x + .1, G a half; so x + (PAN - phi(x)) / 2 is the band
    gt, lrms, _, _ = of_one_land()
    band, low, pan = gt[:, :1], degrade(gt[:, :1], (0.3,), 4), 2 * gt[:, :1] + 0.1
    moved = consistent_with_both(torch.full_like(band, 0.7), low, pan, (0.3,), 4, 1)
    assert (moved - band)[..., 8:-8, 8:-8].abs().max() < 2e-3


def test_the_shares_of_bands_in_pan_are_found_and_kept():
    gt, lrms, pan, shares = of_one_land()
    start = upsample(lrms, 4)

    def off(hrms):
        return ((shares * hrms).sum(1, keepdim=True) + 0.05 - pan)[..., 8:-8, 8:-8].square().mean().sqrt()

    before, after = off(start), off(consistent_with_both(start, lrms, pan, QB.gnyq, 4, 3))
    assert after < 0.15 * before
    low = degrade(consistent_with_both(start, lrms, pan, QB.gnyq, 4, 3), QB.gnyq, 4)
    assert (low - lrms)[..., 2:-2, 2:-2].abs().max() < 0.02


def test_it_leaves_a_truth_that_explains_both_nearly_alone_and_brings_others_nearer():
    gt, lrms, pan, _ = of_one_land()
    inner = (..., slice(8, -8), slice(8, -8))

    def error(hrms):
        return (hrms - gt)[inner].square().mean().sqrt().item()

    contrast = gt.std().item()
    assert error(consistent_with_both(gt, lrms, pan, QB.gnyq, 4, 3)) < 0.03 * contrast
    start = upsample(lrms, 4)
    assert error(consistent_with_both(start, lrms, pan, QB.gnyq, 4, 3)) < error(
        consistent(start, lrms, QB.gnyq, 4, 3)
    )


def test_with_both_it_is_affine_in_the_image_and_its_gradient_is_right():
    gt, lrms, pan, _ = of_one_land(6, 7)
    one, other = gt, torch.rand(gt.shape, dtype=gt.dtype, generator=torch.Generator().manual_seed(3))
    both = [consistent_with_both(x, lrms, pan, QB.gnyq, 4, 2) for x in (one, other)]
    mixed = consistent_with_both(0.3 * one + 0.7 * other, lrms, pan, QB.gnyq, 4, 2)
    assert torch.allclose(mixed, 0.3 * both[0] + 0.7 * both[1], atol=1e-10)
    small = torch.rand(1, 2, 8, 12, dtype=torch.float64, requires_grad=True)
    low, fine = torch.rand(1, 2, 4, 6, dtype=torch.float64), torch.rand(1, 1, 8, 12, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: consistent_with_both(x, low, fine, (0.3, 0.2), 2, 2), (small,))


def test_pan_is_softened_first_where_the_truth_is_softer():
    gt, lrms, pan, _ = of_one_land()
    # of a wave at PAN's Nyquist frequency so much is left as the sharpness says
    wave = 0.02 * torch.cos(torch.pi * torch.arange(pan.shape[-1]).double()).expand_as(pan)

    def brought(sharpness):
        images = (
            consistent_with_both(gt, lrms, x, QB.gnyq, 4, 1, sharpness=sharpness) for x in (pan + wave, pan)
        )
        return (next(images) - next(images))[..., 30:-30, 30:-30]

    assert torch.allclose(brought(0.4), 0.4 * brought(1.0), atol=1e-3)
    assert brought(1.0).abs().mean() > 5e-3
    with pytest.raises(ValueError, match="gain 4.5 at Nyquist"):
        consistent_with_both(gt, lrms, pan, QB.gnyq, 4, 1, sharpness=4.5)


def test_with_both_no_steps_change_nothing_and_what_does_not_fit_is_refused():
    gt, lrms, pan, _ = of_one_land(6, 7)
    assert consistent_with_both(gt, lrms, pan, QB.gnyq, 4, 0) is gt
    with pytest.raises(ValueError, match="-1 steps of consistency: give 0 to 100"):
        consistent_with_both(gt, lrms, pan, QB.gnyq, 4, -1)
    with pytest.raises(ValueError, match="do not belong together"):
        consistent_with_both(gt, lrms[..., 1:], pan, QB.gnyq, 4, 1)


@pytest.mark.parametrize("steps", [1, 3])
def test_with_both_it_goes_by_name_and_the_same_in_stages(steps):
    lrms, pan = pair(dtype=torch.float32)
    fused = get_method("bt_h", QB, 4)(lrms, pan)
    expected = consistent_with_both(fused, lrms, pan, QB.gnyq, 4, steps)
    method = get_method(f"bt_h++{steps}", QB, 4)
    assert torch.equal(pickle.loads(pickle.dumps(method))(lrms, pan), expected)
    staged = pickle.loads(pickle.dumps(staged_method(f"bt_h++{steps}", QB, 4)))
    assert torch.allclose(in_memory(staged.stages(lrms, pan)), expected, atol=1e-5)
    assert staged.reach == staged_method("bt_h", QB, 4).reach + reach_with_both(4, steps)


@pytest.mark.parametrize("name", ["pnn", "bandwise"])
def test_as_a_last_layer_with_pan_it_moves_no_parameter_and_lets_all_learn(name):
    lrms, pan = pair(b=1, dtype=torch.float32)
    network = network_for(name, QB, seed=1, consistency=2, sharpness=0.5)
    inner = network.network
    assert [*network.parameters()] == [*inner.parameters()]
    fused = inner(lrms, pan)
    expected = consistent_with_both(fused, lrms, pan, QB.gnyq, 4, 2, sharpness=0.5)
    assert torch.equal(network(lrms, pan), expected)
    assert torch.equal(network.behind(fused, lrms, pan), expected)
    assert not torch.equal(expected, consistent(fused, lrms, QB.gnyq, 4, 2))
    network(lrms, pan).square().mean().backward()
    assert any(parameter.grad.abs().max() > 0 for parameter in inner.parameters())


def test_a_last_layer_with_pan_is_the_same_in_stages():
    lrms, pan = pair(h=20, w=24, dtype=torch.float32)
    network = network_for("bandwise", QB, seed=1, consistency=2, sharpness=1.7).eval()
    staged = as_staged(network)
    with torch.no_grad():
        assert torch.allclose(in_memory(staged.stages(lrms, pan)), network(lrms, pan), atol=1e-5)
    assert staged.reach == network.reach == as_staged(network.network).reach + reach_with_both(4, 2)


def test_in_reduced_precision_both_keep_the_small_error():
    lrms, pan = pair(dtype=torch.float32)
    image = pan.expand(-1, 4, -1, -1)
    expected = consistent_with_both(image, lrms, pan, QB.gnyq, 4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = consistent_with_both(image, lrms, pan, QB.gnyq, 4, 2)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
