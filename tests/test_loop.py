"""The training loop, its checkpoints, and the patches that a run draws."""

import json
import os
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny import TinyPatches, killed_after, same, state
from torch import nn

from clippan_lib.errors import CheckpointError, Refusal, TrainingError
from clippan_lib.files import read_tensors, write_tensors
from clippan_lib.training.batches import PatchStore, TrainingSet, indices
from clippan_lib.training.loop import History, checkpoint_path, fit, mix, rate, weigh

NUMBERS = {"iterations": 6, "lr": 0.1, "schedule": "cosine", "clip_norm": 1.0, "every": 2, "key": "k" * 64}


def noisy_line(seed=0, device="cpu"):
    """A small network and a loss that draws random numbers, as dropout would."""
    torch.manual_seed(seed)
    module = nn.Linear(3, 1).to(device)

    def step(iteration):
        noise = torch.randn(4, 3, device=device)
        loss = (module(noise) - iteration).square().mean()
        return {"line": loss, "total": 2 * loss}

    return {"line": module}, step


def test_the_first_step_of_adam_moves_each_weight_by_the_learning_rate():
    module = nn.Linear(2, 1, bias=False)
    nn.init.ones_(module.weight)
    loss = lambda i: {"total": (module.weight * torch.tensor([3.0, -5.0])).sum()}  # noqa: E731
    fit({"m": module}, loss, iterations=1, lr=0.1)
    torch.testing.assert_close(module.weight.detach(), torch.tensor([[0.9, 1.1]]))


def test_the_cosine_falls_from_the_learning_rate_through_its_half_towards_zero():
    assert rate(0.2, "cosine", 0, 10) == 0.2
    assert rate(0.2, "cosine", 5, 10) == pytest.approx(0.1)
    assert rate(0.2, "cosine", 10, 10) == pytest.approx(0)
    assert rate(0.2, "constant", 9, 10) == 0.2


def test_the_cosine_rises_over_its_first_tenth():
    assert rate(0.2, "cosine", 0, 100) == pytest.approx(0.02)
    assert rate(0.2, "cosine", 4, 100) == pytest.approx(0.1, rel=1e-2)
    assert rate(0.2, "cosine", 10, 100) > rate(0.2, "cosine", 8, 100)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="'step'; choose constant or cosine"):
        rate(0.1, "step", 0, 1)


def test_the_history_holds_every_term_the_gradients_norm_and_the_learning_rate(tmp_path):
    seen = []
    history = fit(*noisy_line(), **NUMBERS, label="here", progress=lambda *call: seen.append(call))
    table = history.frame()
    assert list(table.columns) == ["iteration", "lr", "line", "total", "grad_norm"]
    assert table["iteration"].tolist() == [0, 1, 2, 3, 4, 5]
    assert (table["total"] == 2 * table["line"]).all()
    assert [call[:3] for call in seen] == [("here", done, 6) for done in range(1, 7)]
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history


def test_the_gradient_is_clipped_but_its_own_norm_is_noted():
    module = nn.Linear(2, 1, bias=False)
    history = fit(
        {"m": module}, lambda i: {"total": 300 * module.weight.sum()}, iterations=1, lr=0.1, clip_norm=0.5
    )
    assert history.rows[0]["grad_norm"] == pytest.approx(300 * 2**0.5)
    assert module.weight.grad.norm() == pytest.approx(0.5, rel=1e-4)


def test_a_run_draws_from_its_seed_alone_and_leaves_torch_as_it_was():
    ends = []
    for noise, seed in ((1, 0), (2, 0), (1, 5)):
        modules, step = noisy_line()
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        fit(modules, step, **NUMBERS, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(state(modules["line"]))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_a_killed_run_goes_on_to_the_same_weights_bit_by_bit(tmp_path):
    whole, step = noisy_line()
    expected = fit(whole, step, **NUMBERS)
    killed_after(
        3,
        lambda progress: fit(
            *noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors", progress=progress
        ),
    )
    resumed, step = noisy_line(seed=9)
    seen = []
    history = fit(
        resumed,
        step,
        **NUMBERS,
        checkpoint=tmp_path / "c.safetensors",
        progress=lambda *call: seen.append(call[1]),
    )
    assert seen == [3, 4, 5, 6]
    assert same(state(resumed["line"]), state(whole["line"]))
    assert history == expected


def test_a_finished_run_is_restored_without_a_step(tmp_path):
    modules, step = noisy_line()
    expected = fit(modules, step, **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    again, _ = noisy_line(seed=9)
    assert (
        fit(again, lambda i: pytest.fail("stepped"), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
        == expected
    )
    assert same(state(again["line"]), state(modules["line"]))


def test_an_interrupted_run_writes_where_it_was_and_passes_the_interrupt_on(tmp_path, device):
    whole, step = noisy_line(device=device)
    fit(whole, step, **NUMBERS)
    modules, step = noisy_line(device=device)

    def interrupted(iteration):
        if iteration == 3:
            raise KeyboardInterrupt
        return step(iteration)

    with pytest.raises(KeyboardInterrupt):
        fit(modules, interrupted, **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    seen = []
    fit(
        modules,
        step,
        **NUMBERS,
        checkpoint=tmp_path / "c.safetensors",
        progress=lambda *call: seen.append(call[1]),
    )
    assert seen == [4, 5, 6]
    assert same(state(modules["line"]), state(whole["line"]))


def test_a_run_that_was_begun_on_the_cpu_goes_on_elsewhere(tmp_path, device):
    def line(place):
        torch.manual_seed(0)
        module = nn.Linear(3, 1).to(place)
        error = lambda i: (module(torch.randn(4, 3).to(place)) - i).square().mean()  # noqa: E731
        return {"line": module}, lambda i: {"total": error(i)}

    def interrupt(label, done, *_):
        if done == 3:
            raise KeyboardInterrupt

    whole, step = line("cpu")
    fit(whole, step, **NUMBERS)
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(*line("cpu"), **NUMBERS, checkpoint=path, progress=interrupt)
    seen, (modules, step) = [], line(device)
    fit(modules, step, **NUMBERS, checkpoint=path, progress=lambda *call: seen.append(call[1]))
    assert seen == [4, 5, 6]
    torch.testing.assert_close(state(modules["line"].cpu()), state(whole["line"]))


def test_an_interrupt_amid_an_update_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    adams_step = torch.optim.Adam.step
    calls = []

    def half(self):
        calls.append(1)
        if len(calls) == 4:
            self.param_groups[0]["params"][0].data += 1
            raise KeyboardInterrupt
        return adams_step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", half)
    with pytest.raises(KeyboardInterrupt):
        fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    monkeypatch.undo()
    whole, step = noisy_line()
    fit(whole, step, **NUMBERS)
    resumed, step = noisy_line()
    fit(resumed, step, **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    assert same(state(resumed["line"]), state(whole["line"]))


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = checkpoint_path(tmp_path / "c.safetensors", NUMBERS["key"])

    def full_disk(source, target):
        monkeypatch.undo()
        raise OSError("disk full")

    def after_four(label, done, iterations, terms):
        if done == 3:
            monkeypatch.setattr(os, "replace", full_disk)

    with pytest.raises(
        CheckpointError, match=r"c-kkkkkkkkkkkk.safetensors cannot be written \(disk full\); make"
    ):
        fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors", progress=after_four)
    assert path.exists()
    history = fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    assert len(history.rows) == 6


def test_runs_of_different_keys_never_share_a_file(tmp_path):
    first = fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    numbers = NUMBERS | {"key": "other", "lr": 0.2}
    second = fit(*noisy_line(), **numbers, checkpoint=tmp_path / "c.safetensors")
    assert first.rows[1] != second.rows[1]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_of_another_key_is_refused(tmp_path):
    fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    path = checkpoint_path(tmp_path / "c.safetensors", NUMBERS["key"])
    path.rename(checkpoint_path(tmp_path / "c.safetensors", "other"))
    with pytest.raises(CheckpointError, match="belongs to another run"):
        fit(*noisy_line(), **(NUMBERS | {"key": "other"}), checkpoint=tmp_path / "c.safetensors")


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip_a_weight(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def flip_the_history(path):
    path.write_bytes(path.read_bytes().replace(b"iteration", b"iterotion", 1))


def rewritten(change):
    """A fault in a file whose digests are right."""

    def damage(path):
        tensors, metadata = read_tensors(path, "")
        change(tensors, metadata)
        write_tensors(path, tensors, metadata)

    return damage


FAULTS = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("half a file, or none at all"),
    "cut": cut,
    "flipped": flip_a_weight,
    "flipped history": flip_the_history,
    "double": rewritten(lambda t, m: t.update({"line/bias": t["line/bias"].double()})),
    "other shape": rewritten(lambda t, m: t.update({"line/bias": torch.zeros(2)})),
    "not finite": rewritten(lambda t, m: t["line/bias"].fill_(torch.nan)),
    "no weight": rewritten(lambda t, m: t.pop("line/weight")),
    "half of Adam": rewritten(lambda t, m: t.pop("adam/0/exp_avg")),
    "history no JSON": rewritten(lambda t, m: m.update(rows="[{")),
    "history an object": rewritten(lambda t, m: m.update(rows="{}")),
    "history of words": rewritten(lambda t, m: m.update(rows='[{"iteration": "first"}]')),
    "history with a gap": rewritten(lambda t, m: m.update(rows='[{"iteration": 1}]')),
    "no history": rewritten(lambda t, m: m.pop("rows")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_checkpoint_is_named_thrown_away_and_the_training_starts_anew(tmp_path, fault, caplog):
    expected, path = noisy_line(), checkpoint_path(tmp_path / "c.safetensors", NUMBERS["key"])
    rows = fit(*expected, **NUMBERS).rows
    fit(*noisy_line(), **(NUMBERS | {"iterations": 3}), checkpoint=tmp_path / "c.safetensors")
    FAULTS[fault](path)
    modules, step = noisy_line()
    history = fit(modules, step, **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    assert history.rows == rows and same(state(modules["line"]), state(expected[0]["line"]))
    [told] = caplog.messages
    assert told.startswith(str(path)) and told.endswith("the training starts anew")
    assert len(fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors").rows) == 6
    assert caplog.messages == [told]


def test_a_folder_in_the_place_of_a_checkpoint_is_refused_and_kept(tmp_path):
    path = checkpoint_path(tmp_path / "c.safetensors", NUMBERS["key"])
    path.mkdir()
    (path / "of somebody").touch()
    with pytest.raises(Refusal, match=rf"{path} cannot be read.*move it away"):
        fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    assert (path / "of somebody").exists()


def test_a_checkpoint_without_digests_of_an_older_version_is_gone_on_from(tmp_path):
    path, steps = checkpoint_path(tmp_path / "c.safetensors", NUMBERS["key"]), []
    fit(*noisy_line(), **(NUMBERS | {"iterations": 4}), checkpoint=tmp_path / "c.safetensors")
    tensors, metadata = read_tensors(path, "")
    save_file(tensors, path, metadata)
    modules, step = noisy_line()
    fit(modules, lambda i: steps.append(i) or step(i), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    assert steps == [4, 5]


@pytest.mark.parametrize("damage", [cut, flip_a_weight, rewritten(lambda t, m: t.update(rows=t["rows"][:1]))])
def test_what_was_computed_of_patches_is_computed_anew_where_its_file_is_damaged(tmp_path, damage, caplog):
    def visit():
        training = TrainingSet(PatchStore(TinyPatches(), "cpu"), seed=0, iterations=2, batch=2)
        training.once("mean", lambda images: images["pan"].mean((1, 2, 3))[:, None], folder=tmp_path)
        return training.at(0)["mean"]

    expected = visit()
    [path] = tmp_path.iterdir()
    damage(path)
    assert torch.equal(visit(), expected)
    [told] = caplog.messages
    assert told.startswith(str(path)) and told.endswith("computed anew")
    assert torch.equal(visit(), expected) and caplog.messages == [told]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    modules, step = noisy_line()

    def breaks(iteration):
        terms = step(iteration)
        return terms if iteration < 5 else terms | {"line": terms["line"] / 0}

    with pytest.raises(TrainingError, match="iteration 5: line is not finite"):
        fit(modules, breaks, **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    history = fit(*noisy_line(), **NUMBERS, checkpoint=tmp_path / "c.safetensors")
    assert len(history.rows) == 6


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_moves_anything():
    module = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(module.weight)
    with pytest.raises(TrainingError, match="iteration 0: grad_norm is not finite"):
        fit({"m": module}, lambda i: {"total": module.weight.sum().sqrt()}, iterations=2, lr=0.1)
    assert module.weight.abs().max() == 0


def test_a_module_without_anything_to_train_is_refused():
    module = nn.Linear(2, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of m requires a gradient"):
        fit({"m": module}, lambda i: {}, iterations=1, lr=0.1)


def test_frozen_parameters_do_not_move():
    modules, step = noisy_line()
    modules["line"].bias.requires_grad_(False)
    bias = modules["line"].bias.clone()
    fit(modules, step, **NUMBERS)
    assert torch.equal(modules["line"].bias, bias)


def test_a_thread_that_watches_sees_a_checkpoint_that_is_whole(tmp_path):
    path = checkpoint_path(tmp_path / "c.safetensors", NUMBERS["key"])
    done, broken, seen = threading.Event(), [], []

    def watch():
        while not done.is_set():
            if path.exists():
                content = path.read_bytes()
                length = int.from_bytes(content[:8], "little")
                try:
                    json.loads(content[8 : 8 + length])
                    seen.append(1)
                except ValueError:
                    broken.append(1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        fit(
            *noisy_line(), **(NUMBERS | {"iterations": 40, "every": 1}), checkpoint=tmp_path / "c.safetensors"
        )
    finally:
        done.set()
        thread.join()
    assert seen and not broken


def test_terms_are_weighted_and_those_of_weight_zero_not_computed():
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    losses = {"a": (3.0, lambda: one), "b": (0.5, lambda: two), "c": (0.0, lambda: pytest.fail("computed"))}
    assert weigh(losses) == {"a": 1, "b": 2, "total": 4}


def test_a_loss_without_any_weight_is_refused():
    with pytest.raises(ValueError, match="weights of a, b are all 0"):
        weigh({"a": (0.0, lambda: None), "b": (0.0, lambda: None)})


def test_a_mixed_seed_differs_with_every_part_and_fits_torch():
    seeds = {mix(0, "step", 1), mix(0, "step", 2), mix(1, "step", 1), mix(0, "epoch", 1), mix("0/step", 1, 0)}
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 30), batch=st.integers(1, 12), seed=st.integers(0, 99))
def test_an_epoch_visits_no_patch_twice_and_leaves_out_less_than_a_batch(n, batch, seed):
    size = min(n, batch)
    epoch = [indices(seed, i, n, batch).tolist() for i in range(max(1, n // batch))]
    flat = [index for drawn in epoch for index in drawn]
    assert all(len(drawn) == size for drawn in epoch)
    assert len(set(flat)) == len(flat) > n - batch
    assert set(flat) <= set(range(n))


def test_the_draw_depends_on_seed_and_iteration_alone():
    assert torch.equal(indices(1, 7, 20, 4), indices(1, 7, 20, 4))
    assert not torch.equal(indices(1, 0, 20, 20), indices(2, 0, 20, 20))
    assert not torch.equal(indices(1, 0, 20, 20), indices(1, 1, 20, 20))


def training_set(store, iterations=5):
    return TrainingSet(store, seed=0, iterations=iterations, batch=2)


def counted(calls):
    def double(images):
        calls.append(len(images["lrms"]))
        return 2 * images["lrms"]

    return double


def test_a_training_set_gives_each_iterations_patches_and_what_was_computed_of_them_once():
    patches, calls = TinyPatches(), []
    data = training_set(PatchStore(patches, "cpu"))
    data.once("double", counted(calls))
    assert not calls
    for iteration in range(5):
        drawn, known = indices(0, iteration, 6, 2), data.at(iteration)
        assert torch.equal(known["lrms"], patches.lrms[drawn])
        assert torch.equal(known["gt"], patches.gt[drawn])
        assert torch.equal(known["double"], 2 * patches.lrms[drawn])
    assert calls == [6]


def test_runs_that_share_a_store_compute_nothing_twice_unless_it_differs():
    store, calls = PatchStore(TinyPatches(), "cpu"), []
    for iterations, of in ((1, "a"), (3, "a"), (3, "a"), (3, "b")):
        data = training_set(store, iterations)
        data.once("double", counted(calls), of)
        data.at(0)
    assert calls == [2, 4, 6]


def test_a_training_set_reads_only_the_patches_its_run_visits(monkeypatch):
    read, batch = [], TinyPatches.batch
    monkeypatch.setattr(
        TinyPatches, "batch", lambda self, index: read.append(len(index)) or batch(self, index)
    )
    assert len(training_set(PatchStore(TinyPatches(), "cpu"), iterations=1).images["lrms"]) == 2
    assert read == [2]


def test_the_key_of_a_training_set_changes_with_its_images():
    keys = [training_set(PatchStore(TinyPatches(seed=seed), "cpu")).key() for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
