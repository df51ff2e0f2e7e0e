"""The pieces of Pan-Mamba, and of the residual block that it shares with SHIP."""

import pytest
import torch
from torch.nn import functional as F

from clippan_lib.fusion.networks.hin import HINBlock
from clippan_lib.fusion.networks.pan_mamba import Branch, Cross, PanMamba, Single, Swap


def pair(h=3, w=5, ratio=4, b=1):
    generator = torch.Generator().manual_seed(3)
    lrms = torch.rand(b, 4, h, w, generator=generator)
    return lrms, torch.rand(b, 1, h * ratio, w * ratio, generator=generator)


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PanMamba(4, 4, filters=8, singles=2, crosses=2)


def test_without_its_last_weights_the_network_repeats_the_pixels_of_ms(network):
    torch.nn.init.zeros_(network.conv2.weight)
    torch.nn.init.zeros_(network.conv2.bias)
    lrms, pan = pair()
    wanted = lrms.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert torch.equal(network(lrms, pan), wanted)


def test_the_initial_steps_lie_between_a_thousandth_and_a_tenth_and_the_decays_from_1_to_16():
    torch.manual_seed(0)
    branch = Branch(32)
    steps = F.softplus(branch.dt_proj.bias)
    assert (steps.min() >= 0.999e-3, steps.max() <= 0.1001) == (True, True)
    assert steps.log().std() > 1  # spread over the decades; evenly spread in log gives 1.33
    assert branch.dt_proj.weight.abs().max() <= 2**-0.5
    torch.testing.assert_close(branch.A_log.exp(), torch.arange(1.0, 17).expand(64, 16))


def test_a_branch_reads_only_tokens_that_came_before():
    torch.manual_seed(0)
    branch, x = Branch(8), tokens(1, 40, 8)
    y = branch(x)
    x[:, 25] += 1
    changed = (branch(x) != y).any(-1)[0]
    assert not changed[:25].any()
    assert changed[25:30].all()


def test_the_output_of_a_single_block_is_not_added_to_the_running_sum():
    torch.manual_seed(0)
    block, x, total = Single(8), tokens(2, 6, 8), torch.ones(2, 6, 8)
    out, after = block(x, total)
    assert torch.equal(after, x + total)
    assert torch.equal(out, block.mamba(block.norm(x + total)))


def test_the_streams_exchange_the_first_half_of_their_channels():
    block, zero = Swap(8), torch.zeros(1, 6, 8)
    block.norm_ms = block.norm_pan = block.mamba_ms = block.mamba_pan = torch.nn.Identity()
    ms, pan = tokens(1, 6, 8), tokens(1, 6, 8) + 5
    swapped_ms, swapped_pan, total_ms, total_pan = block(ms, pan, zero, zero)
    assert torch.equal(swapped_ms, torch.cat([pan[..., :4], ms[..., 4:]], dim=-1))
    assert torch.equal(swapped_pan, torch.cat([ms[..., :4], pan[..., 4:]], dim=-1))
    assert torch.equal(total_ms, ms)
    assert torch.equal(total_pan, pan)


def test_the_fusing_block_normalises_both_streams_twice():
    torch.manual_seed(0)
    block, ms, pan = Cross(8), tokens(1, 6, 8), tokens(1, 6, 8).flip(1)
    with torch.no_grad():
        block.norm_ms.weight.mul_(3)
        block.norm_pan.bias.add_(tokens(8))
    calls = []
    block.norm_ms.register_forward_hook(lambda *_: calls.append("ms"))
    block.norm_pan.register_forward_hook(lambda *_: calls.append("pan"))
    out, total = block(ms, pan, torch.ones(1, 6, 8), 2, 3)
    assert calls == ["ms", "ms", "pan", "pan"]
    assert torch.equal(total, ms + 1)
    assert out.shape == ms.shape


def test_pixels_are_read_row_by_row():
    torch.manual_seed(0)
    block, pan = Cross(8), torch.zeros(1, 15, 8)
    with torch.no_grad():
        block.conv.weight.zero_()
    ms = tokens(1, 15, 8)
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(5), indexing="ij")
    later = (5 * rows + columns >= 7).flatten()  # of 3 x 5 pixels, those from row 1, column 2 on
    out, _ = block(ms, pan, torch.zeros(1, 15, 8), 3, 5)
    ms[:, 7] += torch.arange(8.0)
    changed = (block(ms, pan, torch.zeros(1, 15, 8), 3, 5)[0] != out).any(-1)[0]
    assert not changed[~later].any()
    assert changed[7]


def hand_made(skip):
    """A block whose convolutions pass each channel on, so that only the order of its steps is left."""
    block = HINBlock(2, 2, slope=0.5, skip=skip)
    for conv in block.children():
        if isinstance(conv, torch.nn.Conv2d):
            torch.nn.init.dirac_(conv.weight)
            torch.nn.init.zeros_(conv.bias)
    return block


@pytest.mark.parametrize(
    ("skip", "first"),
    # -4 and 0: activated first, -2 and 0, mean -1, deviation 1, so -1 and 1, activated -1/2 and 1;
    # normalised first, -1 and 1, activated twice -1/4 and 1
    [(False, (-0.5, 1)), (True, (-0.25, 1))],
)
def test_the_residual_block_activates_before_or_after_it_normalises(skip, first):
    maps = torch.tensor([[[[-4.0, 0.0]], [[-4.0, 8.0]]]])
    inner = hand_made(skip)(maps) - maps
    torch.testing.assert_close(inner, torch.tensor([[[first], [(-1, 8)]]]), atol=1e-4, rtol=0)


def test_the_residual_block_holds_a_skip_convolution_only_where_asked():
    names = {name.partition(".")[0] for name, _ in HINBlock(4, 6, slope=0.1, skip=True).named_parameters()}
    assert names == {"conv1", "conv2", "norm", "identity"}
    names = {name.partition(".")[0] for name, _ in HINBlock(6, 6, slope=0.1, skip=False).named_parameters()}
    assert names == {"conv1", "conv2", "norm"}
    assert HINBlock(4, 6, slope=0.1, skip=True)(torch.ones(1, 4, 3, 3)).shape == (1, 6, 3, 3)


def test_the_smallest_pair_is_fused(network):
    assert network.eval()(*pair(h=1, w=1)).shape == (1, 4, 4, 4)


def test_a_count_of_filters_that_cannot_be_quartered_is_refused():
    with pytest.raises(ValueError, match="filters 6 must be a multiple of 4"):
        PanMamba(4, 4, filters=6)
