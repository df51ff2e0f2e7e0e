"""Methods in stages: a scene in tiles gives what it gives in one piece, and how far a method looks."""

import math
import pickle
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import assert_same

from clippan_lib.fusion import (
    CLASSICAL,
    NETWORKS,
    as_staged,
    build_network,
    get_method,
    staged_method,
    staged_stack,
)
from clippan_lib.fusion.classical import gsa
from clippan_lib.fusion.classical.stages import Core, Request, ask, side_by_side
from clippan_lib.fusion.classical.statistics import Moments, Percentile, Spread
from clippan_lib.fusion.networks.lformer import LFormer
from clippan_lib.mtf import upsample
from clippan_lib.sensors import get_sensor

QB = get_sensor("QB")
WHOLE = {"fe_hpm", "sr_d", "tv", "lambda_pnn", "arbrpn", "pan_mamba", "ship"}
STAGED = [name for name in CLASSICAL if name not in WHOLE]
LOCAL = [name for name in NETWORKS if name not in WHOLE]


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scene(h, w, ratio):
    lrms = 1 + 0.4 * draw(1, 4, h, w)
    noise = draw(1, 1, ratio * h, ratio * w, seed=1)
    return lrms, upsample(lrms, ratio).mean(1, keepdim=True) + 0.1 * noise


def staged(name, ratio):
    if name in CLASSICAL:
        return staged_method(name, QB, ratio)
    small = LFormer(4, ratio, stages=2, attention_dim=8, hidden=8)
    network = (small if name == "lformer" else build_network(name, 4, ratio)).double().eval()
    shake(network)
    return as_staged(network)


@torch.no_grad()
def shake(network):
    """Some weights start so small that a network looks at nothing."""
    for i, weight in enumerate(network.parameters()):
        weight += 0.2 * (draw(*weight.shape, seed=i) - 0.5)


def visit(method, lrms, pan, core, answers):
    """Go as far as the answers lead: the core of the fused tile, or the tallies of the next requests."""
    stages, scale = method.stages(lrms, pan), pan.shape[-2] // lrms.shape[-2]
    try:
        requests = next(stages)
        for answer in answers:
            requests = stages.send(answer)
        return tuple(request.tally(core) for request in requests)
    except StopIteration as end:
        return end.value[
            ..., *(slice(scale * part.start, scale * part.stop) for part in (core.rows, core.columns))
        ]


def in_tiles(method, lrms, pan, lrms_valid, pan_valid, side):
    """The scene fused tile by tile, each with an apron that ends with the scene, as `sharpen` does."""
    (height, width), apron = lrms.shape[-2:], method.reach
    ratio = pan.shape[-2] // height

    def tile(top, left, answers):
        rows, columns = (
            (max(0, at - apron), at, min(at + side, end)) for at, end in ((top, height), (left, width))
        )
        part = [slice(start, stop + apron) for start, _, stop in (rows, columns)]
        fine = [slice(ratio * each.start, ratio * each.stop) for each in part]
        inside = [slice(at - start, stop - start) for start, at, stop in (rows, columns)]
        masks = lrms_valid[..., *part], pan_valid[..., *fine]
        seen = lrms[..., *part], pan[..., *fine]
        core = Core(*inside, seen[0].shape[-2], *masks, ratio**2 * height * width)
        return visit(method, *seen, core, answers)

    answers = []
    while True:
        rows = [
            [tile(top, left, answers) for left in range(0, width, side)] for top in range(0, height, side)
        ]
        if torch.is_tensor(rows[0][0]):
            return torch.cat([torch.cat(row, -1) for row in rows], -2)
        answers.append(tuple(reduce(add, tallies) for tallies in zip(*sum(rows, []), strict=True)))


@pytest.mark.parametrize(
    ("ratio", "side", "dtype", "atol"),
    [(4, 16, torch.float64, 1e-10), (2, 23, torch.float64, 1e-10), (3, 37, torch.float32, 1e-5)],
)
@pytest.mark.parametrize("name", STAGED)
@torch.inference_mode()
def test_tiles_give_what_one_tile_gives(name, ratio, side, dtype, atol):
    lrms, pan = (image.to(dtype) for image in scene(37, 53, ratio))
    valid = [torch.ones_like(image[:, :1], dtype=torch.bool) for image in (lrms, pan)]
    for k, mask in zip((1, ratio), valid, strict=True):
        mask[..., : 20 * k, : 17 * k] = False  # a tile without a pixel that counts, and parts of others
    method = staged_method(name, QB, ratio)
    whole, tiles = (in_tiles(method, lrms, pan, *valid, n) for n in (53, side))
    assert whole.shape == (1, 4, 37 * ratio, 53 * ratio)
    assert_same(tiles, whole, atol=atol)


@pytest.mark.parametrize("name", LOCAL)
@torch.inference_mode()
def test_tiles_give_what_one_tile_gives_of_a_network(name):
    method = staged(name, 3)
    lrms, pan = scene(7, method.reach + 29, 3)  # so wide that no tile sees all of it
    valid = [torch.ones_like(image[:, :1], dtype=torch.bool) for image in (lrms, pan)]
    assert method.reach % method.align == 0
    whole, tiles = (in_tiles(method, lrms, pan, *valid, side) for side in (lrms.shape[-1], 8))
    assert_same(tiles, whole, atol=1e-10)


def test_a_window_of_lformer_starts_where_the_scenes_do():
    assert [as_staged(LFormer(4, ratio)).align for ratio in (2, 3, 4, 6, 8)] == [4, 8, 2, 4, 1]


@torch.inference_mode()
def test_a_tile_that_starts_inside_a_window_differs():
    method = staged("lformer", 3)
    lrms, pan = scene(8, method.reach + 24, 3)
    valid = [torch.ones_like(image[:, :1], dtype=torch.bool) for image in (lrms, pan)]
    inside, at_start = (
        in_tiles(method, lrms, pan, *valid, side) for side in (method.align + 1, method.align)
    )
    assert (inside - at_start).abs().max() > 1e-3


def seen(method, lrms, pan, core, answers):
    """All that a tile gives: its tallies and the core of its image, given the answers."""
    tallies = [
        part
        for stage in range(len(answers))
        for tally in visit(method, lrms, pan, core, answers[:stage])
        for part in ([tally.means, tally.scatter] if isinstance(tally, Moments) else [tally.values])
    ]
    return torch.cat([part.flatten() for part in [*tallies, visit(method, lrms, pan, core, answers)]])


# LFormer's own test, below, is as sharp at a smaller size
@pytest.mark.parametrize("name", [name for name in [*STAGED, *LOCAL] if name != "lformer"])
@torch.inference_mode()
def test_nothing_beyond_the_reach_changes_a_tile_but_something_within_it_does(name):
    ratio = 3
    method = staged(name, ratio)
    border = method.reach + 1
    side = 2 * border + 1
    (lrms, pan), inside = scene(side, side, ratio), slice(border, border + 1)
    full = [torch.ones_like(image[:, :1], dtype=torch.bool) for image in (lrms, pan)]
    core, answers = Core(inside, inside, side, *full, side**2), []
    while isinstance(found := visit(method, lrms, pan, core, answers), tuple):
        answers.append(found)
    before = seen(method, lrms, pan, core, answers)

    def change(distance):
        """What pixels as far from the core as this, and further, change."""
        kept = [torch.zeros_like(mask) for mask in full]
        for k, mask in zip((1, ratio), kept, strict=True):
            box = slice(k * (border - distance + 1), k * (border + distance))
            mask[..., box, box] = True
        moved = [
            torch.where(mask, x, x + 100 * draw(*x.shape)) for mask, x in zip(kept, (lrms, pan), strict=True)
        ]
        after = seen(method, *moved, core, answers)
        return ((after - before).abs() / (1 + before.abs())).max()

    assert change(method.reach + 1) < 1e-12
    # through three filters behind each other the outermost pixels count for less than rounding
    assert change(method.reach - 8 * (name == "bandwise")) > 1e-11


@pytest.mark.parametrize("stages", [1, 2])
@torch.inference_mode()
def test_lformer_looks_eight_pixels_a_stage_and_fourteen_beyond_its_window(stages):
    network = LFormer(2, 8, stages=stages, attention_dim=8, hidden=8).double()
    shake(network)
    side, start = 2 * stages + 7, 8 * (stages + 3)
    lrms, pan = 1 + draw(1, 2, side, side), 1 + draw(1, 1, 8 * side, 8 * side)
    window = (..., slice(start, start + 8), slice(start, start + 8))

    def change(distance):
        kept, box = torch.zeros_like(pan, dtype=torch.bool), slice(start - distance + 1, start + 7 + distance)
        kept[..., box, box] = True
        moved = torch.where(kept, pan, pan + 100 * draw(*pan.shape, seed=1))
        return (network(lrms, moved) - network(lrms, pan))[window].abs().max()

    assert change(8 * stages + 14) > 1e-13
    assert change(8 * stages + 15) == 0


@pytest.mark.parametrize("name", sorted(WHOLE & CLASSICAL.keys()))
def test_a_method_that_looks_at_its_whole_image_in_another_way_has_no_reach(name):
    assert staged_method(name, QB, 4).reach is None


@pytest.mark.parametrize("name", sorted(WHOLE & NETWORKS.keys()))
def test_a_network_that_looks_at_its_whole_image_has_no_reach(name):
    network = build_network(name, 2, 2).double().eval()
    assert as_staged(network).reach is None


def test_a_network_that_says_nothing_of_its_reach_has_none():
    assert as_staged(torch.nn.Identity()).reach is None


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_staged_method_is_the_method_and_can_be_pickled(name):
    method = pickle.loads(pickle.dumps(staged_method(name, QB, 4)))
    stages, (lrms, pan) = method.stages(*scene(13, 14, 4)), scene(13, 14, 4)
    if name == "fe_hpm":
        lrms, pan = (x.repeat(1, 1, 2, 2) for x in (lrms, pan))
        stages = method.stages(lrms, pan)
    try:
        requests = next(stages)
        while True:
            assert all(isinstance(request, Request) for request in requests)
            requests = stages.send(tuple(request.tally() for request in requests))
    except StopIteration as end:
        assert torch.equal(end.value, get_method(name, QB, 4)(lrms, pan))


def test_a_network_asks_for_nothing():
    lrms, pan = (x.float() for x in scene(25, 27, 4))
    for name in ("pnn", "pannet"):
        network = build_network(name, 4, 4)
        inside = (..., *[slice(4 * network.reach, -4 * network.reach)] * 2)
        with pytest.raises(StopIteration) as end:
            next(as_staged(network).stages(lrms, pan))
        assert end.value.value.shape == network(lrms, pan).shape
        torch.testing.assert_close(end.value.value[inside], network(lrms, pan)[inside])


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="unknown classical method 'pnn'; known: exp, brovey"):
        staged_method("pnn", QB, 4)


def test_a_staged_function_keeps_its_name_and_its_words():
    assert gsa.__name__ == "gsa"
    assert gsa.__doc__.startswith("GSA: Gram-Schmidt")


def quad(*values):
    """Four values per band as 2 x 2 pixels."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, len(values), 2, 2)


def test_moments_by_hand():
    found = Spread(a=quad([1, 2, 3, 4], [0, 0, 4, 4]), b=quad([1, 1, 1, 5])).tally()
    assert found.count == 4
    assert found.mean("a").flatten().tolist() == [2.5, 2]
    assert found.deviation("a").flatten().tolist() == [math.sqrt(1.25), 2]
    assert found.covariance("a", "a").tolist() == [[[1.25, 2], [2, 4]]]
    assert found.covariance("b", "a").tolist() == [[[1.5, 2]]]
    assert found.products("a", "a").tolist() == [[[7.5, 7], [7, 8]]]
    assert found.slope("a", "b").flatten().tolist() == [0.5, 2 / 3]
    assert_same(found.correlation("a", "b").flatten(), [1.5 / math.sqrt(1.25 * 3), 2 / math.sqrt(12)])
    assert found.centred("b", quad([1, 1, 1, 5])).flatten().tolist() == [-1, -1, -1, 3]


def test_a_combination_has_the_moments_of_the_combined_image():
    bands, other = draw(2, 3, 5, 7), draw(2, 1, 5, 7, seed=1)
    weights = draw(2, 3, 2, seed=2)
    combined = torch.einsum("bck,bchw->bkhw", weights, bands)
    found = Spread(x=bands, y=other).tally().with_combination("z", "x", weights)
    expected = Spread(z=combined, y=other).tally()
    assert_same(found.mean("z"), expected.mean("z"))
    assert_same(found.covariance("z", "z"), expected.covariance("z", "z"))
    assert_same(found.slope("y", "y"), np.ones((2, 1, 1, 1)))
    assert_same(found.covariance("y", "z"), expected.covariance("y", "z"))


def everything(h, w, ratio=1, scene_pixels=None):
    """A core that is the whole of a tile of h x w LRMS px."""
    full = [torch.ones(1, 1, k * h, k * w, dtype=torch.bool) for k in (1, ratio)]
    return Core(slice(0, h), slice(0, w), h, *full, scene_pixels or full[1].numel())


@pytest.mark.parametrize(
    ("percent", "expected"), [(0.0, [1, 5]), (25.0, [1.5, 5.5]), (50.0, [2.5, 6.5]), (100.0, [4, 8])]
)
def test_percentiles_by_hand_in_one_piece_and_in_two(percent, expected):
    image = quad([3, 1, 4, 2], [5, 6, 7, 8])
    assert Percentile(image, percent).tally().percentile().flatten().tolist() == expected
    half = everything(2, 1, scene_pixels=4)
    halves = [Percentile(image[..., k : k + 1], percent).tally(half) for k in (0, 1)]
    assert (halves[0] + halves[1]).percentile().flatten().tolist() == expected


cuts = st.lists(st.integers(1, 22), min_size=3, max_size=3, unique=True).map(sorted)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), cuts, st.booleans(), st.floats(0, 100))
def test_tallies_of_parts_add_up_to_that_of_the_whole_in_any_grouping(seed, cut, large, percent):
    lms, pan = draw(1, 3, 5, 23, seed=seed), draw(1, 1, 5, 23, seed=seed + 1)
    if large:
        lms, pan = lms + 60000, pan + 60000

    def tallies(start, stop):
        a, b = lms[..., start:stop], pan[..., start:stop]
        core = everything(5, stop - start, scene_pixels=115)
        return Spread(a=a, b=b).tally(core), Percentile(a, percent).tally(core)

    parts = [tallies(*ends) for ends in zip([0, *cut], [*cut, 23], strict=True)]
    (whole, ordered), kinds = tallies(0, 23), list(zip(*parts, strict=True))
    (p, q, r, s), lowest = kinds
    for found in ((p + q) + (r + s), p + (q + (r + s)), s + r + q + p):
        assert found.count == whole.count == 115
        assert_same(found.means, whole.means, atol=1e-10)
        assert_same(found.scatter, whole.scatter, atol=1e-9)
    assert torch.equal(reduce(add, lowest).percentile(), ordered.percentile())


def test_large_values_of_small_deviation_do_not_cancel():
    image = (60000 + 2 * (draw(1, 1, 512, 512) > 0.5)).float()  # halves of 60000 and 60002
    tallies = [Spread(x=image).tally() for _ in range(64)]
    found = reduce(add, tallies)
    share = (image > 60001).double().mean().item()
    assert found.count == 64 * 512**2
    assert_same(found.scatter / found.count, [[[4 * share * (1 - share)]]], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_band_has_no_moments_but_a_mean(dtype):
    values = torch.full((1, 1, 40, 40), 0.3, dtype=dtype)
    rounding = values * (1 + torch.finfo(dtype).eps * draw(1, 1, 40, 40).round().to(dtype))
    other = draw(1, 1, 40, 40).to(dtype)
    found = Spread(x=torch.cat([values, rounding, other], 1), y=other).tally()
    assert found.deviation("x").flatten()[:2].tolist() == [0, 0]
    assert (found.centred("x", torch.cat([values, rounding, other], 1))[:, :2] == 0).all()
    assert (found.slope("x", "y").flatten() == found.correlation("x", "y").flatten()).all()
    assert_same(found.slope("x", "y").flatten(), [0, 0, 1], atol=1e-6)
    assert found.slope("y", "x").flatten()[:2].tolist() == [0, 0]
    assert found.covariance("x", "x")[:, :2].abs().max() == 0


@pytest.mark.parametrize("scale", [1, 4])
def test_neither_the_apron_counts_nor_what_is_nodata_in_either_image(scale):
    lrms_valid, pan_valid = draw(1, 1, 9, 11) > 0.3, draw(1, 1, 36, 44, seed=1) > 0.03
    if scale == 4:
        both = pan_valid & lrms_valid.repeat_interleave(4, -2).repeat_interleave(4, -1)
    else:
        both = lrms_valid & (F.avg_pool2d(pan_valid.double(), 4) == 1)
    image = draw(1, 3, 9 * scale, 11 * scale, seed=2)
    spoiled = torch.where(both, image, 1e9)
    spoiled[..., : 2 * scale, :] = math.nan
    core = Core(slice(2, 8), slice(3, 11), 9, lrms_valid, pan_valid, 36 * 44)
    inner = (..., slice(2 * scale, 8 * scale), slice(3 * scale, None))
    counted = image[inner][..., both[inner][0, 0]]
    found = Spread(x=spoiled).tally(core)
    assert 0 < found.count == counted.shape[-1] < inner[1].stop * 8 * scale
    assert_same(found.means, counted.mean(-1))
    assert_same(found.scatter / found.count, np.cov(counted[0], bias=True)[None])
    lowest = Percentile(spoiled, 1.0).tally(core)
    assert_same(lowest.percentile()[..., 0, 0], np.percentile(counted, 1, axis=-1, method="hazen"))


def test_tallies_can_be_pickled():
    found = Spread(x=draw(1, 3, 4, 5)).tally(), Percentile(draw(1, 3, 4, 5), 1.0).tally()
    again = pickle.loads(pickle.dumps(found))
    assert torch.equal((again[0] + found[0]).means, found[0].means)
    assert torch.equal(again[1].percentile(), found[1].percentile())
    assert len(pickle.dumps(found)) < 10000


def test_dependent_bands_do_not_let_rounding_through():
    """The haze lies outside the span of the bands, so BT-H shows what the fit does where it is free."""
    lrms, pan = scene(8, 9, 4)
    lrms = torch.cat([lrms, lrms.mean(1, keepdim=True)], 1)
    bt_h = get_method("bt_h", QB, 4)
    nudged = lrms * (1 + 1e-15 * draw(*lrms.shape))
    assert_same(bt_h(nudged, pan), bt_h(lrms, pan), atol=1e-10)


@dataclass(frozen=True)
class Sum:
    """A question whose answer is a number."""

    value: float

    def tally(self, core=None):
        return self.value


def asking(*values):
    total = 0.0
    for value in values:
        total = total * 10 + (yield from ask(Sum(value)))
    return total


def test_parts_that_ask_side_by_side_each_get_their_own_answers_in_as_few_rounds_as_they_can():
    stages, rounds = side_by_side(asking(1, 2, 3), asking(), asking(4, 5)), []
    with pytest.raises(StopIteration) as end:
        questions = next(stages)
        while True:
            rounds.append(len(questions))
            questions = stages.send(tuple(question.tally() for question in questions))
    assert end.value.value == [123, 0, 45] and rounds == [2, 2, 1]


@pytest.mark.parametrize("name", ["bandwise", "stack"])
@torch.inference_mode()
def test_what_steps_and_members_ask_takes_no_further_pass_over_the_scene(name):
    lrms, pan = scene(12, 13, 4)
    method = get_method(name, QB, 4)
    staged = as_staged(method) if name == "bandwise" else staged_stack(method, method.prior)
    stages, rounds = staged.stages(lrms.float(), pan.float()), 0
    with pytest.raises(StopIteration):
        questions = next(stages)
        while True:
            rounds += 1
            questions = stages.send(tuple(question.tally() for question in questions))
    assert rounds == 1
