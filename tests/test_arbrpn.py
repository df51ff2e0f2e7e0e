"""ArbRPN: the order of its recurrence, and that it takes any bands."""

import pytest
import torch
from torch.nn import functional as F

from clippan_lib.fusion.networks.arbrpn import ArbRPN, Pass


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def without_weights(network):
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    return network


def set_centre(conv, *weights):
    """Make a convolution to one map pointwise."""
    middle = conv.kernel_size[0] // 2
    with torch.no_grad():
        conv.weight[0, :, middle, middle] = torch.tensor(weights)


def pointwise(*merges):
    """One map, blocks that do nothing; per cycle the weights of (band, hidden, PAN) onward and back."""
    network = without_weights(ArbRPN(2, 2, cycles=len(merges), filters=1))
    for conv in (network.from_band, network.from_pan, network.to_band):
        set_centre(conv, 1.0)
    for onward, back, (weights_onward, weights_back) in zip(
        network.onward, network.back, merges, strict=True
    ):
        set_centre(onward.merge, *weights_onward)
        set_centre(back.merge, *weights_back)
    return network


def fused(network):
    """Both bands of the image fused from bands of 1 and 10 and a PAN image of 100."""
    lrms = torch.tensor([1.0, 10.0])[None, :, None, None].expand(1, 2, 3, 3)
    hrms = network(lrms, torch.full((1, 1, 6, 6), 100.0))
    assert torch.equal(hrms, hrms[:, :, :1, :1].expand_as(hrms))
    return hrms[0, :, 0, 0].tolist()


def test_a_cycle_visits_the_bands_in_order_then_in_reverse_with_one_hidden_state():
    # onward h = 1 + 100 = 101, 10 + 101 = 111; back h = 111 + 111 + 100 = 322, 101 + 322 + 100 = 523
    assert fused(pointwise(((1, 1, 0), (1, 1, 1)))) == [1 + 523, 10 + 322]


def test_the_next_cycle_starts_from_the_features_and_the_hidden_state_of_the_last():
    # onward h = 523 + 523 = 1046, 322 + 1046 = 1368; back passes these on
    first = ((1, 1, 0), (1, 1, 1))
    assert fused(pointwise(first, ((1, 1, 0), (1, 0, 0)))) == [1 + 1046, 10 + 1368]


def test_a_pass_merges_the_features_of_the_band_the_hidden_state_and_pan_in_this_order():
    one_pass = Pass(3).double()
    band, other, hidden, pan = noise(4, 2, 3, 5, 7)
    first, second = one_pass([band, other], hidden, pan)
    torch.testing.assert_close(first, one_pass.blocks(one_pass.merge(torch.cat([band, hidden, pan], dim=1))))
    torch.testing.assert_close(second, one_pass.blocks(one_pass.merge(torch.cat([other, first, pan], dim=1))))


def test_a_network_takes_other_bands_than_it_was_built_for():
    built_for_4, built_for_7 = ArbRPN(4, 2, cycles=1, filters=2), ArbRPN(7, 2, cycles=1, filters=2)
    built_for_7.load_state_dict(built_for_4.state_dict())
    lrms, pan = noise(2, 7, 3, 5).float(), noise(2, 1, 6, 10).float()
    assert torch.equal(built_for_4(lrms, pan), built_for_7(lrms, pan))


def test_without_weights_it_gives_the_bicubic_image():
    network = without_weights(ArbRPN(3, 4, cycles=1, filters=2))
    lrms, pan = noise(2, 3, 5, 7).float(), noise(2, 1, 20, 28).float()
    expected = F.interpolate(lrms, scale_factor=4, mode="bicubic", align_corners=False)
    assert torch.equal(network(lrms, pan), expected)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_a_low_resolution_pixel_lies_in_the_middle_of_its_area(ratio):
    network = without_weights(ArbRPN(1, ratio, cycles=1, filters=2)).double()
    lrms = torch.zeros(1, 1, 7, 9, dtype=torch.float64)
    lrms[..., 3, 5] = 1
    hrms = network(lrms, noise(1, 1, 7 * ratio, 9 * ratio))[0, 0].detach()
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in hrms.shape)
    centre = (hrms.sum(1) @ rows / hrms.sum(), hrms.sum(0) @ columns / hrms.sum())
    assert centre == pytest.approx((3 * ratio + (ratio - 1) / 2, 5 * ratio + (ratio - 1) / 2))


def test_a_pixel_of_pan_reaches_as_far_as_the_docstring_says():
    torch.manual_seed(0)
    network = ArbRPN(2, 2, cycles=1, filters=4).double()
    lrms, pan = noise(1, 2, 32, 32), noise(1, 1, 64, 64)
    other = pan.clone()
    other[:, :, 32, 30] += 1
    rows, columns = (network(lrms, pan) != network(lrms, other)).any(0).any(0).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32 - 26, 32 + 26, 30 - 26, 30 + 26)
