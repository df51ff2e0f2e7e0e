"""SHIP: what its parts do, each by itself."""

import math

import pytest
import torch
from torch import nn

from clippan_lib.fusion.networks.ship import (
    SHIP,
    ChannelNorm,
    ChannelShift,
    Interaction,
    InvertibleBlock,
    InvertibleConvolution,
    _mix,
    circular_convolution,
)


def maps(*shape, seed=5, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(build, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def pair(bands=4, ratio=4, h=5, w=7, dtype=torch.float32):
    return maps(2, bands, h, w, dtype=dtype), maps(2, 1, h * ratio, w * ratio, seed=6, dtype=dtype)


def test_circular_convolution_of_a_row_by_hand():
    row, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 10.0])
    convolved = circular_convolution(row[None, None, None], other[None, None, None])
    torch.testing.assert_close(convolved[0, 0, 0], torch.tensor([23.0, 31.0, 12.0]))


def test_circular_convolution_with_a_point_moves_an_image_of_odd_size_around():
    image, point = maps(2, 3, 5, 7), torch.zeros(2, 3, 5, 7, dtype=torch.float64)
    point[:, :, 2, 6] = 1
    torch.testing.assert_close(circular_convolution(image, point), image.roll((2, 6), dims=(2, 3)))


def test_the_norm_is_over_the_channels_of_each_pixel():
    normed = ChannelNorm(3)(torch.tensor([1.0, 3.0, 5.0])[None, :, None, None].expand(1, 3, 2, 5))
    expected = torch.tensor([-1.5, 0, 1.5]) * math.sqrt(2 / 3)
    torch.testing.assert_close(normed[0, :, 1, 4], expected, atol=1e-5, rtol=0)


def test_a_mixed_channel_is_the_weighted_sum_of_all_channels():
    image = maps(1, 2, 3, 4)
    mixed = _mix(torch.tensor([[[0.0, 1.0], [0.25, 0.75]]], dtype=torch.float64), image)
    torch.testing.assert_close(mixed[:, 0], image[:, 1])
    torch.testing.assert_close(mixed[:, 1], image[:, 0] / 4 + 3 * image[:, 1] / 4)


def test_the_attention_is_on_the_sum_over_the_pixels_and_so_sharper_in_a_larger_image(monkeypatch):
    block, seen, softmax = Interaction(4).double(), [], torch.softmax
    ms, pan = maps(1, 4, 5, 7), maps(1, 4, 5, 7, seed=6)
    monkeypatch.setattr(torch, "softmax", lambda logits, dim: seen.append(logits) or softmax(logits, dim))
    block(ms, pan)
    block(ms.repeat(1, 1, 2, 3), pan.repeat(1, 1, 2, 3))
    torch.testing.assert_close(seen[0][0, 1, 2], (ms[0, 1] * pan[0, 2]).sum())
    torch.testing.assert_close(seen[2], 6 * seen[0])


def test_the_last_bias_of_the_attention_has_no_effect():
    block, (ms, pan) = Interaction(4).double(), (maps(1, 4, 5, 7), maps(1, 4, 5, 7, seed=6))
    before = block(ms, pan)
    nn.init.constant_(block.attention[2].bias, 7.0)
    torch.testing.assert_close(block(ms, pan), before)


@pytest.mark.parametrize("seed", range(12))
def test_no_attention_starts_dead(seed):
    block = seeded(lambda: Interaction(16), seed).double()
    block(maps(1, 16, 32, 32), maps(1, 16, 32, 32, seed=6)).square().mean().backward()
    assert block.attention[0].weight.grad.abs().max() > 0


def test_the_invertible_convolution_starts_as_a_rotation():
    weight = seeded(lambda: InvertibleConvolution(6)).weight()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6), atol=1e-6, rtol=0)


def test_the_invertible_convolution_is_the_product_of_its_factors_by_hand():
    convolution = InvertibleConvolution(3)
    convolution.permutation.copy_(torch.eye(3).roll(1, dims=1))  # the first row goes to the end
    convolution.sign.copy_(torch.tensor([1.0, -1.0, 1.0]))
    with torch.no_grad():  # of lower and upper only the strict triangles count: no 9
        convolution.lower.copy_(torch.tensor([[9.0, 9, 9], [3, 9, 9], [0, 0, 9]]))
        convolution.upper.copy_(torch.tensor([[9.0, 5, 0], [9, 9, 0], [9, 9, 9]]))
        convolution.log_diagonal.copy_(torch.tensor([2.0, 4.0, 1.0]).log())
    torch.testing.assert_close(convolution.weight(), torch.tensor([[6.0, 11, 0], [0, 0, 1], [2, 5, 0]]))
    image = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None]
    torch.testing.assert_close(convolution(image).flatten(), torch.tensor([28.0, 3.0, 12.0]))


def log_scale(block, half1):
    return 0.8 * torch.tanh(block.scale(half1) / 2)


def test_the_invertible_block_can_be_inverted():
    block, image = InvertibleBlock(6, growth=4).double(), maps(2, 6, 5, 7)
    half1, half2 = block(image).chunk(2, dim=1)
    half2 = (half2 - block.shift2(half1)) * torch.exp(-log_scale(block, half1))
    half1 = half1 - block.shift1(half2)
    unrotated = torch.einsum(
        "ij,bjhw->bihw", block.rotate.weight().inverse(), torch.cat([half1, half2], dim=1)
    )
    torch.testing.assert_close(unrotated, image)


def test_the_invertible_block_scales_by_no_more_than_the_exponential_of_its_clamp():
    block, image = InvertibleBlock(6, growth=4).double(), maps(1, 6, 5, 7)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    block.rotate.permutation.copy_(torch.eye(6))
    block.rotate.sign.fill_(1)
    nn.init.constant_(block.scale.conv.bias, 1e3)
    torch.testing.assert_close(block(image)[:, :3], image[:, :3])
    torch.testing.assert_close(block(image)[:, 3:], math.exp(0.8) * image[:, 3:])


def test_a_channel_shift_adds_half_its_bias_when_nothing_else_is_there():
    shift, image = ChannelShift(4, reduction=4).double(), maps(2, 4, 5, 7)
    for parameter in shift.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        shift.process[2].bias.copy_(torch.tensor([0.0, 1.0, -2.0, 3.0]))
    expected = image + torch.tensor([0.0, 0.5, -1.0, 1.5], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(shift(image), expected)


def test_a_channel_shift_moves_all_pixels_of_a_channel_alike():
    shift, image = ChannelShift(4, reduction=4).double(), maps(2, 4, 5, 7)
    moved = shift(image) - image
    torch.testing.assert_close(moved, moved[:, :, :1, :1].expand_as(moved))
    assert moved.abs().min() > 0


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_ms_is_upsampled_bilinearly_with_its_pixels_in_the_middle_of_pans(ratio):
    network = SHIP(3, ratio)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    hrms = network(torch.arange(6.0).expand(1, 3, 4, 6), torch.ones(1, 1, 4 * ratio, 6 * ratio))
    position = (torch.arange(6.0 * ratio) - (ratio - 1) / 2) / ratio
    torch.testing.assert_close(hrms[0, 1, 2], position.clamp(0, 5))


@pytest.mark.parametrize(("ratio", "h", "w"), [(2, 1, 1), (3, 1, 3), (3, 5, 1)])
def test_the_smallest_images_and_odd_sides_are_fused(ratio, h, w):
    lrms, pan = pair(1, ratio, h, w)
    assert SHIP(1, ratio)(lrms, pan).isfinite().all()
