"""LFormer's windows, its attention and what becomes of it from stage to stage."""

import pytest
import torch
from torch.nn import functional as F

from clippan_lib.fusion.networks.lformer import (
    ChannelNorm,
    Detail,
    Evolution,
    LFormer,
    WindowAttention,
    join_windows,
    scramble,
    split_windows,
)


def rand(*shape, seed=5, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return LFormer(4, 4, stages=3, attention_dim=16, hidden=8).double()


def randomised(module, scale=0.5):
    """The module with every parameter drawn anew, so that no symmetry of the initial weights hides anything."""
    for i, parameter in enumerate(module.parameters()):
        parameter.data = scale * (rand(*parameter.shape, seed=i) - 0.5)
    return module.double()


def test_windows_are_cut_row_by_row_and_put_together_again():
    maps = rand(2, 3, 16, 24)
    tokens = split_windows(maps)
    assert tokens.shape == (2 * 2 * 3, 64, 3)
    # second image, window row 1 and column 2, pixel row 3 and column 6 in it
    assert torch.equal(tokens[6 + 3 + 2, 8 * 3 + 6], maps[1, :, 8 + 3, 16 + 6])
    assert torch.equal(join_windows(tokens, 16, 24), maps)


def test_scrambling_moves_each_element_to_where_the_public_code_reads_it():
    tokens, k = rand(2, 64, 24), 24
    moved = scramble(tokens)
    for channel in range(k):
        for pixel in range(64):
            element = channel * 64 + pixel
            assert torch.equal(moved[:, element // k, element % k], tokens[:, pixel, channel])


def test_scrambling_exchanges_pixel_and_channel_where_both_are_64():
    tokens = rand(2, 64, 64)
    assert torch.equal(scramble(tokens), tokens.mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_of_two_channels_is_their_sign_almost_and_of_one_exactly_zero(dtype):
    norm = ChannelNorm(2).to(dtype)
    norm.gain.data[0, 1] = 3
    maps = torch.tensor([1.0, 1.02], dtype=dtype).reshape(1, 2, 1, 1)
    size = 0.01 / (0.01**2 + 1e-5) ** 0.5  # far from 1: eps shows
    torch.testing.assert_close(norm(maps).flatten(), torch.tensor([-size, 3 * size], dtype=dtype))
    assert ChannelNorm(1).to(dtype)(rand(2, 1, 5, 7, dtype=dtype)).abs().max() == 0


def test_attention_and_its_values_are_those_of_a_loop_over_windows_heads_and_pixels():
    attention = randomised(WindowAttention(3, 16), scale=4)
    lms, pan = rand(1, 3, 8, 16), rand(1, 1, 8, 16, seed=6)
    weights, value = attention(lms, pan)
    normed = attention.norm_lms(lms)
    query = attention.query(torch.zeros_like(pan))
    key, values = attention.key(normed), attention.value(normed)
    for window in range(2):
        here = [maps[0, :, :, 8 * window : 8 * window + 8].flatten(1) for maps in (query, key, values)]
        summed = torch.zeros(64, 16, dtype=torch.float64)
        for head in range(8):
            q, k, v = (maps[2 * head : 2 * head + 2] for maps in here)
            for pixel in range(64):
                row = torch.softmax((q[:, pixel, None] * k).sum(0), dim=0)
                torch.testing.assert_close(weights[window, head, pixel], row)
                summed[pixel, 2 * head : 2 * head + 2] = (v * row).sum(1)
        projected = summed @ attention.project.weight.T + attention.project.bias
        expected = projected.T.reshape(8, 8, 16).permute(2, 0, 1)  # scrambled
        torch.testing.assert_close(value[0, :, :, 8 * window : 8 * window + 8], expected)


def test_attention_does_not_see_pan():
    attention = randomised(WindowAttention(3, 16))
    lms = rand(2, 3, 16, 8)
    first, other = (attention(lms, rand(2, 1, 16, 8, seed=seed)) for seed in (1, 2))
    assert torch.equal(first[0], other[0]) and torch.equal(first[1], other[1])


def test_pan_acts_through_the_details(small):
    lrms = rand(1, 4, 4, 4)
    first, other = (small(lrms, rand(1, 1, 16, 16, seed=seed)) for seed in (1, 2))
    assert (first - other).abs().max() > 1e-4


def test_parameters_that_never_learn_are_those_the_docstring_names(small):
    small.attention.key[1].weight.data *= 100  # or all keys get about the same attention
    for i, evolution in small.evolutions.items():
        randomised(evolution, scale=8)
        small.modulations[int(i)].fuse.bias.data += 1  # at first hardly any gradient passes the early stages
    small(rand(2, 4, 5, 7), rand(2, 1, 20, 28)).square().sum().backward()
    size = {name: p.grad.abs().max() for name, p in small.named_parameters()}
    assert size.pop("attention.norm_pan.gain") == size.pop("attention.query.0.weight") == 0
    assert size.pop("attention.key.1.bias") < 1e-9 * size["attention.key.1.weight"]
    assert min(size.values()) > 1e-5 * size["attention.key.1.weight"] > 0


def test_attention_evolves_through_two_convolutions_and_a_relu():
    evolution = randomised(Evolution(16), scale=8)
    attention = rand(3, 8, 64, 64).softmax(-1)
    logits = evolution.mix(evolution.slide(attention))
    assert (logits < 0).any()
    expected = logits.clamp(min=0).softmax(dim=-1)
    torch.testing.assert_close(evolution.evolve(attention), expected)


def test_even_attention_evolves_at_first_into_less_for_the_first_and_last_key_of_a_window():
    evolved = Evolution(16).double().evolve(torch.full((1, 8, 64, 64), 1 / 64, dtype=torch.float64))
    # a logit sums 8 mixed heads of 8 heads, 3 neighbours (2 at the ends) times 1/9 of 1/64
    inner, end = torch.exp(torch.tensor([3 / 9, 2 / 9], dtype=torch.float64))
    row = torch.cat([end[None], inner.expand(62), end[None]]) / (62 * inner + 2 * end)
    torch.testing.assert_close(evolved, row.expand(1, 8, 64, 64))


def test_equal_values_stay_equal_through_any_attention():
    evolution = randomised(Evolution(16), scale=8)
    with torch.no_grad():
        evolution.project.weight.zero_()
        evolution.project.bias.fill_(0.7)
    _, value = evolution(rand(2, 8, 64, 64).softmax(-1), rand(1, 16, 8, 16))
    torch.testing.assert_close(value, torch.full_like(value, 0.7))


def test_details_start_as_laplacians():
    detail = Detail(3, 4)
    impulse = torch.zeros(1, 3, 5, 5)
    impulse[..., 2, 2] = 1
    expected = torch.zeros(1, 3, 5, 5)
    expected[..., 2, 2] = -4
    for row, column in ((1, 2), (3, 2), (2, 1), (2, 3)):
        expected[..., row, column] = 1
    assert torch.equal(detail.lms[0](impulse), expected)
    assert torch.equal(detail.pan[0](impulse[:, :1]), expected[:, :1])


def test_sides_that_are_no_multiple_of_8_are_padded_by_edge_pixels_right_and_below(small, monkeypatch):
    monkeypatch.setattr(small, "upsample", lambda lrms, ratio: F.interpolate(lrms, scale_factor=4))
    lrms, pan = rand(2, 4, 5, 7), rand(2, 1, 20, 28)
    padded = small(F.pad(lrms, (0, 1, 0, 1), mode="replicate"), F.pad(pan, (0, 4, 0, 4), mode="replicate"))
    torch.testing.assert_close(small(lrms, pan), padded[..., :20, :28])


def test_the_smallest_pair_is_fused():
    hrms = LFormer(1, 2, stages=1, attention_dim=8, hidden=2)(torch.rand(1, 1, 1, 1), torch.rand(1, 1, 2, 2))
    assert hrms.shape == (1, 1, 2, 2)
    assert hrms.isfinite().all()


@pytest.mark.parametrize("sizes", [{"stages": 0}, {"attention_dim": 36}])
def test_no_stage_and_channels_the_heads_cannot_share_are_refused(sizes):
    with pytest.raises(ValueError, match=r"stages \d must be at least 1, attention_dim \d+ a multiple of 8"):
        LFormer(4, 4, **sizes)
