"""The band-wise network: one set of weights for any bands, its training, and what comes with the package."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from safetensors import safe_open

from clippan_lib.data import wald
from clippan_lib.data.synthetic import render
from clippan_lib.fusion import get_method
from clippan_lib.fusion.consistency import consistent
from clippan_lib.fusion.networks.bandwise import STEPS, BandWise
from clippan_lib.fusion.pretrain import PretrainConfig, deliver, fidelity, look, train
from clippan_lib.metrics import mpsnr
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import make_config

QB, WV3 = get_sensor("QB"), get_sensor("WV3")
SHIPPED = files("clippan_lib.assets").joinpath("bandwise.safetensors")


def pair(bands=4, b=2, h=8, w=11):
    generator = torch.Generator().manual_seed(0)
    lrms = 0.2 + 0.5 * torch.rand(b, bands, h, w, generator=generator)
    return lrms, 0.2 + 0.5 * torch.rand(b, 1, 4 * h, 4 * w, generator=generator)


def trained_by_chance(bands=4):
    network = BandWise(bands, 4)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return network.eval()


def test_without_its_residual_it_is_the_mean_of_gsa_and_bt_h_made_consistent_by_one_step():
    lrms, pan = pair()
    network = BandWise(4, 4).through(QB.gnyq)
    torch.nn.init.zeros_(network.tail.weight)
    mean = (get_method("gsa", QB, 4)(lrms, pan) + get_method("bt_h", QB, 4)(lrms, pan)) / 2
    expected = consistent(mean, lrms, QB.gnyq, 4, 1)
    assert torch.allclose(network(lrms, pan), expected, rtol=1e-5, atol=1e-5)


def test_its_weights_serve_any_number_of_bands_and_bands_in_any_order():
    network = trained_by_chance()
    eight = BandWise(8, 4)
    eight.load_state_dict(network.state_dict())
    assert eight(*pair(8)).shape == (2, 8, 32, 44)
    lrms, pan = pair(3)
    three = BandWise(3, 4).through((0.2, 0.3, 0.4))
    three.load_state_dict(network.state_dict())
    turned = BandWise(3, 4).through((0.4, 0.2, 0.3))
    turned.load_state_dict(network.state_dict())
    order = [2, 0, 1]
    assert torch.allclose(turned(lrms[:, order], pan), three(lrms, pan)[:, order], atol=1e-5)


def test_it_does_not_care_for_the_units_of_the_images():
    lrms, pan = pair()
    network = trained_by_chance()
    assert torch.allclose(network(0.25 * lrms, 0.25 * pan), 0.25 * network(lrms, pan), atol=1e-5)


def test_in_strips_it_computes_what_it_computes_at_once(monkeypatch):
    lrms, pan = pair()
    network = trained_by_chance()
    at_once = network(lrms, pan).detach()
    monkeypatch.setattr("clippan_lib.fusion.networks.bandwise._STRIP", 700)
    with torch.no_grad():
        assert torch.allclose(network(lrms, pan), at_once, rtol=1e-5, atol=1e-4)


def test_it_looks_at_the_gains_that_it_is_told():
    lrms, pan = pair()
    network = trained_by_chance()
    assert (
        network.through((0.3,) * 4)(lrms, pan) - network.through((0.1,) * 4)(lrms, pan)
    ).abs().max() > 1e-3


def test_bands_for_which_it_has_no_gains_are_refused():
    with pytest.raises(ValueError, match="3 bands, and gains for 4; build the network for 3"):
        BandWise(4, 4)(*pair(3))


def test_a_patch_for_training_is_degraded_from_its_truth_with_gains_near_those_it_tells():
    config = PretrainConfig(patch=64)
    scene, rng = look(2_000_003, 96), np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        given = deliver(scene, config, rng)
        bands = len(given.gnyq)
        seen.add(bands)
        assert given.gt.shape == (1, bands, 64, 64) and given.lrms.shape == (1, bands, 16, 16)
        assert given.pan.shape == (1, 1, 64, 64)
        assert (degrade(given.gt, given.gnyq, 4) - given.lrms).abs().mean() < 0.01
        correlation = np.corrcoef(given.pan.flatten(), given.gt.mean(1).flatten())[0, 1]
        assert correlation > 0.5
    assert seen == {3, 4, 8}


def test_the_same_seed_looks_at_the_same_scene():
    first, again, other = look(2_000_001, 64), look(2_000_001, 64), look(2_000_002, 64)
    assert torch.equal(first.gt, again.gt) and torch.equal(first.pan, again.pan)
    assert not torch.equal(first.gt, other.gt)


def test_the_loss_is_minus_a_tenth_of_mpsnr():
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(1, 3, 40, 48, generator=generator)
    hrms = (gt + 0.1 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
    inner = (..., slice(8, -8), slice(8, -8))
    assert -10 * fidelity(hrms, gt).item() == pytest.approx(mpsnr(hrms[inner], gt[inner]).item(), abs=1e-3)


@pytest.mark.slow
def test_training_makes_it_better_and_is_repeatable():
    config = PretrainConfig(scenes=3, held_out_scenes=2, steps=15, batch=1, patch=64)
    network, facts = train(config)
    again, _ = train(config)
    assert facts["held_out_db"]["bandwise"] > facts["held_out_db"]["exp"]
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


# ---------------------------------------------------------------- what comes with the package


def test_the_shipped_weights_are_small_and_say_how_they_were_made():
    assert len(SHIPPED.read_bytes()) < 2**20
    with safe_open(str(SHIPPED), "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    card = files("clippan_lib.assets").joinpath("BANDWISE.md").read_text()
    block = json.loads(card.split("```json\n")[1].split("```")[0])
    assert block == facts
    assert facts["held_out_db"]["bandwise"] > facts["held_out_db"]["bt_h"]


@pytest.mark.parametrize("name", ["WV3", "QB", "L8"])
def test_shipped_it_fuses_the_images_of_any_sensor_as_they_are(name):
    sensor = get_sensor(name)
    scene = render(81_000, sensor, 64)
    lrms, pan, gt = (scene[key][None] for key in ("lrms", "pan", "gt"))
    network = get_method("bandwise", sensor, sensor.ratio)
    assert network.steps == STEPS and not network.training
    hrms = network(lrms, pan)
    assert hrms.shape == gt.shape
    assert mpsnr(hrms.clamp(0, 1), gt) > mpsnr(get_method("exp", sensor, sensor.ratio)(lrms, pan), gt)


def test_as_a_pseudo_supervisor_it_is_not_called_trained_at_reduced_resolution():
    assert make_config("demo", network="bandwise").pseudo_title == "bandwise, as given"
    assert make_config("demo").pseudo_title == "pnn, reduced-resolution"


@pytest.mark.slow
def test_shipped_it_is_near_bt_h_made_consistent_where_that_is_best_on_scenes_that_it_has_not_seen():
    found = {"bandwise": [], "bt_h+2": [], "exp": []}
    for seed in range(82_000, 82_006):
        scene = render(seed, replace(WV3, name="new"), 128)
        lrms, pan, gt = (scene[key][None] for key in ("lrms", "pan", "gt"))
        for name, scores in found.items():
            scores.append(mpsnr(get_method(name, WV3, 4)(lrms, pan).clamp(0, 1), gt).item())
    means = {name: np.mean(scores) for name, scores in found.items()}
    assert means["bandwise"] > means["bt_h+2"] - 0.3 and means["bandwise"] > means["exp"] + 5


@pytest.mark.slow
def test_shipped_on_a_real_scene_one_scale_down_it_is_near_the_best_classical_method(shared):
    import scipy.io

    data = scipy.io.loadmat(shared / "data" / "imgIK.mat")
    scale = float(2 ** int(data["L"].item()) - 1)
    lrms = torch.from_numpy(data["I_MS"].astype(np.float32) / scale).permute(2, 0, 1)[None]
    pan = torch.from_numpy(data["I_PAN"].astype(np.float32) / scale)[None, None]
    sensor = replace(get_sensor("IKONOS"), gnyq=(0.48,) * 4)
    lower = wald(lrms, pan, sensor)
    scores = {
        name: mpsnr(get_method(name, sensor, 4)(lower.lrms, lower.pan).clamp(0, 1), lower.gt).item()
        for name in ("bandwise", "gsa+3", "bt_h+3", "mtf_glp_hpm_r+3")
    }
    assert scores["bandwise"] > max(scores.values()) - 0.5
