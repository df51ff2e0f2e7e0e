"""The gates of a supervisor: a perfect one passes, a blind one is at chance, and aims change what they name."""

import pytest
import torch

from clippan_lib.clip.aims import AIMS, TRUTH, blurred
from clippan_lib.evaluation.gates import Case, ascend, axes, mpsnr, point, rank, spoiled
from clippan_lib.training.deliveries import SPOILINGS, UNSEEN_SPOILINGS, make


@pytest.fixture(scope="module")
def case() -> Case:
    delivery = make(4_950_000, ("exp", "gsa", "bt_h"))
    fused = {name: image.float() for name, image in delivery.fused.items()}
    return Case("drawn", delivery.lrms, delivery.pan, delivery.gt, fused, delivery.sensor.gnyq, 4, 2047.0)


def pair_of(case):
    return case.lrms, case.pan, case.gnyq, case.ratio


def perfect(case):
    return lambda x: ((x - case.gt) / case.deviation).square().mean((1, 2, 3))


def test_a_judge_that_knows_the_truth_passes_and_one_that_hates_it_fails(case):
    right = rank(perfect(case), case)
    assert right.index.tolist() == ["fused", "spoiled", "spoiled, unseen"]
    assert right.right.tolist() == [1, 1, 1]
    assert (right["rank correlation, MPSNR"] > 0.6).all()
    wrong = rank(lambda x: -perfect(case)(x), case)
    assert wrong.right.to_numpy() == pytest.approx(1 - right.right.to_numpy())


def test_a_judge_that_sees_nothing_is_at_chance(case):
    assert rank(lambda x: 0 * x.mean((1, 2, 3)), case).right.tolist() == [0.5, 0.5, 0.5]


def test_the_gradient_of_the_error_points_at_the_truth(case):
    found = point(perfect(case), case)
    assert set(found.index) == set(case.fused)
    assert found.to_numpy() == pytest.approx(1, abs=0.02)
    assert point(lambda x: -perfect(case)(x), case).to_numpy() == pytest.approx(-1, abs=0.02)
    level = point(lambda x: x.mean((1, 2, 3)), case)
    assert level.pixels.abs().max() < 0.5


def test_a_walk_down_the_error_gains_what_is_unseen_by_lrms(case):
    gains = ascend(perfect(case), case, "exp", 0.02, (2, 6))
    assert 0.5 < gains[2] < gains[6]
    losses = ascend(lambda x: -perfect(case)(x), case, "exp", 0.02, (2,))
    assert losses[2] < -0.3


def test_spoilings_grow_with_their_strength(case):
    groups = spoiled(case)
    assert not SPOILINGS.keys() & UNSEEN_SPOILINGS.keys()
    for group, ways in (("spoiled", SPOILINGS), ("spoiled, unseen", UNSEEN_SPOILINGS)):
        images = groups[group]
        for way in ways:
            errors = [
                (image - case.gt).square().mean().item()
                for name, image in images.items()
                if name.startswith(way)
            ]
            assert len(errors) == 5 and errors[0] > 0 and errors[-1] > 4 * errors[0], way


# The axis that an aim moves most surely, and whither
MOVES = {
    "sharper": ("sharpness", 1),
    "softer": ("sharpness", -1),
    "less noise": ("noise", -1),
    "halos": ("halos", 1),
    "no halos": ("halos", -1),
    "fuller colours": ("colour", 1),
    "duller colours": ("colour", -1),
    "more contrast": ("contrast", 1),
    "less contrast": ("contrast", -1),
}


def test_an_aim_changes_what_it_names(case):
    assert set(MOVES) == set(AIMS) - {TRUTH}
    assert torch.equal(AIMS[TRUTH].change(case.gt), case.gt)
    before = axes(case.gt, *pair_of(case))
    for name, (axis, sign) in MOVES.items():
        after = axes(AIMS[name].change(case.gt), *pair_of(case))
        assert sign * (after[axis] / before[axis] - 1) > 0.1, name


def test_aims_have_wordings_of_their_own_for_training_and_for_testing():
    every = [text for aim in AIMS.values() for text in (*aim.wordings, *aim.unseen)]
    assert len(every) == len(set(every))
    assert all(len(aim.wordings) >= 2 and len(aim.unseen) >= 2 for aim in AIMS.values())


def test_axes_of_a_flat_image_are_zero_but_for_its_distance_from_lrms(case):
    found = axes(torch.full_like(case.gt, 0.5), *pair_of(case))
    assert [found[name] for name in ("sharpness", "noise", "halos", "colour", "contrast")] == pytest.approx(
        [0] * 5, abs=1e-3
    )
    assert found["inconsistency"] > 0.1
    assert axes(case.gt, *pair_of(case))["inconsistency"] < 0.2


def test_a_blur_leaves_the_mean_and_a_constant(case):
    assert torch.allclose(blurred(torch.ones(1, 2, 9, 9), 1.3), torch.ones(1, 2, 9, 9))
    assert mpsnr(blurred(case.gt, 0.5), case) > mpsnr(blurred(case.gt, 1.5), case)
