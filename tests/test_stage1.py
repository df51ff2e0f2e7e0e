"""Stage I: what it trains, what it leaves alone, and that it goes on exactly."""

import numpy as np
import pytest
import torch
from tiny import TinyPatches, killed_after, same, state, tiny_supervisor

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.fusion import get_method
from clippan_lib.sensors import get_sensor
from clippan_lib.training import stage1
from clippan_lib.training.config import make_config
from clippan_lib.training.deliveries import cut
from clippan_lib.training.loop import checkpoint_path
from clippan_lib.training.stage1 import fit_supervisor, identity

RUN = {"seed": 0, "device": "cpu"}
TERMS = ("inter", "intra", "fusion")
LESSONS = ("pointing", "order")


def only(term, **overrides):
    """A run of one iteration with one term alone."""
    weights = {f"w_{name}": float(name == term) for name in (*TERMS, *LESSONS)}
    drawn = {"drawn": 2, "drawn_batch": 1}
    return make_config("smoke", **({"stage1_iterations": 1} | drawn | weights | overrides))


def moved(before, after):
    """The parts of a supervisor whose weights changed: the first two names of each."""
    changed = [name for name, value in after.items() if not torch.equal(value, before[name])]
    return {".".join(name.split(".")[:2]) for name in changed}


def test_the_towers_and_the_stretch_never_move():
    supervisor = tiny_supervisor()
    towers, buffers = state(supervisor.towers), {k: v.clone() for k, v in supervisor.named_buffers()}
    fit_supervisor(supervisor, TinyPatches(), make_config("smoke"), **RUN)
    assert same(state(supervisor.towers), towers)
    assert all(torch.equal(value, buffers[name]) for name, value in supervisor.named_buffers())


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("inter", {"stems.lrms", "stems.hrms", "image_adapters.shared", "text_adapters.shared"}),
        ("intra", {"stems.lrms", "stems.hrms", "image_adapters.shared"}),
        (
            "fusion",
            {"stems.lrms", "image_adapters.shared", "text_adapters.shared"}
            | {"fuse_image.bottleneck", "fuse_text.bottleneck"},
        ),
    ],
)
def test_each_term_moves_exactly_what_it_should(term, expected):
    supervisor = tiny_supervisor()
    before = state(supervisor)
    history = fit_supervisor(supervisor, TinyPatches(), only(term), **RUN)
    assert moved(before, state(supervisor)) == expected
    assert history.rows[0]["total"] == history.rows[0][term]
    assert not history.rows[0].keys() & (set(TERMS) - {term})


def test_every_trainable_parameter_gets_a_gradient_from_the_whole_loss():
    supervisor = tiny_supervisor(adapters="per_type")
    fit_supervisor(
        supervisor, TinyPatches(), make_config("smoke", stage1_iterations=2, adapters="per_type"), **RUN
    )
    silent = [
        name
        for name, parameter in supervisor.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or parameter.grad.abs().max() == 0)
    ]
    assert not silent


def test_the_history_holds_the_terms_and_their_weighted_sum():
    config = make_config("smoke", w_inter=2.0, w_intra=0.5, w_fusion=0.25)
    table = fit_supervisor(tiny_supervisor(), TinyPatches(), config, **RUN).frame()
    assert list(table.columns) == ["iteration", "lr", *TERMS, "total", "grad_norm"]
    expected = 2 * table["inter"] + 0.5 * table["intra"] + 0.25 * table["fusion"]
    assert table["total"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)


def test_the_terms_are_those_of_the_patches_in_the_order_lrms_pan_hrms():
    supervisor, patches = tiny_supervisor(), TinyPatches()
    with torch.no_grad():
        images = [
            supervisor.embed_lrms(patches.lrms),
            supervisor.embed_pan(patches.pan),
            supervisor.embed_hrms(patches.gt),
        ]
        texts = supervisor.embed_texts()
        right = torch.stack([torch.softmax(f @ texts.T / 0.07, 1)[:, i] for i, f in enumerate(images)])
        fused_text = supervisor.fuse_text(texts[[0]], texts[[1]])
        fused_image = supervisor.fuse_image(images[0], images[1])
        distance = (fused_text - texts[[2]]).abs().mean() + (fused_image - images[2]).abs().mean()
    config = make_config("smoke", stage1_iterations=1, stage1_batch=6, hrms_source="gt")
    (row,) = fit_supervisor(supervisor, patches, config, **RUN).rows
    assert row["inter"] == pytest.approx(-right.log().mean().item(), rel=1e-4)
    assert row["fusion"] == pytest.approx(distance.item(), rel=1e-4)


def test_the_loss_falls_on_patches_it_has_seen(device):
    config = make_config("smoke", stage1_iterations=25, schedule="constant", stage1_batch=6)
    run = RUN | {"device": device}
    total = fit_supervisor(tiny_supervisor(), TinyPatches(), config, **run).frame()["total"]
    assert total.iloc[-5:].mean() < 0.95 * total.iloc[0]


def test_with_no_iterations_nothing_is_read_and_nothing_moves(monkeypatch):
    supervisor = tiny_supervisor()
    before = state(supervisor)
    monkeypatch.setattr(TinyPatches, "batch", None)
    assert (
        fit_supervisor(
            supervisor, TinyPatches(), make_config("smoke", stage1_iterations=0), seed=0, device="cpu"
        ).rows
        == []
    )
    assert same(before, state(supervisor))


def test_hrms_comes_from_bdsd_once_per_patch(monkeypatch):
    patches, calls, seen = TinyPatches(has_gt=False), [], []
    method = get_method("bdsd_pc", patches.sensor, 4)

    def counted(lrms, pan):
        calls.append(len(lrms))
        return method(lrms, pan)

    embed = Supervisor.embed_hrms
    monkeypatch.setattr("clippan_lib.training.stage1.get_method", lambda *_: counted)
    monkeypatch.setattr(Supervisor, "embed_hrms", lambda self, hrms: seen.append(hrms) or embed(self, hrms))
    fit_supervisor(tiny_supervisor(), patches, make_config("smoke", stage1_batch=6), **RUN)
    made = method(patches.lrms, patches.pan).clamp(0, 1)
    assert calls == [6]
    assert len(seen) == 3
    assert all(torch.equal(one.sum((1, 2, 3)).sort()[0], made.sum((1, 2, 3)).sort()[0]) for one in seen)


def test_the_ground_truth_can_stand_for_hrms(monkeypatch):
    patches, seen = TinyPatches(), []
    embed = Supervisor.embed_hrms
    monkeypatch.setattr(Supervisor, "embed_hrms", lambda self, hrms: seen.append(hrms) or embed(self, hrms))
    config = make_config("smoke", hrms_source="gt", stage1_batch=6, stage1_iterations=1)
    fit_supervisor(tiny_supervisor(), patches, config, **RUN)
    assert torch.equal(seen[0].sum((1, 2, 3)).sort()[0], patches.gt.sum((1, 2, 3)).sort()[0])


def test_ground_truth_that_is_not_there_is_refused():
    config = make_config("smoke", hrms_source="gt")
    with pytest.raises(ValueError, match="no ground truth; choose bdsd_pc or bdsd"):
        fit_supervisor(tiny_supervisor(), TinyPatches(has_gt=False), config, **RUN)


def test_a_frozen_supervisor_is_refused():
    with pytest.raises(ValueError, match="supervisor is frozen"):
        fit_supervisor(tiny_supervisor().freeze(), TinyPatches(), make_config("smoke"), **RUN)


def test_a_single_patch_is_refused():
    with pytest.raises(ValueError, match="2 scenes or more"):
        fit_supervisor(tiny_supervisor(), TinyPatches(count=1), make_config("smoke"), **RUN)


def test_the_random_state_of_torch_does_not_matter():
    ends = []
    for noise in (1, 2):
        supervisor = tiny_supervisor()
        torch.manual_seed(noise)
        fit_supervisor(supervisor, TinyPatches(), make_config("smoke"), **RUN)
        ends.append(state(supervisor))
    assert same(*ends)


def test_a_killed_stage1_goes_on_to_the_same_weights_bit_by_bit(tmp_path):
    config, patches = make_config("smoke", stage1_iterations=5, checkpoint_every=2), TinyPatches()
    whole = tiny_supervisor()
    expected = fit_supervisor(whole, patches, config, **RUN)
    path = tmp_path / "stage1.safetensors"
    killed_after(
        3,
        lambda stop: fit_supervisor(
            tiny_supervisor(), patches, config, **RUN, checkpoint=path, progress=stop
        ),
    )
    resumed, seen = tiny_supervisor(), []
    progress = lambda *call: seen.append(call[1])  # noqa: E731
    history = fit_supervisor(resumed, patches, config, **RUN, checkpoint=path, progress=progress)
    assert seen == [3, 4, 5]
    assert same(state(resumed), state(whole))
    assert history == expected


def test_a_finished_stage1_computes_nothing_again(tmp_path, monkeypatch):
    path, config = tmp_path / "stage1.safetensors", make_config("smoke")
    first = tiny_supervisor()
    expected = fit_supervisor(first, TinyPatches(), config, **RUN, checkpoint=path)
    monkeypatch.setattr(Supervisor, "embed_hrms", lambda *_: pytest.fail("embedded again"))
    again = tiny_supervisor()
    assert fit_supervisor(again, TinyPatches(), config, **RUN, checkpoint=path) == expected
    assert same(state(again), state(first))


@pytest.mark.parametrize(
    "change", [{"config": {"tau_inter": 0.5}}, {"seed": 1}, {"patches": 1}, {"adapters": "per_type"}]
)
def test_a_run_of_other_settings_data_or_start_does_not_take_up_the_checkpoint(tmp_path, change):
    path = tmp_path / "stage1.safetensors"
    fit_supervisor(tiny_supervisor(), TinyPatches(), make_config("smoke"), **RUN, checkpoint=path)
    seen = []
    fit_supervisor(
        tiny_supervisor(**{k: v for k, v in change.items() if k == "adapters"}),
        TinyPatches(seed=change.get("patches", 0)),
        make_config("smoke", **change.get("config", {})),
        seed=change.get("seed", 0),
        device="cpu",
        checkpoint=path,
        progress=lambda *call: seen.append(call[1]),
    )
    assert seen == [1, 2, 3]


def test_numbers_of_stage2_leave_the_checkpoint_of_stage1_valid(tmp_path):
    path = tmp_path / "stage1.safetensors"
    fit_supervisor(tiny_supervisor(), TinyPatches(), make_config("smoke"), **RUN, checkpoint=path)
    fit_supervisor(
        tiny_supervisor(), TinyPatches(), make_config("smoke", stage2_lr=0.5), **RUN, checkpoint=path
    )
    assert len(list(tmp_path.iterdir())) == 1


def test_a_supervisor_is_told_apart_by_its_weights_options_prompts_and_towers():
    first, trained = tiny_supervisor(), tiny_supervisor()
    fit_supervisor(trained, TinyPatches(), make_config("smoke"), **RUN)
    others = [trained, tiny_supervisor(image_residual=0.7), first.with_prompts("noise")]
    assert identity(first) == identity(tiny_supervisor())
    assert len({identity(each) for each in (first, *others)}) == 4


def test_the_checkpoint_lies_beside_the_name_it_was_given(tmp_path):
    fit_supervisor(
        tiny_supervisor(), TinyPatches(), make_config("smoke"), **RUN, checkpoint=tmp_path / "a.safetensors"
    )
    (path,) = tmp_path.iterdir()
    assert path == checkpoint_path(tmp_path / "a.safetensors", path.stem.removeprefix("a-"))


@pytest.mark.parametrize("guidance", ["global", "dense"])
@pytest.mark.parametrize("term", LESSONS)
def test_a_lesson_moves_exactly_what_the_language_term_is_made_of(term, guidance):
    supervisor = tiny_supervisor()
    before = state(supervisor)
    # the last layer of a stem's residual begins at 0, so that what lies before it moves from the second step on
    history = fit_supervisor(supervisor, TinyPatches(), only(term, guidance=guidance), **RUN)
    language = {"stems.lrms", "stems.hrms", "image_adapters.shared", "text_adapters.shared"}
    assert moved(before, state(supervisor)) == language
    assert history.rows[0]["total"] == history.rows[0][term] > 0
    assert not history.rows[0].keys() & ({*TERMS, *LESSONS} - {term})


def test_a_lesson_that_is_repeated_is_learned(monkeypatch):
    monkeypatch.setattr(stage1, "cut", lambda *given: cut(*given[:-1], np.random.default_rng(0)))
    supervisor = tiny_supervisor()
    schedule = {"stage1_iterations": 25, "stage1_lr": 1e-2, "schedule": "constant"}
    config = only("order", drawn=1, guidance="dense", **schedule)
    found = [row["order"] for row in fit_supervisor(supervisor, TinyPatches(), config, **RUN).rows]
    assert sum(found[-5:]) < 0.9 * sum(found[:5])


def test_lessons_are_those_of_the_seed_and_a_stopped_run_goes_on_with_them(tmp_path):
    config = only("pointing", stage1_iterations=3, checkpoint_every=1)
    whole, other = tiny_supervisor(), tiny_supervisor()
    fit_supervisor(whole, TinyPatches(), config, **RUN)
    first = config.model_copy(update={"stage1_iterations": 3})

    def stop(label, iteration, iterations, terms):
        if iteration == 2:
            raise KeyboardInterrupt

    path = tmp_path / "stage1.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit_supervisor(other, TinyPatches(), first, checkpoint=path, progress=stop, **RUN)
    again = tiny_supervisor()
    fit_supervisor(again, TinyPatches(), first, checkpoint=path, **RUN)
    assert same(state(again), state(whole))
    differently = tiny_supervisor()
    fit_supervisor(differently, TinyPatches(), config, seed=1, device="cpu")
    assert not same(state(differently), state(whole))


def test_a_finished_stage1_draws_no_lesson_again(tmp_path, monkeypatch):
    config, path = only("order"), tmp_path / "stage1.safetensors"
    fit_supervisor(tiny_supervisor(), TinyPatches(), config, checkpoint=path, **RUN)
    monkeypatch.setattr(stage1, "make", lambda *_, **__: pytest.fail("a scene was drawn"))
    fit_supervisor(tiny_supervisor(), TinyPatches(), config, checkpoint=path, **RUN)


def test_scenes_that_cannot_be_drawn_are_refused():
    supervisor = tiny_supervisor()
    supervisor.sensor = get_sensor("L8").only(["blue", "green", "red", "nir"])
    with pytest.raises(ValueError, match="L8 has ratio 2"):
        fit_supervisor(supervisor, TinyPatches(), only("pointing"), **RUN)
