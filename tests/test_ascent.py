"""A gradient that points at the truth, and an order: hand values, limits, and what they train."""

import math

import pytest
import torch
from pairs import draw

from clippan_lib.losses.ascent import APART, errors_of, order, pointing


def ones(bands=3):
    return torch.ones(1, bands, 1, 1, dtype=torch.float64)


def test_the_gradient_of_the_squared_error_points_at_the_truth_and_its_negative_away():
    images, truth = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)

    def error(x):
        return (x - truth).square().sum((1, 2, 3))

    cosines, losses = pointing(error, images, truth, ones())
    torch.testing.assert_close(cosines, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(losses, error(images))
    torch.testing.assert_close(pointing(lambda x: -error(x), images, truth, ones())[0], -cosines)


def test_pointing_by_hand():
    # gradient (1, 0), missing (1, 1)
    images, truth = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    (cosine,), _ = pointing(lambda x: -x[..., 0].sum((1, 2)), images, truth, torch.ones(1, 1, 1, 1))
    assert cosine.item() == pytest.approx(1 / math.sqrt(2))
    # in units of deviations of 2 and 1 the gradient is (2, 1) and (1, 1) is missing: (2/2, 1)
    bands, there = torch.zeros(1, 2, 1, 1), torch.tensor([2.0, 1.0]).view(1, 2, 1, 1)
    (cosine,), _ = pointing(lambda x: -x.sum((1, 2, 3)), bands, there, there)
    assert cosine.item() == pytest.approx(3 / math.sqrt(2 * 5))


def test_an_image_that_is_the_truth_has_the_cosine_zero():
    image = draw(1, 3, 4, 4)
    assert pointing(lambda x: x.square().sum((1, 2, 3)), image, image, ones())[0].item() == 0


def test_a_loss_learns_to_point_and_the_gradient_for_that_is_exact():
    images, truth = draw(1, 2, 3, 3), draw(1, 2, 3, 3, seed=1)

    def cosine(weights):
        return pointing(lambda x: (weights * x).tanh().square().sum((1, 2, 3)), images, truth, ones(2))[0]

    assert torch.autograd.gradcheck(cosine, draw(1, 2, 3, 3, seed=2).requires_grad_())


def test_without_a_graph_there_is_none():
    weight = draw(1, 2, 3, 3).requires_grad_()
    cosines, _ = pointing(
        lambda x: (weight * x).square().sum((1, 2, 3)),
        draw(1, 2, 3, 3),
        draw(1, 2, 3, 3, seed=1),
        ones(2),
        graph=False,
    )
    assert not cosines.requires_grad


def test_order_by_hand():
    errors = torch.tensor([0.0, 0.1, 0.3])
    loss, share = order(torch.tensor([0.2, 0.3, 0.25]), errors)
    # three pairs, the worse first: 1 over 0 by .1, 2 over 0 by .05, 2 over 1 by -.05
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 3
    assert loss.item() == pytest.approx(expected) and share.item() == pytest.approx(2 / 3)
    assert order(torch.tensor([0.0, 1.0, 2.0]), errors)[1].item() == 1


def test_images_as_good_as_each_other_are_not_ordered():
    losses = torch.tensor([1.0, 0.0], requires_grad=True)
    loss, share = order(losses, torch.tensor([0.5, 0.5 + APART / 2]))
    assert (loss.item(), share.item()) == (0, 1)
    loss.backward()
    assert losses.grad.tolist() == [0, 0]


def test_order_has_an_exact_gradient():
    errors = torch.tensor([0.0, 0.2, 0.4, 0.1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: order(0.1 * x, errors)[0], draw(4).requires_grad_())


def test_errors_are_in_units_of_deviations():
    images = torch.stack([torch.full((2, 2), 3.0), torch.full((2, 2), 8.0)])[None]
    # 3/3 and 8/4: the root of (1 + 4) / 2
    found = errors_of(images, torch.zeros(1, 2, 2, 2), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
    assert found.item() == pytest.approx(math.sqrt(2.5))
