"""The networks, the registry and published checkpoints."""

import contextlib
import random
import re
import zipfile
from copy import deepcopy
from functools import partial
from inspect import signature
from itertools import groupby
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file

from clippan_lib.errors import CheckpointError
from clippan_lib.fusion import CLASSICAL, NETWORKS, build_network, classical, get_method, staged_method
from clippan_lib.fusion.classical import mtf_glp_hpm_r
from clippan_lib.fusion.networks.lambda_pnn import LambdaPNN
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.fusion.published import PUBLISHED, _their_name, load_published
from clippan_lib.fusion.registry import BANDWISE, Family
from clippan_lib.mtf import upsample
from clippan_lib.sensors import get_sensor


def pair(bands=4, ratio=4, h=5, w=7, b=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    lrms = torch.rand(b, bands, h, w, generator=generator, dtype=dtype)
    return lrms, torch.rand(b, 1, h * ratio, w * ratio, generator=generator, dtype=dtype)


def small(name, bands=4, ratio=4):
    """The network with few filters where it has that argument."""
    return PNN(bands, ratio, hidden=(4, 3)) if name == "pnn" else build_network(name, bands, ratio)


# Per public form: parameters with 8 and with 4 bands (as counted from the public code), and how many of them never
# reach the output there and are left out of ours.
PARAMETERS = {
    "dlpan_pnn": (104_360, 80_420, 0),
    "a_pnn": (79_880, 61_124, 0),
    "lambda_pnn": (207_150, 198_442, 0),
    "dlpan_pannet": (83_024, 77_640, 0),
    "z_pannet": (83_016, 77_636, 0),
    "fusionnet": (78_632, 76_324, 0),
    "msdcnn": (228_556, 189_852, 0),
    "drpnn": (433_465, 418_365, 0),
    "arbrpn": (2_341_057, 2_341_057, 0),
    "lformer": (2_274_635, 2_273_307, 0),
    "lformer_qb": (1_069_355, 1_068_539, 0),
    "clippan_lformer": (1_788_347, 1_787_019, 0),  # without φ, 9 and 5 parameters more
    "pan_mamba": (480_752, 478_444, 6_400),
    "ship": (200_416, 199_260, 34_656),
}

# Parameters that the public networks hold, but whose gradient is zero by construction.
WITHOUT_EFFECT = {
    # one channel of PAN normalised over channels is 0; a shift before a softmax (`mix`: of the initial weights only)
    "lformer": r"attention\.(norm_pan\.gain|query\.0\.weight|key\.1\.bias)|evolutions\.\d\.mix\.bias",
    # a shift before a softmax
    "ship": r"interactions\.\d\.attention\.2\.bias",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_form_has_the_published_number_of_parameters(name):
    for bands, public in zip((8, 4), PARAMETERS[name], strict=False):
        network = PUBLISHED[name].build(bands, 4)
        assert sum(p.numel() for p in network.parameters()) == public - PARAMETERS[name][2]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("bands", "ratio", "b"), [(3, 2, 3), (4, 4, 1), (8, 4, 2), (1, 3, 1)])
def test_every_network_takes_any_number_of_bands_any_ratio_batch_and_odd_sizes(name, bands, ratio, b):
    lrms, pan = pair(bands, ratio, b=b)
    hrms = small(name, bands, ratio)(lrms, pan)
    assert hrms.shape == (b, bands, 5 * ratio, 7 * ratio)
    assert hrms.isfinite().all()


@pytest.mark.parametrize("name", ["pnn", "lambda_pnn", "pannet", "fusionnet"])
def test_a_residual_network_without_weights_gives_the_upsampled_image(name):
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
    lrms, pan = pair(dtype=torch.float64)
    network = small(name).double()
    network(lrms, pan).square().mean().backward()
    gradients = {key: p.grad.abs().max().item() for key, p in network.named_parameters()}
    largest = max(gradients.values())
    dead = {key for key, gradient in gradients.items() if gradient <= 1e-14 * largest}
    assert dead == {key for key in gradients if re.fullmatch(WITHOUT_EFFECT.get(name, ""), key)}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_works_in_double_precision_and_is_the_same_in_training_mode(name):
    lrms, pan = pair(dtype=torch.float64)
    network = small(name)
    single = network.train()(lrms.float(), pan.float())
    torch.testing.assert_close(network.eval()(lrms.float(), pan.float()), single, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(network.double()(lrms, pan), single.double(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_single_precision_is_enough_for_every_network_and_its_gradient(name, device):
    lrms, pan = pair(dtype=torch.float64)
    single = small(name)
    double, single = deepcopy(single).double(), single.to(device)
    wanted, found = double(lrms, pan), single(lrms.float().to(device), pan.float().to(device))
    torch.testing.assert_close(found.cpu().double(), wanted, atol=1e-5, rtol=2e-5)
    for hrms in (wanted, found):
        hrms.square().mean().backward()
    exact, rounded = (
        torch.cat([p.grad.flatten().cpu().double() for p in network.parameters()])
        for network in (double, single)
    )
    assert (rounded - exact).norm() < 2e-4 * exact.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_exported(name):
    lrms, pan = pair()
    network = small(name).eval()
    exported = torch.export.export(network, (lrms, pan)).module()
    torch.testing.assert_close(exported(lrms, pan), network(lrms, pan))


def test_a_pixel_of_pan_reaches_8_pixels_in_pnn_and_no_further():
    torch.manual_seed(0)
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
    with pytest.raises(ValueError, match="'pnnn'; known: pnn, lambda_pnn, pannet"):
        build_network("pnnn", 4, 4)
    with pytest.raises(ValueError, match="'brovy'; known: exp, brovey.*sr_d, tv$"):
        get_method("brovy", get_sensor("QB"), 4)
    with pytest.raises(ValueError, match="got 0 and 4"):
        build_network("pnn", 0, 4)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != BANDWISE])
def test_an_untrained_network_is_no_method(name):
    with pytest.raises(
        ValueError, match=rf"{name} is a network and has to be trained.*--network {name}"
    ) as told:
        get_method(name, get_sensor("QB"), 4)
    for way in ("TrainedNetwork.load(", "load_published(", f"build_network('{name}'"):
        assert way in str(told.value)


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_method_of_the_registry_is_called_with_the_pair_alone(name):
    lrms, pan = pair(h=16, w=16)
    hrms = get_method(name, get_sensor("QB"), 4)(lrms, pan)
    assert hrms.shape == (2, 4, 64, 64)
    assert hrms.isfinite().all()


@pytest.mark.parametrize(
    ("name", "title"),
    [("exp", "EXP"), ("mtf_glp_hpm_r", "MTF-GLP-HPM-R"), ("brovey", "Brovey"), ("sr_d", "SR-D")],
)
def test_classical_methods_are_written_as_in_papers(name, title):
    assert CLASSICAL[name].title == title


def test_every_row_of_the_classical_methods_is_of_its_own_and_tables_keep_families_together():
    assert [*CLASSICAL] == [row.name for row in CLASSICAL.values()]
    assert len({row.title for row in CLASSICAL.values()}) == len(CLASSICAL)
    families = [row.family for row in CLASSICAL.values()]
    assert [family for family, _ in groupby(families)] == list(get_args(Family))


@pytest.mark.parametrize("row", CLASSICAL.values(), ids=CLASSICAL)
def test_a_row_says_which_gains_its_method_takes_and_how_far_it_looks(row):
    assert row.fuse is getattr(classical, row.name)
    assert [name for name in signature(row.fuse).parameters if name.startswith("gnyq")] == [*row.needs]
    assert row.reach(4) == staged_method(row.name, get_sensor("QB"), 4).reach


@pytest.mark.parametrize("row", CLASSICAL.values(), ids=CLASSICAL)
def test_a_method_that_needs_gains_is_refused_without_a_sensor_and_no_other(row):
    if not row.needs:
        assert staged_method(row.name, None, 4).reach == row.reach(4)
        return
    said = rf"{row.name} needs the MTF gains of a sensor \({', '.join(row.needs)}\); give one"
    with pytest.raises(ValueError, match=said):
        staged_method(row.name, None, 4)


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


def bicubic(lrms, ratio):
    return torch.nn.functional.interpolate(lrms, scale_factor=ratio, mode="bicubic", align_corners=False)


@pytest.mark.parametrize(
    ("name", "as_public_code"),
    [
        ("a_pnn", partial(upsample, border="circular")),
        ("lambda_pnn", partial(upsample, border="circular")),
        ("z_pannet", partial(upsample, border="circular")),
        ("lformer", partial(upsample, border="circular")),
        ("clippan_lformer", bicubic),
    ],
)
def test_a_published_network_upsamples_as_all_methods_do_or_as_the_public_code_does(
    tmp_path, name, as_public_code
):
    # without weights nothing is left but the upsampled image
    state = {key: torch.zeros_like(value) for key, value in theirs(name).items()}
    save_file(state, tmp_path / "a.safetensors")
    lrms, pan = torch.rand(2, 4, 5, 7), torch.rand(2, 1, 20, 28)
    for as_published, expected in ((False, upsample), (True, as_public_code)):
        network = load_published(name, tmp_path / "a.safetensors", "QB", as_published=as_published).eval()
        with torch.no_grad():
            torch.testing.assert_close(network(lrms, pan), expected(lrms, 4))


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


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_published_file_that_is_missing_or_cut_short_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read.*give the path of the authors' file"):
        load_published("a_pnn", path, sensor="QB")
    (save_file if name == "a.safetensors" else torch.save)(theirs("a_pnn"), path)
    content = path.read_bytes()
    for share in (0.0, 0.01, 0.5, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError, match=rf"{name} cannot be read.*get it again"):
            load_published("a_pnn", path, sensor="QB")


def test_a_file_that_holds_more_than_weights_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": theirs("a_pnn"), "epoch": 3}, path)
    with pytest.raises(CheckpointError, match="plain table of weights"):
        load_published("a_pnn", path, sensor="QB")
    torch.save(PNN(4, 4), path)
    with pytest.raises(CheckpointError, match="more than weights"):
        load_published("a_pnn", path, sensor="QB")


FIRST = "conv1.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weight: weight.double(), "conv1.weight is torch.float64, not torch.float32"),
        (lambda weight: weight.half(), "conv1.weight is torch.float16, not torch.float32"),
        (lambda weight: weight * torch.nan, r"conv1.weight has 19440 of 19440 values.*not finite \(nan\)"),
        (lambda weight: weight.fill_(torch.inf), r"conv1.weight has.*not finite \(inf\)"),
        (
            lambda weight: torch.zeros(1).expand(10**9, 10**9),
            r"conv1.weight has shape \(1000000000, 1000000000\)",
        ),
        (lambda weight: weight.to_sparse(), "plain table of weights"),
        (lambda weight: weight.to("meta"), "plain table of weights"),
        (lambda weight: "weights", "plain table of weights"),
    ],
)
def test_a_published_weight_of_another_kind_or_without_a_number_is_refused_by_name(tmp_path, change, said):
    state = theirs("a_pnn")
    state[FIRST] = change(state[FIRST])
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth.*{said}"):
        load_published("a_pnn", tmp_path / "a.pth", sensor="QB")


@pytest.mark.parametrize("state", [{1: torch.zeros(1)}, [torch.zeros(1)], None, 3])
def test_a_published_file_that_holds_no_table_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth does not hold a plain table of weights"):
        load_published("a_pnn", tmp_path / "a.pth", sensor="QB")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_pickle_cut_or_flipped_anywhere_is_refused_by_name_or_loads(tmp_path, zipped):
    path = tmp_path / "a.pth"
    torch.save(theirs("a_pnn"), path, _use_new_zipfile_serialization=zipped)
    content, generator = path.read_bytes(), random.Random(0)
    for turn in range(60):
        damaged = bytearray(content)
        damaged[generator.randrange(900 if turn % 2 else len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged if turn % 3 else content[: generator.randrange(len(content))])
        with contextlib.suppress(CheckpointError):
            load_published("a_pnn", path, sensor="QB")


def test_a_flipped_bit_of_a_published_weight_is_seen_by_the_archives_checksum(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(theirs("a_pnn"), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth cannot be read.*checksum"):
        load_published("a_pnn", path, sensor="QB")


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(99), b"words", b"\x80\x02]."])
def test_a_published_file_that_is_no_pickle_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth (cannot be read|holds more).*authors' file"):
        load_published("a_pnn", tmp_path / "a.pth", sensor="QB")


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused_before_it_does(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/0", bytes(2**22))
    with pytest.raises(CheckpointError, match=r"a\.pth cannot be read.*claims 4194304 bytes"):
        load_published("a_pnn", tmp_path / "a.pth", sensor="QB")


def test_an_unknown_published_checkpoint_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match="'pnn'; known: dlpan_pnn, a_pnn, lambda_pnn, dlpan_pannet"):
        load_published("pnn", tmp_path / "a.pth", sensor="QB")


def test_the_page_of_methods_names_every_one_and_every_form_whose_weights_load():
    page = (Path(__file__).resolve().parents[1] / "docs/methods.md").read_text()
    assert [name for name in [*NETWORKS, *CLASSICAL, *PUBLISHED] if f"`{name}`" not in page] == []
