"""Stacking: weights on the simplex, found one scale lower, and the same in tiles."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clippan_lib.data import wald
from clippan_lib.data.stacks import HALVED, sharpness_of_truth
from clippan_lib.data.synthetic import render
from clippan_lib.fusion import get_method, staged_stack
from clippan_lib.fusion.classical.stages import in_memory
from clippan_lib.fusion.consistency import consistent_with_both
from clippan_lib.fusion.registry import load_stack
from clippan_lib.fusion.stack import MEMBERS, STEPS, Stack, in_words, rounded, simplex
from clippan_lib.metrics import mpsnr
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")
SOFT = replace(QB, gnyq=(0.1,) * 4)
FEW = ("exp", "gsa", "bt_h")


def stack_of(names=FEW, sensor=QB):
    return Stack({name: get_method(name, sensor, 4) for name in names}, sensor)


@pytest.fixture(scope="module")
def scene():
    drawn = render(7, QB, 256)
    return drawn["lrms"][None], drawn["pan"][None], drawn["gt"][None]


def test_weights_of_two_members_with_unrelated_errors_are_those_worked_by_hand():
    # w 1 + (1 - w) 4 is least at w = 4/5
    assert np.allclose(simplex(np.diag([1.0, 4.0])), [0.8, 0.2])


def test_a_member_whose_errors_are_those_of_another_and_more_gets_nothing():
    # errors e and e + 2e: the second is three times the first
    assert np.allclose(simplex(np.array([[1.0, 3.0], [3.0, 9.0]])), [1.0, 0.0], atol=1e-9)


def test_opposite_errors_of_one_size_share_the_weight():
    assert np.allclose(simplex(np.array([[1.0, -1.0], [-1.0, 1.0]])), [0.5, 0.5])


@pytest.mark.parametrize("seed", range(5))
def test_no_other_weights_on_the_simplex_do_better(seed):
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((6, 40))
    products = errors @ errors.T / 40
    found = simplex(products)
    assert found.min() >= 0 and found.sum() == pytest.approx(1)
    others = rng.dirichlet(np.full(6, 0.5), 2000)
    assert found @ products @ found <= np.einsum("ni,ij,nj->n", others, products, others).min() + 1e-9


def test_a_stack_is_the_weighted_mean_of_its_members_made_consistent(scene):
    lrms, pan, _ = scene
    stack = stack_of()
    weights = stack.weigh(lrms, pan)
    assert set(weights) == set(FEW) and sum(weights.values()) == pytest.approx(1)
    mean = sum(weight * stack.methods[name](lrms, pan) for name, weight in weights.items())
    expected = consistent_with_both(mean, lrms, pan, QB.gnyq, 4, STEPS)
    assert torch.allclose(stack(lrms, pan), expected, atol=1e-6)
    # consistency is affine, so the mean may as well be that of consistent images
    parts = [
        weights[name] * consistent_with_both(stack.methods[name](lrms, pan), lrms, pan, QB.gnyq, 4, STEPS)
        for name in FEW
    ]
    assert torch.allclose(stack(lrms, pan), sum(parts), atol=1e-5)


def test_one_scale_lower_it_is_no_worse_than_any_member_but_for_the_pull_of_the_prior(scene):
    lrms, pan, _ = scene
    stack, lower = stack_of(), wald(*scene[:2], QB)
    sharpness = sharpness_of_truth(QB, False)
    weights = stack.weigh(lrms, pan)
    unit, inner = lower.gt.std((-2, -1), keepdim=True), (..., slice(4, -4), slice(4, -4))

    def error(of):
        fused = replace(stack, sharpness=sharpness).fuse(of, lower.lrms, lower.pan)
        return (((fused - lower.gt) / unit)[inner] ** 2).mean().item()

    assert error(weights) < min(error({name: 1.0}) for name in FEW) * 1.02
    assert error(weights) < error({"exp": 1.0})


def test_its_weights_depend_on_the_images_and_on_no_draw(scene):
    lrms, pan, _ = scene
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(stack_of().weigh(lrms, pan))
    assert found[0] == found[1] != stack_of().weigh(lrms[..., :32], pan[..., :128])


def test_of_a_soft_product_the_truth_is_halved_where_enough_is_left(scene, monkeypatch):
    lrms, pan, _ = scene
    seen = []
    monkeypatch.setattr("clippan_lib.fusion.stack.wald", lambda *given: seen.append(given[3]) or wald(*given))
    for sensor, images in ((QB, (lrms, pan)), (SOFT, (lrms, pan)), (SOFT, (lrms[..., :40], pan[..., :160]))):
        stack_of(sensor=sensor).weigh(*images)
    assert seen == [False, True, False]
    assert sharpness_of_truth(SOFT, True) == pytest.approx(HALVED / 0.45)
    assert sharpness_of_truth(SOFT, False) == pytest.approx(0.1 / 0.45)
    assert sharpness_of_truth(replace(QB, gnyq=(0.3,) * 4), False, pan=0.15) == pytest.approx(2)
    assert sharpness_of_truth(replace(QB, gnyq=(0.6,) * 4), False, pan=0.1) == 4


def test_weights_are_drawn_towards_the_prior_the_more_the_larger_the_ridge(scene):
    few = ("gsa", "bt_h")
    stack = Stack({**stack_of(few).methods, "bandwise": get_method("exp", QB, 4)}, QB)  # a bad member
    assert stack.prior == {"gsa": 0, "bt_h": 0, "bandwise": 1}
    assert stack_of(few).prior == {"gsa": 0.5, "bt_h": 0.5}
    found = [replace(stack, ridge=ridge).weigh(*scene[:2])["bandwise"] for ridge in (0.0, 0.3, 3.0, 1e4)]
    assert found == sorted(found) and found[0] < 0.1 and found[-1] > 0.99


def test_images_too_small_to_weigh_by_have_the_weights_of_the_prior(scene):
    weights = stack_of().weigh(scene[0][..., :19, :40], scene[1][..., :76, :160])
    assert weights == pytest.approx(dict.fromkeys(FEW, 1 / 3))
    smallest = load_stack(QB, 4).weigh(scene[0][..., :20, :20], scene[1][..., :80, :80])
    assert set(smallest) == set(MEMBERS) and sum(smallest.values()) == pytest.approx(1)


def test_in_stages_it_is_the_same_and_reaches_as_far_as_its_farthest_member(scene):
    lrms, pan, _ = scene
    stack = stack_of(("gsa", "bdsd_pc", "mtf_glp_hpm_r"))
    weights = {"gsa": 0.5, "bdsd_pc": 0.5, "mtf_glp_hpm_r": 0.0}
    staged = staged_stack(stack, weights)
    assert torch.allclose(in_memory(staged.stages(lrms, pan)), stack.fuse(weights, lrms, pan), atol=1e-5)
    assert staged.reach is not None
    assert staged_stack(stack_of(("sr_d", "exp")), {"sr_d": 0.4, "exp": 0.6}).reach is None


def test_weights_in_hundredths_still_have_the_sum_1_and_are_told_the_heaviest_first():
    told = rounded({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3 - 0.004, "d": 0.004})
    assert told == {"a": 0.34, "b": 0.33, "c": 0.33, "d": 0.0}
    assert in_words({"a": 0.25, "b": 0.75, "c": 0.0}) == "b .75, a .25"


@pytest.mark.slow
def test_as_a_method_it_is_better_than_its_classical_members_on_scenes_that_nothing_was_chosen_on():
    found = {"stack": [], "gsa+3": [], "bt_h+3": [], "mtf_glp_hpm_r+3": []}
    for seed in range(83_000, 83_004):
        drawn = render(seed, QB, 256)
        lrms, pan, gt = (drawn[key][None] for key in ("lrms", "pan", "gt"))
        for name, scores in found.items():
            scores.append(mpsnr(get_method(name, QB, 4)(lrms, pan).clamp(0, 1), gt).item())
    means = {name: np.mean(scores) for name, scores in found.items()}
    assert means["stack"] == max(means.values())
