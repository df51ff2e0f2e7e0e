"""The numbers behind the embedding plot, against examples worked by hand."""

import math

import numpy as np
import pytest
import torch
from tiny import SENSOR, TinyPatches, tiny_supervisor

from clippan_lib.evaluation.embedding import (
    Embeddings,
    embed_patches,
    embedding_scores,
    layout,
    mean_similarity,
    same_scene_retrieval,
    silhouette,
    within_type_variance,
    zero_shot_scores,
)
from clippan_lib.fusion import get_method


def at(*degrees: float) -> torch.Tensor:
    """Unit vectors in the plane."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


TWO_PLACES = torch.tensor([0, 1, 0, 1, 0, 1])
TYPES_OF_TWO = torch.tensor([0, 0, 1, 1, 2, 2])


def test_recall_counts_each_type_against_its_own_images():
    types = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2])
    predicted = torch.tensor([0, 1, 1, 1, 1, 0, 2, 2])
    assert zero_shot_scores(predicted, types) == {
        "zero_shot_accuracy": 6 / 8,
        "recall_LRMS": 1 / 2,
        "recall_PAN": 3 / 4,
        "recall_HRMS": 1.0,
    }


def test_retrieval_is_perfect_where_every_place_is_a_bundle():
    assert same_scene_retrieval(at(0, 90, 2, 92, 4, 94), TYPES_OF_TWO, TWO_PLACES) == (1.0, 0.5)


def test_retrieval_counts_the_nearest_image_of_another_type_only():
    # LRMS at 0 and 40 degrees, PAN at 30 (place 0) and 10 (place 1): nearest are each other's places.
    hits, chance = same_scene_retrieval(
        at(0, 40, 30, 10), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    )
    assert (hits, chance) == (0.0, 0.5)


def test_retrieval_ignores_a_nearer_image_of_the_same_type():
    # The LRMS image of place 1 is nearest to that of place 0, but is of the same type.
    hits, _ = same_scene_retrieval(at(0, 1, 10, 50), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]))
    assert hits == 3 / 4 - 1 / 4  # PAN of place 0 finds LRMS of place 1; LRMS of place 1 finds PAN of place 0


def test_retrieval_by_chance_is_what_a_random_neighbour_would_give():
    scenes = torch.arange(5).repeat(3)
    types = torch.arange(3).repeat_interleave(5)
    features = torch.randn(15, 7, generator=torch.Generator().manual_seed(0))
    assert same_scene_retrieval(features, types, scenes)[1] == pytest.approx(2 / 10)


def test_retrieval_refuses_a_single_type():
    with pytest.raises(ValueError, match="all 2 embeddings are of type PAN"):
        same_scene_retrieval(at(0, 90), torch.tensor([1, 1]), torch.tensor([0, 1]))


def test_silhouette_of_two_tight_opposite_bundles_is_near_one_and_of_mixed_ones_is_not_positive():
    types = torch.tensor([0, 0, 1, 1])
    assert silhouette(at(0, 2, 180, 182), types) > 0.99
    assert silhouette(at(0, 180, 2, 182), types) < 0


def test_silhouette_by_hand_uses_cosine_distance():
    # Types {0, 60} and {180}: a(0) = 1 - cos 60 = .5, b(0) = 2; a(60) = .5, b(60) = 1.5; a lone one counts 0.
    expected = ((2 - 0.5) / 2 + (1.5 - 0.5) / 1.5 + 0) / 3
    assert silhouette(at(0, 60, 180), torch.tensor([0, 0, 1])) == pytest.approx(expected, rel=1e-12)


def test_silhouette_does_not_depend_on_the_length_of_embeddings():
    types = torch.tensor([0, 0, 1, 1])
    lengths = torch.tensor([[1.0], [9.0], [0.1], [3.0]], dtype=torch.float64)
    assert silhouette(at(0, 40, 70, 120) * lengths, types) == pytest.approx(
        silhouette(at(0, 40, 70, 120), types)
    )


def test_silhouette_of_one_type_is_refused():
    with pytest.raises(ValueError, match="Number of labels is 1"):
        silhouette(at(0, 90, 180), torch.tensor([2, 2, 2]))


def test_variance_within_types_is_zero_at_collapse_and_one_at_opposite_pairs():
    types = torch.tensor([0, 0, 1, 1])
    assert within_type_variance(at(10, 10, 70, 70), types) == pytest.approx(0, abs=1e-15)
    assert within_type_variance(at(0, 180, 90, 270), types) == pytest.approx(1)
    assert within_type_variance(at(0, 180, 90, 90), types) == pytest.approx(0.5)


def test_mean_similarity_has_image_types_in_rows_and_texts_in_columns():
    similarity = mean_similarity(at(0, 0, 90, 90, 60, 120), TYPES_OF_TWO, at(0, 90, 180))
    rows = [[1, 0, -1], [0, 1, 0], [0, math.sin(math.radians(60)), 0]]
    assert torch.allclose(similarity, torch.tensor(rows, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_seeds_give_equal_layouts_and_bundles_stay_together(dtype):
    generator = torch.Generator().manual_seed(1)
    centres = torch.eye(3, dtype=dtype).repeat_interleave(8, 0)
    features = centres + 0.05 * torch.randn(24, 3, generator=generator, dtype=dtype)
    first, second = (layout(features, perplexity=5, seed=3) for _ in range(2))
    assert first.shape == (24, 2) and np.array_equal(first, second)
    nearest = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(24)
    assert (nearest.argmin(1) // 8 == np.arange(24) // 8).all()


def test_layout_refuses_a_perplexity_that_is_too_large():
    with pytest.raises(ValueError, match="perplexity 30 needs more than 6 embeddings"):
        layout(at(0, 1, 2, 3, 4, 5))


def test_layout_refuses_collapsed_embeddings():
    with pytest.raises(ValueError, match="collapsed"):
        layout(torch.ones(40, 4))


def test_zero_shot_scores_refuse_an_unknown_type_and_an_absent_one():
    with pytest.raises(ValueError, match=r"predicted holds \[0, 3\]"):
        zero_shot_scores(torch.tensor([0, 3]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="no HRMS image among 2"):
        zero_shot_scores(torch.tensor([0, 1]), torch.tensor([0, 1]))


def test_all_scores_come_by_name_and_need_no_gradient():
    features, texts = at(0, 90, 2, 92, 4, 94).requires_grad_(), at(0, 45, 90)
    scores = embedding_scores(Embeddings(features, TYPES_OF_TWO, TWO_PLACES, TYPES_OF_TWO, texts))
    assert list(scores) == [
        "zero_shot_accuracy",
        "recall_LRMS",
        "recall_PAN",
        "recall_HRMS",
        "silhouette",
        "within_type_variance",
        "same_scene_retrieval",
        "same_scene_chance",
    ]
    assert all(type(value) is float and math.isfinite(value) for value in scores.values())


def test_patches_are_embedded_by_type_with_their_place():
    patches, supervisor = TinyPatches(count=5), tiny_supervisor()
    method = get_method("exp", SENSOR, 4)
    found = embed_patches(
        supervisor, patches, lambda batch: method(batch.lrms, batch.pan).clamp(0, 1), most=3
    )
    assert found.types.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert found.patches.tolist() == [0, 2, 4] * 3
    batch = patches.batch([0, 2, 4])
    torch.testing.assert_close(found.features[:3], supervisor.embed_lrms(batch.lrms).detach())
    torch.testing.assert_close(found.features[3:6], supervisor.embed_pan(batch.pan).detach())
    hrms = method(batch.lrms, batch.pan).clamp(0, 1)
    torch.testing.assert_close(found.features[6:], supervisor.embed_hrms(hrms).detach())
    assert torch.equal(found.predicted, supervisor.zero_shot(found.features))
