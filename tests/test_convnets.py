"""What is particular to PanNet, FusionNet, MSDCNN and DRPNN."""

import pytest
import torch

from clippan_lib.fusion.networks.drpnn import DRPNN
from clippan_lib.fusion.networks.fusionnet import FusionNet
from clippan_lib.fusion.networks.msdcnn import MSDCNN, MultiScaleConv
from clippan_lib.fusion.networks.pannet import PanNet, high_pass
from clippan_lib.fusion.networks.residual import ResidualBlock
from clippan_lib.mtf import upsample


def pair(bands=3, ratio=2, h=5, w=7, b=2):
    generator = torch.Generator().manual_seed(5)
    lrms = torch.rand(b, bands, h, w, generator=generator, dtype=torch.float64)
    return lrms, torch.rand(b, 1, h * ratio, w * ratio, generator=generator, dtype=torch.float64)


def without_weights(module):
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    return module


def impulse(height, width, row, column):
    image = torch.zeros(1, 1, height, width)
    image[..., row, column] = 1
    return image


@pytest.mark.parametrize(("border", "copies"), [("reflect", 1), ("replicate", 9)])
def test_the_high_pass_filter_counts_a_corner_pixel_as_often_as_its_border_repeats_it(border, copies):
    hp = high_pass(impulse(6, 7, 0, 0), border)
    assert hp[0, 0, 0, 0].item() == pytest.approx(1 - copies / 25)


def test_the_high_pass_filter_takes_the_mean_over_5_by_5_pixels():
    expected = torch.zeros(9, 8)
    expected[2:7, 1:6] = -1 / 25
    expected[4, 3] += 1
    torch.testing.assert_close(high_pass(impulse(9, 8, 4, 3), "reflect")[0, 0], expected)


@pytest.mark.parametrize("border", ["reflect", "replicate"])
def test_the_high_pass_filter_in_float32_is_that_in_float64_to_rounding(border):
    image = 0.8 + 0.2 * pair(h=40, w=33)[1]
    error = high_pass(image.float(), border) - high_pass(image, border)
    assert error.abs().max() < 3e-7


@pytest.mark.parametrize("border", ["reflect", "replicate"])
def test_pannet_keeps_the_level_of_ms_and_does_not_see_that_of_pan(border):
    lrms, pan = pair()
    network = PanNet(3, 2, border).double()
    level = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)[:, None, None]
    hrms, raised = network(lrms, pan), network(lrms + level, pan + 0.4)
    torch.testing.assert_close(raised, hrms + level, atol=1e-9, rtol=0)


@pytest.mark.parametrize("ratio", [2, 3, 4, 5])
def test_pannets_transposed_convolution_is_centred_on_the_low_resolution_pixel_at_any_ratio(ratio):
    lifted = PanNet(1, ratio, bias=False).deconv(impulse(5, 7, 2, 3))
    assert lifted.shape == (1, 1, 5 * ratio, 7 * ratio)
    rows, columns = lifted[0, 0].nonzero().T
    for touched, k in ((rows, 2), (columns, 3)):
        assert (touched.min() + touched.max()).item() == 2 * ratio * k + ratio - 1
        assert touched.max() - touched.min() + 1 == 2 * ratio + ratio % 2


def test_pannet_refuses_an_lrms_image_smaller_than_it_can_mirror():
    lrms, pan = pair(h=2)
    with pytest.raises(ValueError, match="at least 3 pixels"):
        PanNet(3, 2)(lrms.float(), pan.float())
    lrms, pan = pair(h=3, w=3)
    assert PanNet(3, 2).double()(lrms, pan).isfinite().all()


def test_pannet_with_a_repeated_border_takes_a_single_pixel():
    lrms, pan = pair(h=1, w=1)
    assert PanNet(3, 2, border="replicate").double()(lrms, pan).shape == (2, 3, 2, 2)


def test_fusionnet_sees_only_the_difference_of_pan_and_ms():
    lrms, pan = pair()
    network = FusionNet(3, 2).double()
    torch.testing.assert_close(network(lrms + 0.3, pan + 0.3), network(lrms, pan) + 0.3, atol=1e-9, rtol=0)


def test_a_residual_block_adds_to_its_input_with_no_relu_after_it():
    maps = pair(bands=4)[0]
    block = without_weights(ResidualBlock(4)).double()
    torch.nn.init.constant_(block.conv2.bias, -2)
    assert torch.equal(block(maps), maps - 2)


def test_a_multi_scale_convolution_stacks_three_sizes_and_adds_before_its_relu():
    block = without_weights(MultiScaleConv(6))
    for conv, bias in ((block.conv1, -1.0), (block.conv2, 0.0), (block.conv3, 2.0)):
        torch.nn.init.constant_(conv.bias, bias)
    out = block(torch.full((1, 6, 2, 3), 0.5))
    assert out[0, :, 0, 0].tolist() == [0, 0, 0.5, 0.5, 2.5, 2.5]
    assert [conv.kernel_size for conv in (block.conv1, block.conv2, block.conv3)] == [(3, 3), (5, 5), (7, 7)]


@pytest.mark.parametrize("branch", ["conv5", "shallow3"])
def test_msdcnn_sums_its_branches_and_is_nowhere_negative(branch):
    lrms, pan = pair()
    network = without_weights(MSDCNN(3, 2)).double()
    bias = getattr(network, branch).bias
    bias.data = torch.tensor([0.3, -0.3, 2.0], dtype=torch.float64)
    assert network(lrms, pan)[0, :, 4, 3].tolist() == [0.3, 0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_no_band_of_an_untrained_msdcnn_lies_where_the_last_relu_passes_no_gradient(seed):
    torch.manual_seed(seed)
    lrms, pan = pair(bands=8)
    assert MSDCNN(8, 2).double()(lrms, pan).amin() > 0


def test_drpnn_adds_ms_and_pan_before_its_last_convolution_with_no_relu_between():
    lrms, pan = pair()
    network = without_weights(DRPNN(3, 2)).double()
    torch.nn.init.constant_(network.conv2.bias, -2)
    with torch.no_grad():
        network.conv3.weight[range(3), range(3), 3, 3] = 1
        network.conv3.weight[2, 3, 3, 3] = 0.5
    expected = upsample(lrms, 2, border="replicate") - 2
    expected[:, 2:] += 0.5 * (pan - 2)
    torch.testing.assert_close(network(lrms, pan), expected)


@pytest.mark.parametrize(("build", "reach"), [(PanNet, 12), (FusionNet, 10), (MSDCNN, 12), (DRPNN, 33)])
def test_a_pixel_depends_on_pan_as_far_as_the_docstring_says(build, reach):
    torch.manual_seed(0)
    network = build(2, 2).double()
    lrms, pan = pair(bands=2, h=34, w=35, b=1)
    pan.requires_grad_()
    network(lrms, pan)[0, :, 34, 35].sum().backward()
    rows, columns = pan.grad[0, 0].nonzero().T
    assert (rows.min(), rows.max()) == (34 - reach, 34 + reach)
    assert (columns.min(), columns.max()) == (35 - reach, 35 + reach)
