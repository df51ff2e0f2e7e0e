"""The language direction: hand values, limits, properties, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib.losses.guidance import SOFTNESS, dense_direction, direction


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_step_along_the_texts_costs_nothing_and_its_reverse_costs_two():
    texts = random(3, 5)
    lrms = random(2, 5, seed=1)
    out = lrms + 0.3 * (texts[2] - texts[0])
    pan = out - 2.0 * (texts[2] - texts[1])
    assert direction(out, lrms, pan, texts).item() == pytest.approx(0, abs=1e-12)
    assert direction(lrms, out, 2 * lrms - pan, texts[[0, 1, 2]]).item() > 0.5
    backwards = direction(out, 2 * out - lrms, 2 * out - pan, texts)
    assert backwards.item() == pytest.approx(2, abs=1e-12)


def test_it_equals_a_hand_worked_value():
    texts = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # text steps (1, 0) and (1, -1)
    out, lrms, pan = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    # image steps (1, 1) and (0, 1): cosines 1/sqrt 2 and -1/sqrt 2
    assert direction(out, lrms, pan, texts).item() == pytest.approx(1.0, abs=1e-6)


def test_an_output_that_stands_still_costs_one_and_has_a_finite_gradient(device: str):
    texts, features = random(3, 4).to(device), random(2, 4, seed=1).to(device)
    out = features.clone().requires_grad_()
    loss = direction(out, features, features, texts)
    loss.backward()
    assert loss.item() == pytest.approx(1.0)
    assert torch.isfinite(out.grad).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.1, 10), shift=st.floats(-3, 3))
def test_only_the_directions_of_the_text_steps_matter(seed: int, scale: float, shift: float):
    out, lrms, pan, texts = (
        random(2, 4),
        random(2, 4, seed=1),
        random(2, 4, seed=2),
        random(3, 4, seed=seed + 3),
    )
    torch.testing.assert_close(
        direction(out, lrms, pan, scale * texts + shift), direction(out, lrms, pan, texts)
    )


def test_it_moves_the_output_only_and_its_gradient_is_exact(device: str):
    out = random(2, 4).to(device).requires_grad_()
    shapes = (2, 4), (2, 4), (3, 4)
    lrms, pan, texts = (random(*shape, seed=seed).to(device) for seed, shape in enumerate(shapes, 1))
    assert torch.autograd.gradcheck(lambda o: direction(o, lrms, pan, texts), (out,))


def test_of_one_pixel_and_without_softness_it_is_that_of_the_paper():
    maps, texts = [random(1, 5, 1, 1, seed=seed) for seed in range(3)], random(3, 5, seed=9)
    expected = direction(*(each[..., 0, 0] for each in maps), texts)
    torch.testing.assert_close(dense_direction(*maps, texts, softness=0.0)[0], expected)


def test_dense_it_equals_a_hand_worked_value():
    texts = torch.tensor([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]])  # unit steps (1, 0) and (2, -1)/sqrt 5
    out = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])  # two pixels: (1, 1) and (0, 0)
    still = torch.zeros(1, 2, 1, 2)
    # first pixel, softness 2: step (1, 1) of length sqrt(2 + 2); the second stands still
    expected = 1 - (1 / 2 + (2 - 1) / 5**0.5 / 2) / 2 / 2
    assert dense_direction(out, still, still, texts, softness=2.0).item() == pytest.approx(expected)


def test_dense_an_output_that_stands_still_costs_one_and_has_a_finite_gradient():
    lrms = random(2, 4, 3, 3)
    out = lrms.clone().requires_grad_()
    loss = dense_direction(out, lrms, lrms, random(3, 4))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([1.0, 1.0])
    assert torch.isfinite(out.grad).all() and out.grad.abs().max() > 0


def test_dense_each_image_may_have_texts_of_its_own():
    out, lrms, pan = (random(2, 4, 3, 5, seed=seed) for seed in range(3))
    texts = random(2, 3, 4, seed=5)
    both = dense_direction(out, lrms, pan, texts)
    for k in range(2):
        of = slice(k, k + 1)
        torch.testing.assert_close(dense_direction(out[of], lrms[of], pan[of], texts[k])[0], both[k])


def test_dense_its_second_derivative_is_exact():
    lrms, pan, texts = random(1, 3, 2, 2, seed=1), random(1, 3, 2, 2, seed=2), random(3, 3, seed=3)

    def loss(out):
        return dense_direction(out, lrms, pan, texts, SOFTNESS)

    assert torch.autograd.gradcheck(loss, random(1, 3, 2, 2).requires_grad_())
    assert torch.autograd.gradgradcheck(loss, random(1, 3, 2, 2).requires_grad_())
