"""Stacking: weights on the simplex, nothing judged by what it was trained on, and the same in tiles."""

import numpy as np
import pytest
import torch

from clippan_lib.data import Batch, wald
from clippan_lib.data.synthetic import render
from clippan_lib.fusion import get_method
from clippan_lib.fusion.classical.stages import in_memory
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor
from clippan_lib.training import stack as stacking
from clippan_lib.training.stack import Stack, fit_stack, simplex

QB = get_sensor("QB")
FEW = ("exp", "gsa+1", "bt_h+1")


@pytest.fixture(scope="module")
def scene():
    drawn = render(7, QB, 256)
    return drawn["lrms"][None], drawn["pan"][None], drawn["gt"][None]


@pytest.fixture(scope="module")
def lower(scene):
    return wald(*scene[:2], QB)


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


def test_a_stack_is_the_weighted_mean_of_its_members_and_no_worse_than_the_best_one_scale_lower(lower):
    stack = fit_stack(lower, QB, untrained=FEW, trained=(), seed=0)
    assert set(stack.weights) == set(FEW) and sum(stack.weights.values()) == pytest.approx(1)
    images = {name: get_method(name, QB, 4)(lower.lrms, lower.pan).clamp(0, 1) for name in FEW}
    mean = sum(stack.weights[name] * image for name, image in images.items())
    assert torch.allclose(stack(lower.lrms, lower.pan), mean, atol=1e-6)
    unit = lower.gt.std((-2, -1), keepdim=True)
    error = {
        name: (((image - lower.gt) / unit)[..., 8:-8, 8:-8] ** 2).mean().item()
        for name, image in {**images, "stack": mean}.items()
    }
    assert error["stack"] <= min(error[name] for name in FEW) + 1e-6
    assert stack.summary.split()[0] == max(stack.weights, key=stack.weights.get)


def test_the_mean_of_consistent_images_is_as_consistent(scene, lower):
    stack = fit_stack(lower, QB, untrained=("gsa+3", "bt_h+3"), trained=(), seed=0)

    def off(hrms):
        return (degrade(hrms, QB.gnyq, 4) - scene[0])[..., 4:-4, 4:-4].abs().mean().item()

    members = [off(get_method(name, QB, 4)(*scene[:2]).clamp(0, 1)) for name in ("gsa+3", "bt_h+3")]
    assert off(stack(*scene[:2])) <= max(members) * 1.001
    assert max(members) < 0.5 * off(get_method("gsa", QB, 4)(*scene[:2]))


def test_a_network_is_never_judged_by_the_half_that_it_was_trained_on(lower, monkeypatch):
    seen = []

    class Remembers(torch.nn.Module):
        def __init__(self, given):
            super().__init__()
            self.value = given.gt[..., 0, 0].flatten()[0]

        def forward(self, lrms, pan):
            return torch.full((len(lrms), 4, *pan.shape[-2:]), float(self.value))

    def trained(name, given, *others):
        seen.append(given.lrms.shape[-1])
        return Remembers(given)

    asked = {}
    monkeypatch.setattr(stacking, "_trained", trained)
    monkeypatch.setattr(
        stacking, "_products", lambda given, gt, ratio: asked.update(given) or np.eye(len(given))
    )
    marked = Batch(lower.lrms, lower.pan, lower.gt.clone(), lower.index)
    marked.gt[..., : marked.gt.shape[-1] // 2] = 0.25
    marked.gt[..., marked.gt.shape[-1] // 2 :] = 0.75
    fit_stack(marked, QB, untrained=("exp",), trained=("pnn",), seed=0)
    half = marked.gt.shape[-1] // 2
    assert seen == [8, 8, 16]
    assert (asked["pnn"][..., :half] == 0.75).all() and (asked["pnn"][..., half:] == 0.25).all()


def test_networks_are_trained_with_consistency_inside_and_the_same_seed_gives_the_same_stack(
    lower, monkeypatch
):
    monkeypatch.setattr(stacking, "ITERATIONS", 3)
    one, again, other = (
        fit_stack(lower, QB, untrained=("exp",), trained=("pnn",), seed=s) for s in (0, 0, 1)
    )
    assert one.methods["pnn"].steps == 2 and not any(p.requires_grad for p in one.methods["pnn"].parameters())
    assert torch.equal(one(lower.lrms, lower.pan), again(lower.lrms, lower.pan))
    assert not torch.equal(
        one.methods["pnn"](lower.lrms, lower.pan), other.methods["pnn"](lower.lrms, lower.pan)
    )


def test_in_stages_it_is_the_same_and_reaches_as_far_as_its_farthest_member(scene, lower):
    stack = fit_stack(lower, QB, untrained=("gsa+3", "bdsd_pc", "mtf_glp_hpm_r"), trained=(), seed=0)
    staged = stack.staged(4)
    assert torch.allclose(in_memory(staged.stages(*scene[:2])), stack(*scene[:2]), atol=1e-5)
    assert staged.reach is not None
    whole = Stack(
        {"sr_d": get_method("sr_d", QB, 4), "exp": get_method("exp", QB, 4)}, {"sr_d": 0.4, "exp": 0.6}, QB
    )
    assert whole.staged(4).reach is None


def test_what_cannot_be_stacked_is_refused(scene, lower):
    with pytest.raises(ValueError, match="a stack is weighted by the truth one scale lower"):
        fit_stack(Batch(*scene[:2], None, lower.index), QB, seed=0)
    tiny = Batch(lower.lrms[..., :9], lower.pan[..., :36], lower.gt[..., :36], lower.index)
    with pytest.raises(ValueError, match="16 x 8 LRMS px one scale lower are too few to weigh methods by"):
        fit_stack(tiny, QB, seed=0)
