"""Steps down a loss of a fused image, in what LRMS does not see."""

import pytest
import torch
from pairs import draw

from clippan_lib.fusion.walk import descent, rate_of, unseen_by_lrms, walk
from clippan_lib.mtf import degrade

GNYQ = (0.3, 0.25, 0.2)


def deviation(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def test_what_lrms_does_not_see_is_nothing_once_degraded():
    change = draw(1, 3, 64, 64)
    left = unseen_by_lrms(change, GNYQ, 4)
    seen = [degrade(each, GNYQ, 4)[..., 3:-3, 3:-3].square().mean().sqrt() for each in (left, change)]
    assert seen[0] < 0.15 * seen[1]
    torch.testing.assert_close(unseen_by_lrms(2 * change, GNYQ, 4), 2 * left)
    assert unseen_by_lrms(torch.ones_like(change), GNYQ, 4).abs().max() < 0.02


def test_the_way_down_by_hand():
    hrms = draw(2, 3, 4, 4)
    way = descent(hrms, lambda x: x.square().sum((1, 2, 3)) / 2, deviation(1, 2, 3))
    torch.testing.assert_close(way, -hrms * deviation(1, 4, 9))


def quadratic(aim, far):
    return lambda x: ((x - aim) / far).square().mean((1, 2, 3))


def test_a_walk_has_a_first_step_of_this_length_and_goes_down():
    hrms, aim = draw(1, 3, 32, 32), draw(1, 3, 32, 32, seed=1)
    far = deviation(0.5, 1, 2)
    loss = quadratic(aim, far)
    found = [walk(hrms, loss, far, gnyq=GNYQ, ratio=4, steps=n, size=0.05) for n in range(4)]
    assert torch.equal(found[0], hrms)
    falling = [loss(x).item() for x in found]
    assert falling == sorted(falling, reverse=True)
    assert ((found[1] - hrms) / far).square().mean().sqrt() == pytest.approx(0.05)
    step = found[3] - hrms
    assert degrade(step, GNYQ, 4)[..., 2:-2, 2:-2].abs().max() < 0.1 * step.abs().max()


def test_all_steps_have_one_rate():
    hrms, aim = draw(1, 3, 32, 32), draw(1, 3, 32, 32, seed=1)
    far, told = deviation(0.5, 1, 2), {"gnyq": GNYQ, "ratio": 4}
    loss = quadratic(aim, far)
    rate = rate_of(hrms, loss, far, size=0.05, **told)
    expected = hrms
    for _ in range(3):
        expected = expected + rate * 32 * 32 * unseen_by_lrms(descent(expected, loss, far), GNYQ, 4)
    torch.testing.assert_close(walk(hrms, loss, far, steps=3, size=0.05, **told), expected)
    half = walk(walk(hrms, loss, far, steps=1, rate=rate, **told), loss, far, steps=2, rate=rate, **told)
    torch.testing.assert_close(half, expected)
    assert not torch.allclose(walk(hrms, loss, far, steps=3, rate=rate / 2, **told), expected)


def test_with_the_rate_of_the_whole_a_part_walks_as_it_does_in_the_whole():
    hrms, aim = draw(1, 3, 128, 128), draw(1, 3, 128, 128, seed=1)
    far, told = deviation(0.5, 1, 2), {"gnyq": GNYQ, "ratio": 4}
    rate = rate_of(hrms, quadratic(aim, far), far, size=0.05, **told)
    whole = walk(hrms, quadratic(aim, far), far, steps=3, rate=rate, **told)
    cut = (..., slice(0, 96), slice(0, 96))
    part = walk(hrms[cut], quadratic(aim[cut], far), far, steps=3, rate=rate, **told)
    inner = (..., slice(0, 48), slice(0, 48))
    torch.testing.assert_close(part[inner], whole[inner], atol=1e-4 * 0.05, rtol=0)
    assert not torch.allclose(part, whole[cut], atol=1e-2 * 0.05, rtol=0)


def test_each_image_of_a_batch_walks_by_itself():
    hrms, aim = draw(2, 3, 32, 32), draw(2, 3, 32, 32, seed=1)
    scale = torch.tensor([1.0, 1000.0], dtype=torch.float64)

    def loss(x, of=slice(None)):
        return (x - aim[of]).square().sum((1, 2, 3)) * scale[of]

    both = walk(hrms, loss, deviation(1, 1, 1), gnyq=GNYQ, ratio=4, steps=2)
    for k in range(2):
        of = slice(k, k + 1)
        alone = walk(hrms[of], lambda x, of=of: loss(x, of), deviation(1, 1, 1), gnyq=GNYQ, ratio=4, steps=2)
        torch.testing.assert_close(both[of], alone)


def test_a_loss_that_does_not_care_goes_nowhere():
    hrms = draw(1, 3, 16, 16)
    same = walk(hrms, lambda x: 0 * x.sum((1, 2, 3)), deviation(1, 1, 1), gnyq=GNYQ, ratio=4, steps=3)
    assert torch.equal(same, hrms)


def test_a_network_is_trained_through_a_walk():
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    base, aim = draw(1, 3, 16, 16), draw(1, 3, 16, 16, seed=1)

    def outcome(factor):
        walked = walk(
            factor * base,
            lambda x: (x - aim).pow(4).sum((1, 2, 3)),
            deviation(1, 1, 1),
            gnyq=GNYQ,
            ratio=4,
            steps=2,
            size=0.1,
            graph=True,
        )
        return walked.square().sum()

    assert torch.autograd.gradcheck(outcome, weight)


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="-1 steps"):
        walk(draw(1, 3, 16, 16), lambda x: x.sum((1, 2, 3)), deviation(1, 1, 1), gnyq=GNYQ, ratio=4, steps=-1)
