"""Stage I losses: hand values, limits, properties, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clippan_lib.losses.alignment import fusion_alignment, inter_modal, intra_modal, of_captions


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def test_inter_modal_equals_a_hand_worked_value():
    texts = torch.eye(3, dtype=torch.float64)
    images = texts[:, None].expand(3, 2, 3)
    # each image has cosine 1 with its own text and 0 with the two others
    assert inter_modal(images, texts, temperature=0.5).item() == pytest.approx(
        math.log(1 + 2 * math.exp(-2)), abs=1e-12
    )


def test_inter_modal_is_log_3_where_images_say_nothing_of_their_type():
    texts = torch.eye(3, dtype=torch.float64)
    images = F.normalize(torch.ones(3, 4, 3, dtype=torch.float64), dim=-1)
    assert inter_modal(images, texts, temperature=0.07).item() == pytest.approx(math.log(3), abs=1e-12)


def test_inter_modal_reaches_zero_at_low_temperature():
    texts = torch.eye(3)
    assert inter_modal(texts[:, None].expand(3, 2, 3), texts, temperature=0.01) < 1e-6


def test_eq_2_read_literally_is_log_n_with_no_gradient_and_ours_is_not():
    images = unit(3, 5, 7).requires_grad_()
    texts = unit(3, 7, seed=1)
    captions = texts[:1].expand(5, 7)
    literal = F.cross_entropy(images[0] @ captions.T / 0.07, torch.arange(5))
    (gradient,) = torch.autograd.grad(literal, images)
    assert literal.item() == pytest.approx(math.log(5), abs=1e-12)
    assert gradient.abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(inter_modal(images, texts, temperature=0.07), images)
    assert gradient.flatten(1).norm(dim=1).min() > 1e-2


def test_inter_modal_refuses_types_without_a_text():
    with pytest.raises(ValueError, match="3 image types but 2 texts"):
        inter_modal(unit(3, 2, 4), unit(2, 4), temperature=0.1)


def test_intra_modal_equals_a_hand_worked_value():
    # two scenes on orthogonal axes: two positives with cosine 1, three negatives with cosine 0
    features = torch.eye(2, dtype=torch.float64)[None].expand(3, 2, 2)
    expected = -math.log(math.e / (2 * math.e + 3))
    assert intra_modal(features, temperature=1.0).item() == pytest.approx(expected, abs=1e-12)


def test_intra_modal_of_collapsed_features_is_the_log_of_all_others():
    features = F.normalize(torch.ones(3, 4, 5, dtype=torch.float64), dim=-1)
    assert intra_modal(features, temperature=0.1).item() == pytest.approx(math.log(11), abs=1e-12)


def test_intra_modal_tends_to_log_2_for_scenes_well_apart():
    features = torch.eye(4)[None].expand(3, 4, 4)
    assert intra_modal(features, temperature=0.01).item() == pytest.approx(math.log(2), abs=1e-6)


def test_intra_modal_refuses_a_single_scene():
    with pytest.raises(ValueError, match="2 scenes or more in a batch, got 1"):
        intra_modal(unit(3, 1, 4), temperature=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(2, 6))
def test_intra_modal_does_not_depend_on_the_order_of_scenes_or_types(seed: int, n: int):
    features = unit(3, n, 5, seed=seed)
    shuffled = features[torch.tensor([2, 0, 1])][
        :, torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    ]
    torch.testing.assert_close(intra_modal(shuffled, temperature=0.3), intra_modal(features, temperature=0.3))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_inter_modal_falls_when_an_image_moves_towards_its_text(seed: int):
    images, texts = unit(3, 4, 6, seed=seed), unit(3, 6, seed=seed + 1)
    closer = F.normalize(images + texts[:, None], dim=-1)
    assert inter_modal(closer, texts, temperature=0.2) < inter_modal(images, texts, temperature=0.2)


def test_fusion_alignment_equals_a_hand_worked_value():
    zero, one = torch.zeros(2, 4), torch.ones(2, 4)
    assert fusion_alignment(zero, one, zero, 3 * one).item() == 4.0
    assert fusion_alignment(one, one, zero, zero).item() == 0.0


def test_fusion_alignment_moves_the_predictions_and_not_the_targets():
    tensors = [unit(2, 3, seed=seed).requires_grad_() for seed in range(4)]
    fusion_alignment(*tensors).backward()
    assert [tensor.grad is not None for tensor in tensors] == [True, False, True, False]


def test_the_contrastive_losses_have_exact_gradients(device: str):
    features, texts = (x.to(device).requires_grad_() for x in (unit(3, 3, 4), unit(3, 4, seed=1)))
    assert torch.autograd.gradcheck(lambda f, t: inter_modal(f, t, temperature=0.5), (features, texts))
    assert torch.autograd.gradcheck(lambda f: intra_modal(f, temperature=0.5), (features,))


def test_the_fusion_loss_has_an_exact_gradient():
    fused, image = unit(2, 4).requires_grad_(), unit(2, 4, seed=1)
    assert torch.autograd.gradcheck(lambda f: fusion_alignment(f, image, f, image), (fused,))


def test_the_loss_of_captions_with_equal_scores_is_the_log_of_the_number_of_choices():
    # three images over two captions: log 2; each caption over three images: log 3
    positive = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    expected = 0.5 * (torch.tensor(2.0).log() + torch.tensor(3.0).log())
    assert torch.isclose(of_captions(torch.zeros(3, 2), positive), expected)


def test_the_loss_of_captions_ignores_a_caption_true_of_no_image_on_the_text_side():
    positive = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    logits = torch.tensor([[0.0, -1e4], [0.0, -1e4]])
    assert torch.isclose(of_captions(logits, positive), 0.5 * torch.tensor(2.0).log())


def test_the_loss_of_captions_is_zero_at_a_perfect_match_and_has_a_true_gradient():
    positive = torch.eye(3)
    assert of_captions(100 * positive, positive) < 1e-6
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True, generator=generator)
    truth = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 0, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda scores: of_captions(scores, truth), logits)
