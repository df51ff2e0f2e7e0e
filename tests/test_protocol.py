"""The protocol laboratory, against numbers worked by hand and against candidates that must win or lose."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SENSOR, TinyPatches, tiny_supervisor

from clippan_lib import figures
from clippan_lib.clip import shuffled
from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.evaluation import protocol
from clippan_lib.evaluation.protocol import SPOILED, TRUE, Fusions
from clippan_lib.fusion import get_method
from clippan_lib.losses.guidance import direction


class Places(TinyPatches):
    """Small patches of two scenes in turn."""

    def scene_of(self, index: int) -> int:
        return index % 2


def at(degrees: float) -> torch.Tensor:
    """A unit step in the plane, the same from LRMS and from PAN."""
    angle = math.radians(degrees)
    return torch.tensor([[math.cos(angle), math.sin(angle)]] * 2, dtype=torch.float64)


def steps(count: int, dim: int = 5, seed: int = 0) -> torch.Tensor:
    return protocol.random_steps(count, dim, seed)


def fusions(true: list[float], spoiled: list[float], scenes: list[int]) -> Fusions:
    """Steps at given angles; every spoiling has the same ones."""
    angles = {TRUE: true} | dict.fromkeys(SPOILED, spoiled)
    images = {kind: torch.stack([at(angle) for angle in given]) for kind, given in angles.items()}
    return Fusions(images, torch.tensor(scenes))


# agreement


def test_agreement_is_the_mean_of_the_two_cosines():
    # from LRMS: (3, 4) against (1, 0) is 3/5; from PAN: (0, -2) against (1, 1) is -1/sqrt(2)
    lrms, pan, out = torch.tensor([[1.0, 1.0]]), torch.tensor([[4.0, 7.0]]), torch.tensor([[4.0, 5.0]])
    images = protocol.steps_between(out, lrms, pan)
    half = 1 / math.sqrt(2)
    candidate = torch.tensor([[[1.0, 0.0], [half, half]]], dtype=torch.float64)
    expected = (3 / 5 - 1 / math.sqrt(2)) / 2
    assert protocol.agreement(candidate, images).item() == pytest.approx(expected, abs=1e-12)


def test_agreement_is_1_for_the_same_steps_minus_1_for_opposite_ones_and_0_where_nothing_moved():
    images = steps(3)
    assert torch.allclose(protocol.agreement(images, images).diagonal(), torch.ones(3).double())
    assert torch.allclose(protocol.agreement(-images, images).diagonal(), -torch.ones(3).double())
    still = protocol.steps_between(*[torch.ones(2, 5)] * 3)
    assert torch.equal(protocol.agreement(images, still), torch.zeros(3, 2).double())


@given(st.integers(0, 1000))
def test_mean_agreement_is_one_minus_the_loss_of_stage_ii(seed):
    generator = torch.Generator().manual_seed(seed)
    out, lrms, pan = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    texts = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    candidate = protocol.steps_between(texts[2:], texts[:1], texts[1:2])
    mean = protocol.agreement(candidate, protocol.steps_between(out, lrms, pan)).mean()
    assert mean.item() == pytest.approx(1 - direction(out, lrms, pan, texts).item(), abs=1e-12)


@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_agreement_ignores_how_far_a_step_goes_and_how_the_space_is_turned(scale, seed):
    generator = torch.Generator().manual_seed(seed)
    out, lrms, pan = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    candidates, images = steps(2, 6), protocol.steps_between(out, lrms, pan)
    longer = protocol.steps_between(lrms + scale * (out - lrms), lrms, lrms + scale * (pan - lrms))
    expected = protocol.agreement(candidates, images)
    assert torch.allclose(protocol.agreement(candidates, longer), expected)
    assert torch.allclose(protocol.agreement(candidates @ turn, images @ turn), expected)


def test_random_directions_agree_with_nothing_on_average_with_variance_one_over_the_dimension():
    dim = 128
    drawn = steps(20000, dim)
    assert torch.allclose(drawn.norm(dim=2), torch.ones(20000, 2).double())
    cosine = drawn[:, 0] @ at_axis(dim)
    assert cosine.mean().item() == pytest.approx(0, abs=4 / math.sqrt(20000 * dim))
    assert cosine.var().item() == pytest.approx(1 / dim, rel=0.04)
    # the two steps of a pair are independent: their mean has half of it
    both = protocol.agreement(drawn, at_axis(dim).expand(1, 2, dim))
    assert both.var().item() == pytest.approx(0.5 / dim, rel=0.04)


def at_axis(dim: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(0), dim).double()


def test_random_directions_are_repeatable():
    assert torch.equal(steps(2), steps(2))
    assert not torch.equal(steps(2), steps(2, seed=1))


# spoiling

HRMS = TinyPatches(3).gt


def test_each_spoiling_does_what_it_says():
    image = 0.2 + 0.4 * HRMS
    done = protocol.spoil(image, SENSOR)
    assert tuple(done) == SPOILED
    assert done["blurred"].std() < 0.9 * image.std()
    factors = torch.tensor([1.2, 0.8, 1.2, 0.8])[:, None, None]
    assert torch.allclose(done["colour-shifted"], factors * image)
    noise = (done["noisy"] - image).std((2, 3)) / image.mean((2, 3))
    assert torch.allclose(noise, torch.full((3, 4), 0.1), rtol=0.1)
    assert torch.equal(done["misregistered"][..., 2:, 2:], image[..., :-2, :-2])


def test_spoiling_vanishes_with_its_strength_and_stays_in_range():
    for name, image in protocol.spoil(HRMS, SENSOR, strength=1e-3).items():
        assert (image - HRMS).abs().max() < 0.005, name
    for image in protocol.spoil(HRMS, SENSOR, strength=8).values():
        assert image.min() >= 0 and image.max() <= 1


def test_spoiling_is_repeatable_and_only_noise_asks_for_the_seed():
    first, again, other = (protocol.spoil(HRMS, SENSOR, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in SPOILED)
    assert [name for name in SPOILED if not torch.equal(first[name], other[name])] == ["noisy"]


@pytest.mark.parametrize("strength", [0.0, -1.0, math.nan])
def test_a_strength_that_spoils_nothing_is_refused(strength):
    with pytest.raises(ValueError, match=f"strength {strength}: nothing is spoiled"):
        protocol.spoil(HRMS, SENSOR, strength)


# embedding and texts


@pytest.fixture(scope="module")
def supervisor():
    return tiny_supervisor()


EXP = get_method("exp", SENSOR, 4)


def test_fusions_are_embedded_as_stage_ii_would_and_know_their_scenes(supervisor):
    seen = protocol.embed_fusions(supervisor, Places(4), EXP)
    batch = Places(4).batch(range(4))
    inputs = supervisor.embed_lrms(batch.lrms), supervisor.embed_pan(batch.pan)
    expected = protocol.steps_between(supervisor.embed_hrms(batch.gt).detach(), *(f.detach() for f in inputs))
    assert [*seen.steps] == [TRUE, *SPOILED] and seen.scenes.tolist() == [0, 1, 0, 1]
    assert torch.allclose(seen.steps[TRUE], expected, atol=1e-5)
    assert torch.allclose(seen.steps["blurred"].norm(dim=2), torch.ones(4, 2).double())
    text = supervisor.embed_texts().detach()
    loss = direction(supervisor.embed_hrms(batch.gt), *inputs, text).item()
    candidate = protocol.text_steps(supervisor, [supervisor.prompts])["wald"]
    mean = protocol.agreement(candidate[None], seen.steps[TRUE]).mean().item()
    assert mean == pytest.approx(1 - loss, abs=1e-5)


def test_without_a_truth_a_method_stands_for_it_and_more_patches_than_wanted_are_thinned_out(supervisor):
    blind = protocol.embed_fusions(supervisor, Places(5, has_gt=False), EXP, most=3)
    known = protocol.embed_fusions(supervisor, Places(5), EXP, most=3)
    assert blind.scenes.tolist() == [0, 0, 0]
    assert not torch.allclose(blind.steps[TRUE], known.steps[TRUE])


def test_images_do_not_know_the_text(supervisor):
    other = supervisor.with_prompts(shuffled(supervisor.prompts, 0))
    first, second = (protocol.embed_fusions(each, Places(2), EXP).steps for each in (supervisor, other))
    assert all(torch.equal(first[kind], second[kind]) for kind in first)


def test_no_patches_are_refused(supervisor):
    with pytest.raises(ValueError, match="no patches to judge protocols by"):
        protocol.embed_fusions(supervisor, Places(0), EXP)


def test_an_aim_takes_the_other_texts_of_the_set_it_competes_with():
    mine = {"lrms": "coarse", "pan": "grey", "hrms": "fine"}
    aim, whole = protocol.describe({"aim": "both at once", "whole": mine}, PROMPTS["release_i"])
    assert aim.texts == (PROMPTS["release_i"].lrms, PROMPTS["release_i"].pan, "both at once")
    assert (whole.name, whole.texts) == ("whole", ("coarse", "grey", "fine"))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("  ", "the text of hrms is blank"),
        ("a panchromatic image", "three different texts"),
        ({"lrms": "a", "hrms": "b"}, r"missing: \['pan'\]"),
    ],
)
def test_a_text_without_a_direction_is_refused(given, problem):
    with pytest.raises(ValueError, match=problem):
        protocol.describe({"mine": given}, PROMPTS["wald"])


def test_steps_of_texts_are_those_between_their_features_and_a_name_stands_for_one_set(supervisor):
    texts = supervisor.with_prompts("khan").embed_texts().detach().double()
    expected = torch.stack([texts[2] - texts[0], texts[2] - texts[1]])
    found = protocol.text_steps(supervisor, [PROMPTS["wald"], PROMPTS["khan"]])
    assert torch.allclose(found["khan"], expected / expected.norm(dim=1, keepdim=True), atol=1e-6)
    with pytest.raises(ValueError, match="two prompt sets are called 'wald'"):
        protocol.text_steps(supervisor, [PROMPTS["wald"], PROMPTS["wald"]])


def test_without_an_aim_the_steps_lead_away_from_the_two_other_texts_whatever_the_aim_was(supervisor):
    away = protocol.no_aim(supervisor)
    assert torch.allclose(away, -supervisor.embed_texts()[:2].detach().double(), atol=1e-6)
    assert torch.equal(away, protocol.no_aim(supervisor.with_prompts("noise")))


# ranking

# Of a candidate at 0 degrees: right, right, wrong, a tie.
FOUR = fusions([0, 10, 60, 30], [40, -20, 20, -30], [0, 0, 1, 1])


def test_margins_and_wins_by_hand():
    margin = protocol.margins(at(0)[None], FOUR)
    cosine = [math.cos(math.radians(angle)) for angle in (0, 40, 10, 20, 60, 20)]
    expected = [cosine[0] - cosine[1], cosine[2] - cosine[3], cosine[4] - cosine[5], 0.0]
    assert margin.shape == (1, 4, 4)
    assert torch.allclose(margin[0, 2], torch.tensor(expected).double(), atol=1e-12)
    exact = torch.tensor([0.2, 0.1, -0.3, 0.0]).double()
    assert protocol.won(exact).tolist() == [1, 1, 0, 0.5]


def test_a_candidate_that_is_turned_round_loses_what_it_won():
    candidates, images = steps(4, 2), fusions([0, 50, 200], [9, 90, 130], [0, 1, 2])
    turned = protocol.share_won(-candidates, images)
    assert torch.allclose(turned, 1 - protocol.share_won(candidates, images))


def test_the_right_candidate_ranks_first_for_certain_and_its_opposite_last():
    images = fusions([0, 5, -5, 2], [60, 70, 80, 90], [0, 0, 1, 2])
    candidates = {"wrong": at(180), "right": at(0), "as right": at(0)}
    ranking = protocol.rank(candidates, images, protocol.share_won(steps(200, 2), images))
    assert list(ranking.index) == ["right", "as right", "wrong"]
    assert ranking["wins"].tolist() == [1, 1, 0] and ranking["best"].tolist() == [0.5, 0.5, 0]
    assert ranking.loc["wrong", ["wins_low", "wins_high"]].tolist() == [0, 0]
    assert ranking.loc["right", "beats_random"] > 0.5 > ranking.loc["wrong", "beats_random"]
    cosine = np.cos(np.radians([0, 5, -5, 2])).mean()
    assert ranking.loc["right", "agreement"] == pytest.approx(cosine)
    assert ranking.loc["right", "difference"] == pytest.approx(
        cosine - np.cos(np.radians([60, 70, 80, 90])).mean()
    )


def test_each_spoiling_has_its_own_numbers():
    images = fusions([0, 0], [50, 50], [0, 1])
    images.steps["noisy"] = torch.stack([at(0), at(0)])
    table = protocol.by_spoiling({"right": at(0)}, images)
    assert table.loc["right", [(kind, "wins") for kind in SPOILED]].tolist() == [1, 1, 0.5, 1]
    assert table.loc["right", ("blurred", "difference")] == pytest.approx(1 - math.cos(math.radians(50)))


def test_the_fitted_candidate_separates_the_patches_it_was_fitted_on_better_than_any_other():
    generator = torch.Generator().manual_seed(1)
    kinds = (TRUE, *SPOILED)
    drawn = torch.randn(len(kinds), 30, 2, 6, generator=generator, dtype=torch.float64)
    unit = drawn / drawn.norm(dim=-1, keepdim=True)
    images = Fusions(dict(zip(kinds, unit, strict=True)), torch.arange(30))
    best = protocol.margins(protocol.fitted_step(images)[None], images).mean()
    assert best > protocol.margins(steps(3000, 6), images).mean((1, 2)).max()
    noisy = protocol.margins(protocol.fitted_step(images, ["noisy"])[None], images)[0, 2].mean()
    assert noisy > protocol.margins(steps(3000, 6), images)[:, 2].mean(1).max()


# the bootstrap


def test_a_bootstrap_over_four_coins_is_the_binomial_distribution():
    values = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    drawn = protocol.resample(values, torch.arange(4), 20000)
    assert set((4 * drawn).flatten().tolist()) == {0, 1, 2, 3, 4}
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.005)
    assert drawn.var().item() == pytest.approx(0.25 / 4, rel=0.03)
    assert (drawn == 0).double().mean().item() == pytest.approx(1 / 16, abs=0.005)


def test_a_bootstrap_interval_of_many_independent_patches_is_the_normal_one():
    values = torch.randn(1, 900, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = protocol.resample(values, torch.arange(900), 8000).quantile(
        torch.tensor([0.025, 0.975]).double()
    )
    half = 1.96 * values.std().item() / 30
    assert low.item() == pytest.approx(values.mean().item() - half, abs=0.05 * half)
    assert high.item() == pytest.approx(values.mean().item() + half, abs=0.05 * half)


def test_patches_of_a_scene_are_drawn_together():
    # two scenes of one kind each: means are 0, 1/2 and 1 only, however many patches there are
    values, scenes = torch.tensor([[0.0] * 50 + [1.0] * 50]).double(), torch.tensor([3] * 50 + [7] * 50)
    assert set(protocol.resample(values, scenes, 500).flatten().tolist()) == {0, 0.5, 1}


def test_scenes_of_different_size_count_by_their_patches():
    # all drawings of two scenes with 1 and 3 patches: (a, a), (a, b), (b, b)
    values, scenes = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).double(), torch.tensor([0, 1, 1, 1])
    assert set(protocol.resample(values, scenes, 500).flatten().tolist()) == {0, 0.25, 1}


def test_draws_are_shared_by_all_candidates_and_repeatable():
    values = torch.rand(1, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).repeat(2, 1)
    drawn = protocol.resample(values, torch.arange(12))
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert torch.equal(drawn, protocol.resample(values, torch.arange(12)))
    assert not torch.equal(drawn, protocol.resample(values, torch.arange(12), seed=1))


def test_a_single_scene_is_cut_into_runs_of_neighbours():
    single = fusions([0] * 10, [1] * 10, [4] * 10)
    assert single.blocks.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(FOUR.blocks, FOUR.scenes)


def test_a_single_block_is_refused():
    with pytest.raises(ValueError, match="all 3 patches are one block"):
        protocol.resample(torch.ones(1, 3).double(), torch.zeros(3, dtype=torch.int64))


def test_a_paired_lead_is_certain_where_the_shares_themselves_are_not():
    # per scene the winner is right once more than the reference, whatever the scene
    images = fusions([20, 20, 20, 20], [10, -40, 50, -10], [0, 0, 1, 1])
    candidates = {"reference": at(0), "winner": at(20)}
    lead = protocol.against("reference", candidates, images)
    assert list(lead.index) == ["winner"]
    assert lead.loc["winner"].tolist() == [0.5, 0.5, 0.5]


def test_a_lead_over_nobody_is_refused():
    with pytest.raises(ValueError, match="no candidate 'khan' to compare with; there are: wald"):
        protocol.against("khan", {"wald": at(0)}, FOUR)


# the figures


def ranking(names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({"wins": 0.5, "wins_low": 0.4, "wins_high": 0.6}, index=names)
    return table.rename_axis("candidate")


def test_the_ranking_names_each_candidate_once_in_the_order_of_the_last_panel():
    panels = {"before": ranking(["wald", "soup"]), "after": ranking(["soup", "wald"])}
    chance = dict.fromkeys(panels, torch.linspace(0.2, 0.8, 101))
    figure = figures.protocol_ranking(panels, chance, dict.fromkeys(panels, 0.9))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["soup", "wald"]
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    band = figure.axes[1].patches[0].get_extents().transformed(figure.axes[1].transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.215, 0.785))


def test_rankings_that_do_not_belong_together_are_refused():
    chance, ceiling = {"a": torch.ones(3), "b": torch.ones(3)}, {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match=r"panels \[\], chance"):
        figures.protocol_ranking({}, {}, {})
    with pytest.raises(ValueError, match=r"panels \['a'\], chance \['a', 'b'\]"):
        figures.protocol_ranking({"a": ranking(["wald"])}, chance, ceiling)
    with pytest.raises(ValueError, match="'a' ranks"):
        figures.protocol_ranking({"a": ranking(["wald"]), "b": ranking(["soup"])}, chance, ceiling)


def test_the_heat_map_prints_every_share_on_one_scale():
    table = pd.DataFrame([[0.0, 0.5], [1.0, 0.25]], index=["wald", "soup"], columns=["blurred", "noisy"])
    figure = figures.protocol_spoilings({"before": table, "after": table})
    assert [text.get_text() for text in figure.axes[0].texts] == ["0%", "50%", "100%", "25%"]
    assert {axes.images[0].get_clim() for axes in figure.axes[:2]} == {(0.0, 1.0)}


def test_heat_maps_that_do_not_belong_together_are_refused():
    table = pd.DataFrame([[0.5]], index=["wald"], columns=["blurred"])
    with pytest.raises(ValueError, match="no shares to draw"):
        figures.protocol_spoilings({})
    with pytest.raises(ValueError, match="'after' has other rows or columns"):
        figures.protocol_spoilings({"before": table, "after": table.rename(index={"wald": "soup"})})
