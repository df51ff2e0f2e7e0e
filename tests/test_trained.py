"""A trained network's file: what comes back, and what is refused."""

import json
import os
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import same, tiny_supervisor
from torch import nn

from clippan_lib.errors import CheckpointError
from clippan_lib.files import read_tensors, write_tensors
from clippan_lib.fusion import NETWORKS, build_network, network_for
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import Sensor, get_sensor
from clippan_lib.training.loop import fit

KEY = "clippan_network"
ORIGIN = {"dataset": "dörfer", "seed": "3", "variant": "pnn-C"}
# Three bands at ratio 2, of no known satellite: nothing of it can come from the package's table
OWN = Sensor("MINE", ("a", "b", "c"), 12, 2, (0.31, 0.299999999999, 0.2), 0.13, (2, 1, 0), (0, 1, 2), False)


def pair(sensor, b=2, h=5, w=7):
    generator = torch.Generator().manual_seed(3)
    lrms = torch.rand(b, sensor.n_bands, h, w, generator=generator)
    return lrms, torch.rand(b, 1, h * sensor.ratio, w * sensor.ratio, generator=generator)


def network_of(name="pnn", sensor=OWN, seed=1):
    """A network whose every weight and buffer differs from those that `build_network` gives."""
    network = network_for(name, sensor, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return network


def made(name="pnn", sensor=OWN, max_value=1.0, seed=1):
    return TrainedNetwork(network_of(name, sensor, seed), name, sensor, max_value, ORIGIN)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_comes_back_bit_by_bit_even_from_the_layout_of_training(tmp_path, name):
    before = made(name)
    lrms, pan = pair(OWN)
    with torch.no_grad():
        expected = before.network(lrms, pan)
    before.network.to(memory_format=torch.channels_last).train()
    before.save(tmp_path / "a.safetensors")
    after = TrainedNetwork.load(tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(after.network(lrms, pan), expected)
    assert same(after.network.state_dict(), before.network.state_dict())


def test_steps_of_consistency_come_back_with_the_network_and_its_gains(tmp_path):
    network = network_for("pnn", OWN, seed=2, consistency=3)
    TrainedNetwork(network, "pnn", OWN, 1.0, ORIGIN).save(tmp_path / "a.safetensors")
    after = TrainedNetwork.load(tmp_path / "a.safetensors")
    assert (after.consistency, TrainedNetwork.header(tmp_path / "a.safetensors").consistency) == (3, 3)
    assert (after.network.steps, after.network.gnyq, after.network.ratio) == (3, OWN.gnyq, 2)
    lrms, pan = pair(OWN)
    assert torch.equal(after.network(lrms, pan), network(lrms, pan))
    assert not torch.equal(after.network(lrms, pan), network.network(lrms, pan))


def test_a_last_layer_with_pan_comes_back_with_its_sharpness(tmp_path):
    file, (lrms, pan) = tmp_path / "a.safetensors", pair(OWN)
    for sharpness in (None, 0.6):
        network = network_for("pnn", OWN, seed=2, consistency=2, sharpness=sharpness)
        TrainedNetwork(network, "pnn", OWN, 1.0, ORIGIN).save(file)
        after = TrainedNetwork.load(file)
        assert after.sharpness == TrainedNetwork.header(file).sharpness == sharpness
        assert torch.equal(after.network(lrms, pan), network(lrms, pan))
    weights, metadata = read_tensors(file, "")
    header = json.loads(metadata["clippan_network"]) | {"sharpness": 9.0}
    write_tensors(file, weights, {"clippan_network": json.dumps(header)})
    with pytest.raises(CheckpointError, match=r"fits no network.*gain 9.0 at Nyquist"):
        TrainedNetwork.load(file)


@pytest.mark.parametrize(
    ("sensor", "max_value"), [(OWN, 0.7), (get_sensor("WV3"), 2047.0), (get_sensor("L8"), 65535.0)]
)
def test_all_that_a_user_has_to_know_comes_back(tmp_path, sensor, max_value):
    made(sensor=sensor, max_value=max_value).save(tmp_path / "new" / "folder" / "a.safetensors")
    after = TrainedNetwork.load(str(tmp_path / "new" / "folder" / "a.safetensors"))
    assert (after.name, after.sensor, after.ratio) == ("pnn", sensor, sensor.ratio)
    assert (after.max_value, after.origin) == (max_value, ORIGIN)


def test_a_loaded_network_is_ready_for_use_and_for_nothing_else(tmp_path):
    made().save(tmp_path / "a.safetensors")
    state = torch.get_rng_state()
    network = TrainedNetwork.load(tmp_path / "a.safetensors").network
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())


def test_a_loaded_network_outlives_its_file(tmp_path):
    path = tmp_path / "a.safetensors"
    before = made()
    before.save(path)
    after = TrainedNetwork.load(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert same(after.network.state_dict(), before.network.state_dict())


def test_saving_leaves_the_network_as_it_is(tmp_path):
    before = made()
    before.network.to(memory_format=torch.channels_last).train()
    before.save(tmp_path / "a.safetensors")
    assert before.network.training and all(p.requires_grad for p in before.network.parameters())
    assert before.network.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left on device")])
def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch, error):
    path = tmp_path / "a.safetensors"
    before = made(seed=1)
    before.save(path)

    def fails(_):
        raise error

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        made(seed=2).save(path)
    assert same(TrainedNetwork.load(path).network.state_dict(), before.network.state_dict())
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    made(seed=2).save(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("max_value", [0.0, -1.0, float("nan")])
def test_a_largest_value_that_nothing_can_be_divided_by_is_not_written(tmp_path, max_value):
    with pytest.raises(ValueError, match="max_value"):
        made(max_value=max_value).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_header_alone_says_all_but_the_weights_and_reads_none(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    made(max_value=2047.0).save(path)
    monkeypatch.setattr("clippan_lib.fusion.trained.read_tensors", lambda *_: pytest.fail("read the weights"))
    header = TrainedNetwork.header(path)
    assert (header.name, header.sensor, header.max_value, header.origin) == ("pnn", OWN, 2047.0, ORIGIN)
    assert TrainedNetwork.header(str(path)) == header


# Refusals.


def refused(path, match, headers_too=True):
    """Every refusal names the file; of the header alone too, unless only the weights are at fault."""
    for read in (TrainedNetwork.load, TrainedNetwork.header) if headers_too else (TrainedNetwork.load,):
        with pytest.raises(CheckpointError, match=match) as refusal:
            read(path)
        assert str(path) in str(refusal.value)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("a few words, more than eight bytes")
    torch.save(build_network("pnn", 4, 4).state_dict(), tmp_path / "pickled.safetensors")
    (tmp_path / "empty.safetensors").touch()
    for name in ("text", "pickled", "empty", "missing"):
        refused(tmp_path / f"{name}.safetensors", "cannot be read as safetensors.*give a file of a run's")
    refused(tmp_path, "cannot be read as safetensors")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, share):
    path = tmp_path / "a.safetensors"
    made().save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, "cannot be read as safetensors.*copy it again if it was cut short")


def test_a_training_checkpoint_is_refused(tmp_path):
    network = nn.Conv2d(1, 1, 1)
    fit(
        {"network": network},
        lambda i: {"total": network.weight.sum()},
        iterations=1,
        lr=1e-3,
        checkpoint=tmp_path / "c.safetensors",
    )
    [path] = tmp_path.iterdir()
    refused(
        path, r"holds no network that can be used alone.*\['key', 'rows'\].*not one of stage1/ or stage2/"
    )


def test_a_supervisor_and_bare_weights_are_refused(tmp_path):
    tiny_supervisor().save(tmp_path / "supervisor.safetensors")
    refused(tmp_path / "supervisor.safetensors", r"\['clippan_supervisor'\]")
    save_file(build_network("pnn", 4, 4).state_dict(), tmp_path / "bare.safetensors")
    refused(tmp_path / "bare.safetensors", r"the keys \[\]")


def drop(weights, header):
    weights.pop("conv1.bias")


def add(weights, header):
    weights["conv9.bias"] = torch.zeros(3)


def reshape(weights, header):
    weights["conv1.bias"] = torch.zeros(3)


def double(weights, header):
    weights["conv1.bias"] = weights["conv1.bias"].double()


def halve(weights, header):
    weights["conv1.bias"] = weights["conv1.bias"].half()


def round_off(weights, header):
    weights["conv1.bias"] = weights["conv1.bias"].long()


def rename(weights, header):
    header["name"] = "pnn_of_tomorrow"


def rename_to_another(weights, header):
    header["name"] = "pannet"


def lose_a_band(weights, header):
    header["sensor"]["bands"].pop()


def lose_a_field(weights, header):
    del header["max_value"]


def gain_a_field(weights, header):
    header["offset"] = 1.0


def gain_a_field_of_the_sensor(weights, header):
    header["sensor"]["offset"] = 1.0


def count_without_end(weights, header):
    header["consistency"] = 10**9


def coarsen_without_end(weights, header):
    header["sensor"]["ratio"] = 10**6


def divide_by_zero(weights, header):
    header["max_value"] = 0.0


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (drop, r"left over \[\], missing \['conv1.bias'\]"),
        (add, r"left over \['conv9.bias'\], missing \[\]"),
        (reshape, r"conv1.bias has shape \(3,\), not \(48,\)"),
        (double, "conv1.bias is torch.float64, not torch.float32"),
        (halve, "conv1.bias is torch.float16, not torch.float32"),
        (round_off, "conv1.bias is torch.int64, not torch.float32"),
        (rename, "unknown network 'pnn_of_tomorrow'; known: pnn"),
        (rename_to_another, "left over"),
        (lose_a_band, "sensor MINE: 3 gains for 2 bands"),
        (lose_a_field, "max_value"),
        (gain_a_field, "offset"),
        (gain_a_field_of_the_sensor, "offset"),
        (divide_by_zero, "max_value"),
        (count_without_end, "consistency"),
        (coarsen_without_end, "ratio 1000000"),
    ],
)
def test_a_file_that_fits_no_network_of_ours_is_refused(tmp_path, fault, named):
    path = tmp_path / "a.safetensors"
    made().save(path)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[KEY])
    weights = load_file(path)
    fault(weights, header)
    save_file(weights, path, {KEY: json.dumps(header)})
    of_weights = fault in (drop, add, reshape, double, halve, round_off, rename, rename_to_another)
    refused(
        path, f"(?s)fits no network of this version of the package; write it again.*{named}", not of_weights
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_by_the_name_of_the_tensor(tmp_path, value):
    path, before = tmp_path / "a.safetensors", made()
    with torch.no_grad():
        before.network.conv2.bias[1] = value
    before.save(path)
    refused(path, rf"conv2.bias has 1 of 32 values that are not finite \({value}\).*give a file", False)


def test_a_weight_that_was_changed_after_it_was_written_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    made().save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights["conv1.bias"][0] += 1e-3
    save_file(weights, path, metadata)
    refused(path, "its tensors do not have the SHA-256 that is written there; give a file of a run's", False)


def test_a_word_of_the_header_that_was_changed_is_refused_even_without_the_weights(tmp_path):
    path = tmp_path / "a.safetensors"
    made().save(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.31,", b"0.39,"))
    assert path.read_bytes() != content
    refused(path, "its header does not have the SHA-256")


def test_a_byte_flipped_anywhere_is_refused_by_name(tmp_path):
    path, generator = tmp_path / "a.safetensors", random.Random(0)
    TrainedNetwork(network_of("bandwise"), "bandwise", OWN, 1.0, ORIGIN).save(path)
    content = path.read_bytes()
    for turn in range(60):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content) if turn % 2 else 1500)] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as told:
            TrainedNetwork.load(path)
        assert str(path) in str(told.value)


def test_a_file_of_before_there_were_digests_still_loads(tmp_path):
    path, before = tmp_path / "a.safetensors", made()
    before.save(path)
    _, metadata = read_tensors(path, "")
    save_file(load_file(path), path, metadata)
    with safe_open(path, "pt") as file:
        assert file.metadata().keys() == {KEY}
    assert same(TrainedNetwork.load(path).network.state_dict(), before.network.state_dict())


def test_a_folder_or_a_pipe_in_the_place_of_a_network_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        refused(path, "cannot be read as safetensors")


def test_a_description_that_is_no_json_is_refused(tmp_path):
    save_file({}, tmp_path / "a.safetensors", {KEY: "pnn"})
    refused(tmp_path / "a.safetensors", "fits no network of this version")
