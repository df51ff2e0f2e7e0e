"""Standard streams that are closed, full or no longer read: the work is finished, and the status is its own."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rasterio
from rasters import grid, noise, save

from clippan_lib import cli
from clippan_lib.commands.streams import Lasting, lasting_streams

FULL, AWAY = OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")


class Failing(io.StringIO):
    """A stream that fails once something is written, or, as buffers do, once it is flushed."""

    def __init__(self, error: OSError, at: str = "write"):
        super().__init__()
        self.error, self.at, self.failed = error, at, 0

    def write(self, text: str) -> int:
        return self._fail() if self.at == "write" else len(text)

    def flush(self) -> None:
        if self.at == "flush":
            self._fail()

    def _fail(self) -> int:
        self.failed += 1
        raise self.error


@pytest.fixture
def score(monkeypatch) -> SimpleNamespace:
    """`clippan score` with its measuring replaced."""
    monkeypatch.setattr(
        "clippan_lib.commands.score.score_fused",
        lambda *_, **__: ({"MPSNR": 30.0, "SAM": 1.0}, SimpleNamespace(in_words="all of it"), ["remark"]),
    )
    return SimpleNamespace(line=["score", "--fused", "f", "--ms", "m", "--pan", "p"])


@pytest.mark.parametrize("at", ["write", "flush"])
def test_scores_that_could_not_be_printed_are_no_success_and_the_reason_is_told(
    score, monkeypatch, capsys, at
):
    monkeypatch.setattr(sys, "stdout", Failing(FULL, at))
    assert cli.main(score.line) == 1
    said = capsys.readouterr().err
    assert said.endswith(
        "clippan: what was printed is lost: standard output fails (No space left on device)\n"
    )


@pytest.mark.parametrize("at", ["write", "flush"])
def test_a_reader_who_had_enough_is_no_failure(score, monkeypatch, capsys, at):
    stream = Failing(AWAY, at)
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(score.line) == 0
    assert capsys.readouterr().err == "remark\nall of it\n" and stream.failed <= 2


def test_a_lost_standard_error_costs_nothing(score, monkeypatch, capsys):
    for stream in (Failing(FULL), Failing(AWAY), None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert cli.main(score.line) == 0
        assert sys.stderr is stream
        assert capsys.readouterr().out.startswith("metric,value,better\nMPSNR,30,")


def test_nothing_that_is_said_on_a_closed_standard_error_goes_to_standard_output(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["audit", "nowhere.yaml"]) == 2
    assert capsys.readouterr().out == ""


def test_streams_are_what_they_were_once_the_work_is_over():
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), lasting_streams():
        assert (sys.stdout, sys.stderr) != before
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


def test_a_name_in_bytes_that_are_no_text_is_shown_as_it_can_be():
    inner = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = Lasting(inner)
    print("a\udcff\u00e9.tif", file=stream)
    stream.flush()
    assert inner.buffer.getvalue() == b"a\\udcff\\xe9.tif\n"
    assert (stream.encoding, stream.isatty(), stream.fault) == ("ascii", False, "")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no device that is always full")
def test_an_image_is_finished_though_nobody_can_be_told(tmp_path):
    ms, pan = (
        save(tmp_path / "ms.tif", noise(4, 24, 24), grid(4)),
        save(tmp_path / "p.tif", noise(1, 96, 96), grid()),
    )
    line = [
        sys.executable,
        "-m",
        "clippan_lib",
        "sharpen",
        "--ms",
        str(ms),
        "--pan",
        str(pan),
        "--method",
        "exp",
    ]
    reader, writer = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run(
        [*line, "--shift", "0,0", "--out", str(tmp_path / "o.tif")], stdout=full, stderr=writer
    )
    assert done.returncode == 0
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.shape == (96, 96)
    os.close(writer)
    os.close(full)


def test_an_image_is_finished_where_all_streams_are_closed(tmp_path):
    ms, pan = (
        save(tmp_path / "ms.tif", noise(4, 24, 24), grid(4)),
        save(tmp_path / "p.tif", noise(1, 96, 96), grid()),
    )
    out: Path = tmp_path / "o.tif"
    line = (
        f"{sys.executable} -m clippan_lib sharpen --ms {ms} --pan {pan} --method exp --shift 0,0 --out {out}"
    )
    done = subprocess.run(["sh", "-c", f"{line} <&- >&- 2>&-"])
    assert done.returncode == 0
    with rasterio.open(out) as file:
        assert file.shape == (96, 96) and file.read().any()
