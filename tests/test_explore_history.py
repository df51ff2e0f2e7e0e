"""The loss curves of a run: all that its checkpoints and its progress file tell, while it trains and afterwards."""

import gc
import json
import os
import time
import weakref
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clippan_lib.explore.history import HistoryExplorer, Training, history, kept_histories
from clippan_lib.runs.progress import FILE, clear_progress, file_progress, read_progress
from clippan_lib.runs.run import open_run
from clippan_lib.training.loop import fit

module = import_module("clippan_lib.explore.history")  # the package has a function of this name
NOW = 1_000_000.0


def rows(count, start=3.0, term="fusion"):
    """A falling loss."""
    return [{"iteration": i, "lr": 0.1, term: start - i / 10, "total": 2 * start - i} for i in range(count)]


def keep(folder, name, content, written=NOW):
    """A checkpoint with these rows, as old as said."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.zeros(1)}, path, {"key": "of no interest", "rows": json.dumps(content)})
    os.utime(path, (written, written))


def done(folder, label, content, iterations, written):
    """The progress file after the last of these rows."""
    file_progress(folder)(label, len(content), iterations, content[-1])
    os.utime(folder / FILE, (written, written))


def train(folder, name="net", progress=None, iterations=10, every=4, label="stage1"):
    """A real training of one number, with a real checkpoint."""
    weight = nn.Linear(1, 1)
    nn.init.ones_(weight.weight)

    def step(iteration):
        loss = (weight(torch.ones(1)) ** 2).sum()
        return {"square": loss, "total": loss}

    return fit(
        {"net": weight},
        step,
        iterations=iterations,
        lr=0.1,
        checkpoint=folder / "stage1" / "training" / f"{name}.safetensors",
        key="0123456789abcdef",
        every=every,
        label=label,
        progress=progress,
    )


def lines(explorer, term):
    """Label to the values drawn in the panel of a term."""
    [ax] = [ax for ax in explorer.figure().axes if ax.get_title() == term]
    return {line.get_label(): list(line.get_ydata()) for line in ax.lines}


@pytest.fixture
def explorer(tmp_path):
    """With two finished trainings on disk."""
    keep(tmp_path, "stage1/training/supervisor-0123456789ab.safetensors", rows(5), NOW - 20)
    keep(tmp_path, "stage2/full/pnn-C-0-0123456789ab.safetensors", rows(4, 2.0, "language"), NOW - 10)
    return HistoryExplorer(tmp_path, live=False)


# what the disk tells


def test_checkpoints_are_named_by_stage_and_variant_the_latest_first(tmp_path):
    keep(tmp_path, "stage1/training/supervisor-0123456789ab.safetensors", rows(2), NOW - 30)
    keep(tmp_path, "stage2/pseudo-0123456789ab.safetensors", rows(3), NOW - 10)
    keep(tmp_path, "stage2/full/shuffled prompts-0-0123456789ab.safetensors", rows(4), NOW - 20)
    keep(tmp_path, "stage1/features/lrms.safetensors", [])
    found = kept_histories(tmp_path)
    assert list(found) == ["stage2/pseudo", "stage2/full/shuffled prompts-0", "stage1/supervisor"]
    assert [len(each) for each in found.values()] == [3, 4, 2]


def test_of_several_settings_the_latest_counts(tmp_path):
    keep(tmp_path, "stage2/full/pnn-0-aaaaaaaaaaaa.safetensors", rows(9), NOW)
    keep(tmp_path, "stage2/full/pnn-0-bbbbbbbbbbbb.safetensors", rows(3), NOW + 5)
    assert len(kept_histories(tmp_path)["stage2/full/pnn-0"]) == 3


def test_a_checkpoint_written_anew_is_read_anew(tmp_path):
    for count in (3, 6):
        keep(tmp_path, "stage2/pseudo-0123456789ab.safetensors", rows(count), NOW + count)
        assert len(kept_histories(tmp_path)["stage2/pseudo"]) == count


def test_the_history_of_a_real_training_is_what_fit_returned(tmp_path):
    assert kept_histories(tmp_path) == {}
    expected = train(tmp_path).rows
    assert kept_histories(tmp_path) == {"stage1/net": expected}


# the training that goes on


def test_what_was_seen_accumulates_and_the_time_left_is_at_its_pace(tmp_path):
    training = Training(tmp_path)
    assert not training.look() and training.seconds_left is None
    done(tmp_path, "stage1", rows(1), 10, NOW)
    assert training.look() and not training.look()
    assert training.seconds_left is None and not training.done
    done(tmp_path, "stage1", rows(4), 10, NOW + 6)
    assert training.look()
    assert training.seconds_left == pytest.approx(6 * 2.0)  # three iterations took six seconds, six are left
    assert training.rows({}) == [rows(4)[0], rows(4)[3]]


def test_a_checkpoint_that_agrees_fills_the_gaps_and_another_does_not(tmp_path):
    training = Training(tmp_path)
    done(tmp_path, "stage1", rows(3), 10, NOW)
    training.look()
    done(tmp_path, "stage1", rows(7), 10, NOW + 1)
    training.look()
    assert training.rows({"other": rows(7, 2.9)}) == [rows(7)[2], rows(7)[6]]
    assert training.rows({"other": rows(7, 2.9), "own": rows(5)}) == [*rows(5), rows(7)[6]]
    assert training.rows({"too short to tell": rows(2)}) == [rows(7)[2], rows(7)[6]]


@pytest.mark.parametrize(
    "label, content, iterations",
    [
        ("stage2", rows(5), 10),
        ("stage1", rows(2), 10),
        ("stage1", rows(4, 1.0), 10),
        ("stage1", rows(5), 20),
    ],
    ids=["another label", "an earlier iteration", "another loss", "another length"],
)
def test_another_training_starts_from_nothing(tmp_path, label, content, iterations):
    training = Training(tmp_path)
    done(tmp_path, "stage1", rows(4), 10, NOW)
    training.look()
    done(tmp_path, label, content, iterations, NOW + 1)
    assert training.look() and training.rows({}) == content[-1:] and training.seconds_left is None


def test_watching_a_real_training_gives_its_whole_history_although_it_looks_now_and_then(tmp_path):
    training, write = Training(tmp_path), file_progress(tmp_path, interval=0.0)

    def progress(label, iteration, iterations, terms):
        write(label, iteration, iterations, terms)
        if iteration % 3 == 0 or iteration == iterations:
            training.look()

    expected = train(tmp_path, progress=progress).rows
    assert training.done and len(training.seen) < 10
    assert training.rows(kept_histories(tmp_path)) == expected


# the explorer


def test_without_a_running_training_the_latest_is_drawn_and_others_beside_it(explorer):
    assert explorer.controls["beside"].options == ("stage2/full/pnn-C-0", "stage1/supervisor")
    assert lines(explorer, "total") == {"stage2/full/pnn-C-0": [4.0, 3.0, 2.0, 1.0]}
    before = explorer._plot.widget.value
    explorer.set(beside=("stage1/supervisor", "stage2/full/pnn-C-0"))
    assert explorer._plot.widget.value != before
    assert lines(explorer, "fusion") == {"stage1/supervisor": [3.0, 2.9, 2.8, 2.7, 2.6]}
    assert set(lines(explorer, "total")) == {"stage1/supervisor", "stage2/full/pnn-C-0"}


def test_the_mean_of_rows_smooths(explorer):
    explorer.set(smooth=2)
    assert lines(explorer, "total")["stage2/full/pnn-C-0"] == [4.0, 3.5, 2.5, 1.5]


def test_refresh_shows_what_has_come(explorer, tmp_path):
    [refresh] = [child for child in explorer.widget.children[0].children if child.description == "refresh"]
    before = explorer._plot.widget.value
    done(tmp_path, "stage1", rows(3), 5, time.time())
    assert explorer._plot.widget.value == before
    refresh.click()
    assert explorer._plot.widget.value != before
    # The checkpoint knows five iterations; of the training under way three are done
    assert lines(explorer, "total") == {"stage1 (latest)": [6.0, 5.0, 4.0]}
    told = explorer.numbers.value
    assert "<b>stage1</b>" in told and "iteration 3 of 5" in told and "time left not known yet" in told
    assert "fusion 2.8" in told and "total 4" in told


def test_a_choice_stays_when_new_trainings_come(explorer, tmp_path):
    explorer.set(beside=("stage1/supervisor",))
    keep(tmp_path, "stage2/pseudo-0123456789ab.safetensors", rows(3), NOW)
    explorer.redraw()
    assert explorer["beside"] == ("stage1/supervisor",)
    assert explorer.controls["beside"].options[0] == "stage2/pseudo"


@pytest.mark.parametrize(
    "count, age, told",
    [
        (5, 0, "iteration 5 of 5, done"),
        (3, 1200, "no sign for 20 minutes: interrupted?"),
        (3, 0, "time left not"),
    ],
)
def test_it_says_whether_a_training_goes_on(tmp_path, count, age, told):
    explorer = HistoryExplorer(tmp_path, live=False)
    done(tmp_path, "stage1", rows(count), 5, time.time() - age)
    explorer.training.look()
    assert told in explorer._numbers()


def test_the_time_left_is_told(tmp_path):
    explorer, now = HistoryExplorer(tmp_path, live=False), time.time()
    for count, written in ((1, now - 4), (3, now)):
        done(tmp_path, "stage1", rows(count), 5, written)
        explorer.training.look()
    assert "about 4 s left" in explorer._numbers()


def test_an_empty_run_says_so(tmp_path):
    explorer = HistoryExplorer(tmp_path, live=False)
    assert "no training has left anything" in explorer.figure().texts[0].get_text()
    assert "No training is under way" in explorer.numbers.value


def test_the_writing_of_a_scene_is_no_training(explorer, tmp_path):
    before = explorer.numbers.value
    file_progress(tmp_path)("writing", 5, 10, {})
    explorer.redraw()
    assert explorer.numbers.value == before and not explorer.training.seen
    assert explorer.figure().axes


def test_a_damaged_checkpoint_is_told(explorer, tmp_path):
    (tmp_path / "stage2" / "pseudo-0123456789ab.safetensors").write_bytes(b"half of it")
    with pytest.raises(Exception, match="(?i)header"):
        explorer.redraw()
    assert "header" in explorer.alarm.value.lower()


def test_no_other_training_can_be_chosen(explorer):
    with pytest.raises(ValueError, match="beside cannot be"):
        explorer.set(beside=("stage3/none",))


def test_a_viewer_without_widgets_gets_a_still_image(explorer):
    bundle = explorer._repr_mimebundle_()
    assert len(bundle["image/png"]) > 1000 and "application/vnd.jupyter.widget-view+json" in bundle
    assert "still image" in bundle["text/plain"]


def test_history_reads_the_folder_of_a_run(tmp_path):
    manifest = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_wv3.yaml"
    run = open_run(manifest, "", tmp_path / "run", "smoke", 0, "cpu", {})
    keep(run.folder, "stage2/pseudo-0123456789ab.safetensors", rows(3))
    assert history(run).controls["beside"].options == ("stage2/pseudo",)


# the timer


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in {"POLL": 0.02, "PAUSE": 0.3, "PATIENCE": 0.6}.items():
        monkeypatch.setattr(module, name, seconds)


def over(explorer, within=10.0):
    """Wait for the timer's end; False if it goes on."""
    end = time.monotonic() + within
    while explorer["live"] and time.monotonic() < end:
        time.sleep(0.02)
    return not explorer["live"] and not explorer.watching


def test_the_timer_draws_while_another_thread_trains_and_ends_after_it(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    explorer = HistoryExplorer(tmp_path, live=True)
    assert explorer.watching
    write, pictures = file_progress(tmp_path, interval=0.0), set()

    def progress(*told):
        write(*told)
        end = time.monotonic() + 5
        while explorer.training.iteration < told[1] and time.monotonic() < end:
            time.sleep(0.01)
        pictures.add(explorer._plot.widget.value)

    expected = train(tmp_path, progress=progress, iterations=4, every=2).rows
    assert len(pictures) > 1 and over(explorer)
    assert lines(explorer, "total") == {"stage1 (latest)": [row["total"] for row in expected]}
    assert "iteration 4 of 4, done" in explorer.numbers.value


def test_the_timer_can_be_started_and_stopped_and_ends_by_itself_where_nothing_trains(
    explorer, quick, monkeypatch
):
    assert not explorer.watching
    with monkeypatch.context() as patient:
        patient.setattr(module, "PATIENCE", 60.0)
        explorer.set(live=True)
        assert explorer.watching
        explorer.set(live=False)
        assert not explorer.watching
    explorer.set(live=True)
    assert over(explorer)


def test_the_timer_outlives_a_progress_file_that_the_runner_tidies_up(tmp_path, quick):
    explorer = HistoryExplorer(tmp_path, live=True)
    done(tmp_path, "stage1", rows(2), 5, time.time())
    clear_progress(tmp_path)
    assert read_progress(tmp_path) is None and over(explorer) and explorer.alarm.value == ""


def test_nobody_is_watched_for_who_is_gone(tmp_path, quick):
    explorer = HistoryExplorer(tmp_path, live=True)
    thread, alive = explorer._thread, weakref.ref(explorer)
    explorer.widget.close_all()
    del explorer
    gc.collect()
    thread.join(timeout=5)
    assert not thread.is_alive() and alive
