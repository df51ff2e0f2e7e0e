"""Stage II and the pseudo-supervisor: what each term moves, what is computed once, and exact resumption."""

import copy
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import h5_dataset, save_h5
from tiny import SENSOR, TinyPatches, killed_after, same, state, tiny_supervisor
from torch import nn

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.errors import TrainingError
from clippan_lib.fusion import NETWORKS, build_network, get_method
from clippan_lib.fusion.consistency import Consistent
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.losses.fidelity import fit_pan_response, qnr_loss
from clippan_lib.metrics.no_reference import pan_lowpass
from clippan_lib.mtf import degrade, upsample
from clippan_lib.training import stage2
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import make_config
from clippan_lib.training.pseudo import train_pseudo
from clippan_lib.training.stage2 import pan_sharpness, train_fusion

TERMS = {
    "spectral": "w_spec",
    "spatial": "w_spat",
    "qnr": "w_qnr",
    "pseudo": "w_pseudo",
    "language": "w_language",
}


def small(seed=0):
    torch.manual_seed(seed)
    return PNN(4, 4, hidden=(6, 4), kernels=(5, 3, 3))


def store(device="cpu", **options):
    return PatchStore(TinyPatches(**options), device)


def settings(**overrides):
    return make_config("smoke", **({"warm_start": False, "guidance": "global"} | overrides))


def only(term, **overrides):
    weights = {weight: float(name == term) for name, weight in TERMS.items()}
    return settings(stage2_iterations=1, **weights, **overrides)


def train(network, patches, config, **options):
    options = {"supervised": False, "seed": 0, "pseudo": small(seed=5)} | options
    return train_fusion(network, patches, config, **options)


class Counter:
    """Counts the calls of a supervisor's embeddings, and of a network."""

    def __init__(self, monkeypatch):
        self.calls = {}
        for name in ("embed_lrms", "embed_pan", "embed_hrms", "embed_texts"):
            monkeypatch.setattr(Supervisor, name, self.counted(name, getattr(Supervisor, name)))
        monkeypatch.setattr(PNN, "forward", self.counted("network", PNN.forward))

    def counted(self, name, method):
        def call(*args):
            self.calls[name] = self.calls.get(name, 0) + 1
            return method(*args)

        return call


@pytest.mark.parametrize("term", TERMS)
def test_each_term_reaches_every_parameter_of_the_network_and_moves_nothing_else(term, device):
    network, pseudo, supervisor = small(), small(seed=5), tiny_supervisor()
    kept = state(pseudo), state(supervisor), state(supervisor.towers)
    history = train(network, store(device), only(term), pseudo=pseudo, supervisor=supervisor)
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())
    assert all(
        same(*pair) for pair in zip(kept, map(state, (pseudo, supervisor, supervisor.towers)), strict=True)
    )
    assert all(parameter.grad is None for module in (pseudo, supervisor) for parameter in module.parameters())
    assert history.rows[0]["total"] == history.rows[0][term]
    assert not history.rows[0].keys() & (TERMS.keys() - {term})


def test_the_history_holds_the_terms_and_their_weighted_sum():
    config = settings(w_spec=2.0, w_spat=0.5, w_qnr=0.25, w_pseudo=3.0, w_language=0.125)
    table = train(small(), store(), config, supervisor=tiny_supervisor()).frame()
    assert list(table.columns) == ["iteration", "lr", *TERMS, "total", "grad_norm"]
    expected = sum(getattr(config, weight) * table[name] for name, weight in TERMS.items())
    assert table["total"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)


def test_the_qnr_term_compares_with_images_that_both_repeat_their_border():
    network, patches = small(), TinyPatches()
    low = {border: upsample(patches.lrms, 4, border) for border in ("replicate", "circular")}
    pan_low = {border: pan_lowpass(patches.pan, 4, border) for border in low}
    with torch.no_grad():
        out = network(patches.lrms, patches.pan)
        expected, *others = (
            qnr_loss(out, low[ms], patches.pan, pan_low[pan]).item()
            for ms in ("replicate", "circular")
            for pan in ("replicate", "circular")
        )
    (row,) = train(network, PatchStore(patches, "cpu"), only("qnr", stage2_batch=6)).rows
    assert row["qnr"] == pytest.approx(expected, rel=1e-4)
    assert all(abs(other - expected) > 1e-3 for other in others)


def test_the_language_term_compares_the_steps_from_lrms_and_pan_with_those_of_the_texts():
    network, supervisor, patches = small(), tiny_supervisor(), TinyPatches()
    with torch.no_grad():
        out = supervisor.embed_hrms(network(patches.lrms, patches.pan))
        texts = supervisor.embed_texts()
        cosines = [
            nn.functional.cosine_similarity(out - image, texts[2] - text)
            for image, text in (
                (supervisor.embed_lrms(patches.lrms), texts[0]),
                (supervisor.embed_pan(patches.pan), texts[1]),
            )
        ]
    config = only("language", stage2_batch=6)
    (row,) = train(network, PatchStore(patches, "cpu"), config, supervisor=supervisor).rows
    assert row["language"] == pytest.approx(1 - torch.stack(cosines).mean().item(), rel=1e-4)


def test_a_step_is_one_pass_through_the_network_and_one_through_the_image_tower(monkeypatch):
    supervisor, counter = tiny_supervisor(), Counter(monkeypatch)
    per_step = []

    def note(label, done, iterations, terms):
        per_step.append(dict(counter.calls))
        counter.calls.clear()

    config = settings(stage2_iterations=4, stage2_batch=6)
    train(
        small(),
        store(),
        config,
        supervisor=supervisor,
        pseudo=lambda lrms, pan: pan.expand(-1, 4, -1, -1),
        progress=note,
    )
    assert per_step[0] == {"network": 1, "embed_texts": 1, "embed_lrms": 1, "embed_pan": 1, "embed_hrms": 1}
    assert per_step[1:] == [{"network": 1, "embed_hrms": 1}] * 3


def test_pseudo_and_features_are_computed_once_for_all_runs_of_a_store(monkeypatch):
    patches, supervisor, calls = store(), tiny_supervisor(), []
    pseudo = small(seed=5)
    pseudo.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    counter = Counter(monkeypatch)
    for seed in (0, 1):
        train(small(seed), patches, settings(stage2_batch=6), supervisor=supervisor, pseudo=pseudo, seed=seed)
    assert calls == [6]
    assert (counter.calls["embed_lrms"], counter.calls["embed_pan"]) == (1, 1)


def test_features_kept_in_a_folder_serve_other_runs_with_the_same_supervisor_and_no_others(
    tmp_path, monkeypatch
):
    options = {"features": tmp_path / "features"}
    plain = train(small(), store(), settings(), supervisor=tiny_supervisor())
    counter = Counter(monkeypatch)
    for _ in range(2):  # each with a store of its own, as in another process
        assert train(small(), store(), settings(), supervisor=tiny_supervisor(), **options) == plain
    assert (counter.calls["embed_lrms"], counter.calls["embed_pan"]) == (1, 1)
    assert len(list((tmp_path / "features").iterdir())) == 2
    other = {"supervisor": tiny_supervisor(image_residual=0.9)}
    assert train(small(), store(), settings(), **other, **options) == train(
        small(), store(), settings(), **other
    )
    assert len(list((tmp_path / "features").iterdir())) == 4
    assert train(small(), store(seed=1), settings(), **other, **options) != plain
    assert len(list((tmp_path / "features").iterdir())) == 6


def test_damaged_features_are_named_and_computed_anew(tmp_path, caplog):
    options = {"features": tmp_path, "supervisor": tiny_supervisor()}
    first = train(small(), store(), settings(), **options)
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path, content in whole.items():
        path.write_bytes(content[:-1])
    assert train(small(), store(), settings(), **options) == first
    assert {path: path.read_bytes() for path in whole} == whole
    for path in whole:
        assert (
            f"{path} cannot be read" in caplog.text and "it is thrown away, and computed anew" in caplog.text
        )


def test_another_pseudo_supervisor_or_supervisor_is_not_taken_for_the_first_in_a_store():
    patches, first = store(), tiny_supervisor()
    second = tiny_supervisor(image_residual=0.9)
    for pseudo, supervisor in ((small(5), first), (small(6), second)):
        shared = train(small(), patches, settings(), pseudo=pseudo, supervisor=supervisor)
        assert shared == train(small(), store(), settings(), pseudo=pseudo, supervisor=supervisor)


def test_the_pan_response_is_fitted_once_by_least_squares_and_does_not_move(monkeypatch):
    fitted = []
    fit = lambda lrms, pan_lr: fitted.append(fit_pan_response(lrms, pan_lr)) or fitted[-1]  # noqa: E731
    monkeypatch.setattr(stage2, "fit_pan_response", fit)
    patches = store()
    train(small(), patches, settings(stage2_batch=6))
    (response,) = fitted
    gain = sum(SENSOR.gnyq) / 4
    expected = fit_pan_response(patches.patches.lrms, degrade(patches.patches.pan, (gain,), 4))
    torch.testing.assert_close(response.weights, expected.weights)
    assert not list(response.parameters())
    # PAN of these patches is the mean of the bands
    torch.testing.assert_close(response.weights, torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_without_a_supervisor_there_is_no_language_term():
    assert "language" not in train(small(), store(), settings()).frame()


def test_a_language_weight_of_zero_leaves_the_supervisor_alone(monkeypatch):
    supervisor, counter = tiny_supervisor(), Counter(monkeypatch)
    train(small(), store(), settings(w_language=0.0), supervisor=supervisor)
    assert "embed_hrms" not in counter.calls and not supervisor.frozen


def test_in_bfloat16_the_networks_layers_compute_and_nothing_else(monkeypatch):
    network, supervisor, seen = small(), tiny_supervisor(), set()
    for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        layer.register_forward_hook(lambda layer, images, maps: seen.add(maps.dtype))
    embed = Supervisor.embed_hrms
    images = []
    monkeypatch.setattr(Supervisor, "embed_hrms", lambda self, hrms: embed(self, images.append(hrms) or hrms))
    train(network, store(), settings(precision="bfloat16"), supervisor=supervisor)
    assert seen == {torch.bfloat16} and {hrms.dtype for hrms in images} == {torch.float32}
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_nearly_the_gradient_of_float32_in_bfloat16(name, device):
    gradients = []
    for precision in ("float32", "bfloat16"):
        network = build_network(name, 4, 4)
        config = settings(stage2_iterations=1, stage2_batch=1, clip_norm=None, precision=precision)
        train(network, store(device, count=1), config, supervised=True)
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    exact, rounded = gradients
    assert not torch.equal(exact, rounded)
    # by direction and length: in a fresh band-wise network, whose gradient all but cancels, rounding is a seventh
    assert torch.cosine_similarity(rounded, exact, dim=0) > 0.985
    assert rounded.norm() == pytest.approx(exact.norm().item(), rel=0.1)


def test_supervised_training_lowers_the_distance_to_the_ground_truth():
    config = settings(stage2_iterations=30, stage2_batch=6, stage2_lr=2e-3)
    torch.manual_seed(0)
    network = PNN(4, 4, hidden=(16, 8), kernels=(5, 3, 3))
    table = train(network, store(resolution="reduced"), config, supervised=True, pseudo=None).frame()
    assert {"gt", "total"} < set(table) and not {"spectral", "qnr", "language"} & set(table)
    assert table["gt"].iloc[-1] < 0.9 * table["gt"].iloc[0]


def test_supervised_training_takes_the_language_term_too():
    config = settings(stage2_batch=6, w_gt=2.0, w_language=0.5)
    table = train(small(), store(), config, supervised=True, supervisor=tiny_supervisor()).frame()
    expected = 2 * table["gt"] + 0.5 * table["language"]
    assert table["total"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)


def test_the_spectral_term_follows_the_configured_degradation():
    bicubic, mtf = (
        train(small(), store(), only("spectral", spec_degradation=kind)).rows[0]["spectral"]
        for kind in ("bicubic", "mtf")
    )
    assert bicubic != mtf


def test_a_warm_start_begins_with_the_pseudo_supervisors_weights():
    pseudo = build_network("pnn", 4, 4, seed=1)
    network = build_network("pnn", 4, 4, seed=2)
    config = make_config("smoke", stage2_iterations=1, stage2_lr=1e-12, guidance="global")
    history = train(network, store(), config, pseudo=pseudo)
    assert history.rows[0]["pseudo"] == pytest.approx(0, abs=1e-7)
    for ours, theirs in zip(network.parameters(), pseudo.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_a_warm_start_from_a_classical_method_is_refused():
    config = make_config("smoke", guidance="global")
    with pytest.raises(ValueError, match="warm_start needs a network"):
        train(small(), store(), config, pseudo=get_method("exp", SENSOR, 4))


def test_a_missing_pseudo_supervisor_is_refused_and_not_needed_without_its_weight():
    with pytest.raises(ValueError, match="w_pseudo is 0.1, but there is no pseudo-supervisor"):
        train(small(), store(), settings(), pseudo=None)
    assert "pseudo" not in train(small(), store(), settings(w_pseudo=0.0), pseudo=None).frame()


def test_supervised_training_without_ground_truth_is_refused():
    with pytest.raises(ValueError, match="needs ground truth"):
        train(small(), store(has_gt=False), settings(), supervised=True)


def test_a_run_without_any_weight_is_refused():
    with pytest.raises(ValueError, match="weights of spectral, spatial, qnr, pseudo are all 0"):
        train(small(), store(), settings(w_spec=0.0, w_spat=0.0, w_qnr=0.0, w_pseudo=0.0))


def test_an_output_that_is_not_finite_stops_the_run():
    network = small()
    nn.init.constant_(network.conv3.bias, float("inf"))
    with pytest.raises(TrainingError, match="iteration 0: the network's output is not finite"):
        train(network, store(), settings())


def test_the_random_state_of_torch_does_not_matter():
    ends = []
    for noise in (1, 2):
        network, pseudo = small(), small(5)
        torch.manual_seed(noise)
        train(network, store(), settings(), pseudo=pseudo)
        ends.append(state(network))
    assert same(*ends)


def test_an_interrupted_stage2_goes_on_at_the_iteration_where_it_was(tmp_path, device):
    config, supervisor = settings(stage2_iterations=5, checkpoint_every=9), tiny_supervisor()

    def interrupt(label, done, *_):
        if done == 3:
            raise KeyboardInterrupt

    options = {"supervisor": supervisor, "checkpoint": tmp_path / "stage2.safetensors"}
    with pytest.raises(KeyboardInterrupt):
        train(small(), store(device), config, **options, progress=interrupt)
    seen = []
    history = train(small(), store(device), config, **options, progress=lambda *call: seen.append(call[1]))
    assert seen == [4, 5]
    whole = train(small(), store(device), config, supervisor=supervisor).frame()
    # on a GPU some sums have no fixed order
    np.testing.assert_allclose(history.frame(), whole, rtol=1e-3 if device == "cuda" else 0)


@pytest.mark.parametrize("supervised", [False, True])
def test_a_killed_stage2_goes_on_to_the_same_weights_bit_by_bit(tmp_path, supervised):
    config = settings(stage2_iterations=5, checkpoint_every=2)
    supervisor, path = tiny_supervisor(), tmp_path / "stage2.safetensors"
    options = {"supervisor": supervisor, "supervised": supervised}
    whole = small()
    expected = train(whole, store(), config, **options)
    killed_after(3, lambda stop: train(small(), store(), config, **options, checkpoint=path, progress=stop))
    resumed, seen = small(), []
    progress = lambda *call: seen.append(call[1])  # noqa: E731
    history = train(resumed, store(), config, **options, checkpoint=path, progress=progress)
    assert seen == [3, 4, 5]
    assert same(state(resumed), state(whole))
    assert history == expected


def test_a_finished_stage2_computes_nothing_again(tmp_path, monkeypatch):
    path, supervisor = tmp_path / "stage2.safetensors", tiny_supervisor()
    first = small()
    expected = train(first, store(), settings(), supervisor=supervisor, checkpoint=path)
    counter = Counter(monkeypatch)
    again = small()
    assert train(again, store(), settings(), supervisor=supervisor, checkpoint=path) == expected
    assert same(state(again), state(first))
    assert counter.calls.keys() <= {"embed_texts"}


@pytest.mark.parametrize("change", ["weight", "seed", "patches", "start", "pseudo", "supervisor"])
def test_a_run_that_differs_does_not_take_up_the_checkpoint(tmp_path, change):
    path, seen = tmp_path / "stage2.safetensors", []
    supervisor = tiny_supervisor()
    train(small(), store(), settings(), supervisor=supervisor, checkpoint=path)
    train(
        small(seed=int(change == "start")),
        store(seed=int(change == "patches")),
        settings(w_spec=0.5 if change == "weight" else 1.0),
        supervisor=None if change == "supervisor" else supervisor,
        pseudo=small(seed=6 if change == "pseudo" else 5),
        seed=int(change == "seed"),
        checkpoint=path,
        progress=lambda *call: seen.append(call[1]),
    )
    assert seen == [1, 2, 3]


def test_the_pseudo_supervisor_learns_at_reduced_resolution_with_its_own_numbers():
    seen = []
    config = make_config("smoke", pseudo_iterations=5)
    patches = TinyPatches(resolution="reduced")
    network, history = train_pseudo(
        patches, config, seed=0, device="cpu", progress=lambda *call: seen.append(call[:3])
    )
    assert seen == [("pseudo", done, 5) for done in range(1, 6)]
    assert set(history.frame()) == {"iteration", "lr", "gt", "total", "grad_norm"}
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert not same(state(network), state(build_network("pnn", 4, 4, seed=0)))


def test_a_killed_pseudo_training_goes_on_to_the_same_weights_bit_by_bit(tmp_path):
    config = make_config("smoke", pseudo_iterations=5, checkpoint_every=2)
    patches, options = TinyPatches(resolution="reduced"), {"seed": 0, "device": "cpu"}
    path = tmp_path / "pseudo.safetensors"
    whole, expected = train_pseudo(patches, config, **options)
    killed_after(3, lambda stop: train_pseudo(patches, config, **options, checkpoint=path, progress=stop))
    resumed, history = train_pseudo(patches, config, **options, checkpoint=path)
    assert same(state(resumed), state(whole))
    assert history == expected


def test_numbers_of_the_other_stages_leave_the_pseudo_supervisors_checkpoint_valid(tmp_path):
    patches, path = TinyPatches(resolution="reduced"), tmp_path / "pseudo.safetensors"
    for overrides in ({}, {"tau_inter": 0.5, "stage2_lr": 0.5, "w_qnr": 0.5, "w_language": 0.5, "w_gt": 3.0}):
        train_pseudo(patches, make_config("smoke", **overrides), seed=0, device="cpu", checkpoint=path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("scale", "truth", "expected"),
    [("full", "delivered", "gnyq_pan"), ("full", "sharp", "gnyq_pan"), ("reduced", "delivered", 0.45)],
)
def test_pan_is_filtered_to_the_sharpness_of_the_truth_of_that_scale(monkeypatch, scale, truth, expected):
    seen = []
    monkeypatch.setattr(
        "clippan_lib.training.stage2.sharpened", lambda image, gain: seen.append(gain) or image
    )
    config = only("spatial", spat_pan="truth", scale=scale, truth=truth)
    train(small(), store(), config)
    pan = SENSOR.gnyq_pan if expected == "gnyq_pan" else expected
    assert seen[0] == pytest.approx(np.mean(SENSOR.gnyq) / pan)
    seen.clear()
    train(small(), store(), only("spatial", spat_pan="pan", scale=scale))
    assert seen == []


def test_pan_is_as_sharp_as_the_truth_that_judges_if_there_is_one():
    made, real, mean = TinyPatches(), TinyPatches(has_gt=False), np.mean(SENSOR.gnyq)
    assert pan_sharpness(made, settings(spat_pan="truth")) == pytest.approx(mean / SENSOR.gnyq_pan)
    assert pan_sharpness(real, settings(spat_pan="truth")) == 1
    assert pan_sharpness(real, settings(spat_pan="truth", scale="reduced")) == pytest.approx(mean / 0.45)
    for scale in ("full", "reduced"):
        assert pan_sharpness(made, settings(spat_pan="pan", scale=scale)) == 1


def test_what_is_imitated_goes_through_the_networks_own_last_layer():
    def first(network, pseudo):
        history = train(copy.deepcopy(network), store(), only("pseudo"), pseudo=pseudo)
        return history.frame()["pseudo"].iloc[0]

    inner = small()
    layered = Consistent(inner, SENSOR.gnyq, 4, 1, sharpness=0.5)
    # without a layer of its own, the same network has nothing to imitate
    assert first(layered, inner) < 1e-6
    assert first(inner, layered) > 1e-3


@pytest.mark.parametrize("name", ["bdsd_pc", "stack"])
def test_a_method_that_needs_no_training_can_be_the_pseudo_supervisor(name):
    config = settings(pseudo=name)
    patches = TinyPatches()
    method, history = train_pseudo(patches, config, seed=0, device="cpu")
    assert not history.rows
    expected = get_method(name, SENSOR, 4)(patches.lrms, patches.pan)
    assert torch.equal(method(patches.lrms, patches.pan), expected)
    assert config.pseudo_title == f"{name}, as given"
    assert "pseudo" in train(small(), store(), config, pseudo=method).frame()


def test_a_pseudo_supervisor_is_not_trained_on_full_resolution():
    with pytest.raises(ValueError, match="needs reduced-resolution patches, not full ones"):
        train_pseudo(TinyPatches(resolution="full"), make_config("smoke"), seed=0, device="cpu")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_with_ground_truth_and_without_and_language_changes_its_way(name, device):
    names = {"network": name, "pseudo": name}
    counts = {"pseudo_iterations": 1, "pseudo_batch": 1, "stage2_iterations": 2, "stage2_batch": 1}
    config, patches = make_config("demo", **names, **counts), store(device, count=2)
    reduced = TinyPatches(count=2, resolution="reduced")
    start, _ = train_pseudo(reduced, config, seed=0, device=device)
    trained = {}
    for supervisor in (None, tiny_supervisor()):
        network = build_network(name, 4, 4)
        history = train(network, patches, config, pseudo=start, supervisor=supervisor)
        assert all(math.isfinite(row["total"]) and row["grad_norm"] > 0 for row in history.rows)
        assert ("language" in history.rows[0]) == (supervisor is not None)
        trained[supervisor is not None] = state(network)
    assert not same(state(build_network(name, 4, 4)), state(start))
    assert not same(trained[False], state(start)) and not same(trained[False], trained[True])


def test_without_ground_truth_a_truth_that_is_there_changes_nothing():
    weights, noise = [], TinyPatches()
    noise.gt = torch.rand(noise.gt.shape)
    for patches in (TinyPatches(), noise):
        network = small()
        train(
            network, PatchStore(patches, "cpu"), settings(stage2_iterations=2), supervisor=tiny_supervisor()
        )
        weights.append(state(network))
    assert same(*weights)


@pytest.mark.parametrize("judged", [False, True], ids=["train", "judged"])
def test_one_scale_down_the_judges_truth_reaches_no_weight(tmp_path, judged):
    """The same LRMS and PAN with a truth of their own and with one of noise: one network, bit by bit."""
    weights, config = [], settings(warm_start=True)
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        gt = np.random.default_rng(number).integers(0, 2048, (1, 4, 256, 256)).astype(np.float64)
        save_h5(folder / f"{'test' if judged else 'train'}_reduced.h5", count=1, side=64, gt=gt)
        lowered = h5_dataset(folder).lowered(judged)
        pseudo, _ = train_pseudo(lowered.patches("train", "reduced", 16), config, seed=0, device="cpu")
        network, patches = (
            build_network("pnn", 4, 4, seed=1),
            PatchStore(lowered.patches("train", "full", 16), "cpu"),
        )
        train(network, patches, config, pseudo=pseudo, supervisor=tiny_supervisor())
        weights.append(state(network))
        if judged:  # the truth that only the judge is given
            truth = lowered.scenes("test", "full")[0].read().gt
            assert torch.equal(truth, torch.from_numpy(gt / 2047).float())
    assert same(*weights) and not same(weights[0], state(pseudo))


def test_the_network_of_the_page_of_methods_trains_once_it_is_registered(monkeypatch):
    page = (Path(__file__).resolve().parents[1] / "docs/methods.md").read_text()
    [example] = re.findall(r"## Add your network.*?```python\n(.*?)```", page, re.S)
    scope = {"__name__": "mine"}
    exec(example, scope)
    monkeypatch.setitem(NETWORKS, "mine", scope["Mine"])
    config = make_config("demo", network="mine", pseudo="mine", stage2_iterations=2, stage2_batch=2)
    start, network = (build_network("mine", 4, 4, seed) for seed in (0, 1))
    history = train(network, store(), config, pseudo=start, supervisor=tiny_supervisor())
    assert len(history.rows) == 2 and not same(state(start), state(network))
