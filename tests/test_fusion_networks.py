"""The networks, the registry and published checkpoints."""

import pytest
import torch
from safetensors.torch import save_file

from clippan_lib.fusion import CLASSICAL, NETWORKS, build_network, get_method
from clippan_lib.fusion.checkpoints import PUBLISHED, CheckpointError, _their_name, load_published
from clippan_lib.fusion.classical import mtf_glp_hpm_r
from clippan_lib.fusion.lambda_pnn import LambdaPNN
from clippan_lib.fusion.pnn import PNN
from clippan_lib.mtf import upsample
from clippan_lib.sensors import get_sensor


def pair(bands=4, ratio=4, h=5, w=7, b=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    lrms = torch.rand(b, bands, h, w, generator=generator, dtype=dtype)
    return lrms, torch.rand(b, 1, h * ratio, w * ratio, generator=generator, dtype=dtype)


def small(name, bands=4, ratio=4):
    """The network with few filters where it has that argument."""
    return PNN(bands, ratio, hidden=(4, 3)) if name == "pnn" else build_network(name, bands, ratio)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (PNN(8, 4), 79_880),
        (PNN(4, 4), 61_124),
        (PNN(8, 4, hidden=(64, 32), residual=False), 104_360),
        (PNN(4, 4, hidden=(64, 32), residual=False), 80_420),
        (LambdaPNN(8, 4), 207_150),
        (LambdaPNN(4, 4), 198_442),
    ],
)
def test_the_networks_have_the_published_numbers_of_parameters(network, parameters):
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("bands", "ratio"), [(1, 4), (3, 2), (4, 4), (7, 3)])
def test_every_network_takes_any_number_of_bands_any_ratio_and_odd_sizes(name, bands, ratio):
    lrms, pan = pair(bands, ratio)
    hrms = small(name, bands, ratio)(lrms, pan)
    assert hrms.shape == (2, bands, 5 * ratio, 7 * ratio)
    assert hrms.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_without_weights_gives_the_upsampled_image(name):
    lrms, pan = pair()
    network = small(name)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(network(lrms, pan), upsample(lrms, 4, border="replicate"))


def test_a_network_without_residual_and_weights_gives_zero():
    lrms, pan = pair()
    network = PNN(4, 4, hidden=(4, 3), residual=False)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    assert network(lrms, pan).abs().max() == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fuses_each_image_of_a_batch_for_itself(name):
    lrms, pan = pair()
    network = small(name)
    alone = torch.cat([network(lrms[i : i + 1], pan[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(network(lrms, pan), alone)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_of_every_network_gets_a_gradient(name):
    lrms, pan = pair()
    network = small(name)
    network(lrms, pan).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_works_in_double_precision(name):
    lrms, pan = pair(dtype=torch.float64)
    network = small(name).double()
    single = network.float()(lrms.float(), pan.float())
    torch.testing.assert_close(network.double()(lrms, pan), single.double(), atol=1e-5, rtol=0)


def test_a_pixel_of_pan_reaches_8_pixels_in_pnn_and_no_further():
    lrms, pan = pair(h=8, w=8)
    network, other = PNN(4, 4, hidden=(4, 3)), pan.clone()
    other[:, :, 16, 12] += 1
    rows, columns = (network(lrms, pan) != network(lrms, other)).any(0).any(0).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 24, 4, 20)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pair_of_another_ratio_is_refused(name):
    lrms, pan = pair(ratio=2)
    with pytest.raises(ValueError, match="expected ratio 4"):
        small(name)(lrms, pan)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 5, 5\) must be odd"):
        PNN(4, 4, kernels=(8, 5, 5))


def test_lambda_pnn_refuses_a_pan_image_smaller_than_it_can_mirror():
    lrms, pan = pair(ratio=2, h=1, w=4)
    with pytest.raises(ValueError, match="at least 4 pixels"):
        LambdaPNN(4, 2)(lrms, pan)


def test_the_initial_weights_depend_on_the_seed_alone_and_leave_torch_as_it_was():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    weights = [build_network("pnn", 4, 4, seed).conv1.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_names_and_impossible_sizes_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="'pnnn'; known: pnn, lambda_pnn"):
        build_network("pnnn", 4, 4)
    with pytest.raises(ValueError, match="'brovy'; known: exp, gsa.*lambda_pnn"):
        get_method("brovy", get_sensor("QB"), 4)
    with pytest.raises(ValueError, match="got 0 and 4"):
        build_network("pnn", 0, 4)


@pytest.mark.parametrize("name", [*CLASSICAL, *NETWORKS])
def test_every_method_of_the_registry_is_called_with_the_pair_alone(name):
    lrms, pan = pair(h=16, w=16)
    hrms = get_method(name, get_sensor("QB"), 4)(lrms, pan)
    assert hrms.shape == (2, 4, 64, 64)
    assert hrms.isfinite().all()


def test_a_classical_method_carries_the_gains_of_its_sensor():
    lrms, pan = pair(h=16, w=16)
    ours = get_method("mtf_glp_hpm_r", get_sensor("QB"), 4)(lrms, pan)
    assert torch.equal(ours, mtf_glp_hpm_r(lrms, pan, 4, (0.34, 0.32, 0.30, 0.22)))
    assert not torch.equal(ours, get_method("mtf_glp_hpm_r", get_sensor("IKONOS"), 4)(lrms, pan))


def theirs(name, sensor="QB"):
    """Weights as the public file names them."""
    published = PUBLISHED[name]
    state = published.build(get_sensor(sensor).n_bands, 4).state_dict()
    return {published.prefix + _their_name(key, published): value for key, value in state.items()}


def test_a_published_checkpoint_is_loaded_from_either_kind_of_file(tmp_path):
    state = theirs("lambda_pnn")
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.tar")
    for path in (tmp_path / "a.safetensors", tmp_path / "a.tar"):
        network = load_published("lambda_pnn", path, sensor="QB")
        assert torch.equal(network.block2.conv1.weight, state["res_block_2.body.0.weight"])
        assert torch.equal(
            network.attention1.spatial.conv.bias, state["CBAM_1.SpatialGate.spatial.conv_1.bias"]
        )


def test_a_checkpoint_with_weights_too_many_or_missing_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    state = theirs("a_pnn")
    save_file(state | {"nihe.weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"left over \['nihe.weight'\]"):
        load_published("a_pnn", path, sensor="QB")
    del state["conv3.bias"]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"missing \['conv3.bias'\]"):
        load_published("a_pnn", path, sensor="QB")


def test_a_checkpoint_for_other_bands_or_another_form_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(theirs("a_pnn"), path)
    with pytest.raises(CheckpointError, match="is the sensor right"):
        load_published("a_pnn", path, sensor="WV3")
    with pytest.raises(CheckpointError, match=r"conv1.weight has shape \(48"):
        load_published("dlpan_pnn", path, sensor="QB")


def test_a_file_that_holds_more_than_weights_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": theirs("a_pnn"), "epoch": 3}, path)
    with pytest.raises(CheckpointError, match="plain table of weights"):
        load_published("a_pnn", path, sensor="QB")
    torch.save(PNN(4, 4), path)
    with pytest.raises(CheckpointError, match="more than weights"):
        load_published("a_pnn", path, sensor="QB")


def test_an_unknown_published_checkpoint_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match="'pnn'; known: dlpan_pnn, a_pnn, lambda_pnn"):
        load_published("pnn", tmp_path / "a.pth", sensor="QB")
