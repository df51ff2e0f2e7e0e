"""What a notebook's cell shows of a training loop, and what it leaves when it is interrupted: in real kernels."""

import textwrap
from contextlib import contextmanager

import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from tiny import tiny_manifest

from clippan_lib.runs import progress
from clippan_lib.runs.progress import read_progress, run_progress

START = """
from clippan_lib.runs import progress
from clippan_lib.runs.run import open_run
run = open_run("tiny.yaml", "", "run", "smoke", 0, "cpu", {"stage1_iterations": 6, "checkpoint_every": 100})
"""
TRAIN = """
history = run.stage1(run.new_supervisor(), "supervisor")
print(len(history.rows), "rows")
"""
# Kernels take seconds to start
pytestmark = pytest.mark.slow
WIDGET = "application/vnd.jupyter.widget-view+json"


@contextmanager
def kernel(folder, watched=False):
    """A function that runs code as a cell; its outputs, as they come and as they stay."""
    (folder / "tiny.yaml").write_text(tiny_manifest())
    client = NotebookClient(new_notebook(), timeout=120, resources={"metadata": {"path": str(folder)}})

    received = client.process_message

    def noted(message, *place):
        run.messages.append(message)
        return received(message, *place)

    client.process_message = noted

    def run(source):
        cell = new_code_cell(textwrap.dedent(source))
        client.nb.cells.append(cell)
        client.execute_cell(cell, len(client.nb.cells) - 1)
        return cell.outputs

    run.messages = []
    with client.setup_kernel():
        client.kc.allow_stdin = watched
        yield run


def text(outputs):
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(outputs):
    return [output for output in outputs if WIDGET in output.get("data", {})]


def test_a_watched_cell_shows_a_bar_with_loss_and_time_left_that_goes_when_the_loop_is_over(tmp_path):
    with kernel(tmp_path, watched=True) as run:
        run(START)
        run("from tqdm import notebook\nseen = []\nclose = notebook.tqdm.close")
        run("notebook.tqdm.close = lambda bar: (seen.append(str(bar)), close(bar))[1]")
        outputs = run(TRAIN)
        bar = text(run("print(seen[0])"))
    [view] = [output.data[WIDGET]["model_id"] for output in shown(outputs)]
    assert view in [
        message["content"]["comm_id"] for message in run.messages if message["msg_type"] == "comm_close"
    ]
    assert text(outputs) == "6 rows\n"
    assert bar.startswith("stage1: 100%") and "6/6" in bar and "loss " in bar and "<00:00" in bar


def test_an_unwatched_cell_tells_a_line_a_minute_with_loss_and_time_left_and_shows_no_widget(tmp_path):
    with kernel(tmp_path) as run:
        run(START)
        quick = run(TRAIN)
        run("progress.TOLD_EVERY = 0.0")
        told = run('run.stage1(run.new_supervisor("random:0"), "random_clip");')
    assert text(quick) == "6 rows\n" and not shown(quick + told)
    lines = text(told).splitlines()
    assert [line.split(",")[0] for line in lines] == [f"stage1: {done} of 6" for done in range(2, 7)]
    assert all(", loss " in line and line.endswith(" s left") for line in lines)
    assert lines[-1].endswith("about 0 s left")


def test_an_interrupted_cell_keeps_its_checkpoint_and_goes_on_when_it_is_run_again(tmp_path):
    """The kernel gets what the stop button sends, in the middle of the third iteration."""
    with kernel(tmp_path) as run:
        run(START)
        run("import os, signal\nfrom clippan_lib.training import loop\nbackward = loop._Run.gradients")
        run("""
            def stopped(self, step, iteration, *rest):
                if iteration == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                return backward(self, step, iteration, *rest)
            loop._Run.gradients = stopped
        """)
        with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
            run(TRAIN)
        assert not (tmp_path / "run" / "stage1" / "supervisor.safetensors").exists()
        assert [*(tmp_path / "run" / "stage1" / "training").iterdir()]
        run("loop._Run.gradients = backward\nprogress.TOLD_EVERY = 0.0")
        outputs = run(TRAIN)
        usable = run("print(type(run.adapted_supervisor()).__name__)")
    lines = text(outputs).splitlines()
    assert [line.split(",")[0] for line in lines] == ["stage1: 5 of 6", "stage1: 6 of 6", "6 rows"]
    assert text(usable) == "Supervisor\n"


def test_outside_a_notebook_only_the_file_knows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "TOLD_EVERY", 0.0)
    show = run_progress(tmp_path)
    for iteration in (1, 2, 3):
        show("pnn", iteration, 3, {"total": 0.5})
    assert capsys.readouterr() == ("", "")
    assert read_progress(tmp_path)["iteration"] == 3


def test_a_line_follows_the_label_and_starts_its_pace_again(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    show = progress._cell_lines()
    for second, label, done in [(0, "a", 1), (61, "a", 2), (100, "a", 3), (130, "b", 1), (190, "b", 4)]:
        now[0] = second
        show(label, done, 10, {"spectral": 0.1})
    # a: one iteration in 61 s, eight to go; b: three in 60 s, six to go
    assert capsys.readouterr().out == "a: 2 of 10, about 488 s left\nb: 4 of 10, about 120 s left\n"
