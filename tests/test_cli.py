"""The command `clippan`: exit states, what it prints, what it passes on."""

import importlib.metadata
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from clippan_lib import __version__, cli
from clippan_lib.data.fetch import Fetched
from clippan_lib.errors import DataError, Refusal, ResultsError, RunFailed
from clippan_lib.fusion import CLASSICAL, NETWORKS
from clippan_lib.runs import results
from clippan_lib.runs.progress import bars
from clippan_lib.sensors import SENSORS
from clippan_lib.training.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"


@pytest.fixture
def command(monkeypatch, tmp_path) -> SimpleNamespace:
    """The command with planning and execution replaced; notes what it was asked for."""
    asked = SimpleNamespace(plan=None, executed=False, outcome=None)

    def plan_run(manifest, **options):
        asked.plan = {"manifest": manifest} | options
        config = SimpleNamespace(network="pnn", stage2_iterations=3)
        return SimpleNamespace(folder=tmp_path, config=config, preset=options["preset"])

    def execute(plan, stream):
        asked.executed = True
        if asked.outcome:
            raise asked.outcome

    monkeypatch.setattr("clippan_lib.commands.run.plan_run", plan_run)
    monkeypatch.setattr("clippan_lib.commands.run.execute", execute)
    return asked


def test_the_console_script_is_this_function():
    [script] = importlib.metadata.entry_points(group="console_scripts", name="clippan")
    assert script.load() is cli.main


def test_options_are_passed_on(command):
    text = "run wv2.yaml --data d --preset smoke --network pnn --seed 4 --device cpu --name n -p a=1 -p b=x"
    assert cli.main([*text.split(), "--plugin", "m.py"]) == 0
    assert command.plan == {
        "manifest": Path("wv2.yaml"),
        "data": Path("d"),
        "preset": "smoke",
        "network": "pnn",
        "plugin": Path("m.py"),
        "seed": 4,
        "device": "cpu",
        "name": "n",
        "changes": {"a": 1, "b": "x"},
    }


def test_defaults_are_the_demo_on_whatever_device_there_is(command):
    cli.main(["run", "wv2.yaml"])
    assert (command.plan["preset"], command.plan["device"], command.plan["seed"]) == ("demo", "auto", 0)
    assert command.plan["network"] is command.plan["plugin"] is None
    assert command.plan["changes"] == {}


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_large_images_lie_in_large_pages_unless_the_user_says_otherwise(command, monkeypatch, before, after):
    monkeypatch.setenv(LARGE_PAGES, "")
    if before is None:
        monkeypatch.delenv(LARGE_PAGES)
    else:
        monkeypatch.setenv(LARGE_PAGES, before)
    cli.main(["run", "any.yaml"])
    assert os.environ[LARGE_PAGES] == after


def test_the_package_is_the_command_too():
    done = subprocess.run([sys.executable, "-m", "clippan_lib"], capture_output=True, text=True)
    assert done.returncode == 2 and "usage: clippan" in done.stderr


@pytest.mark.parametrize("preset", ["demo", "smoke"])
def test_the_end_is_ten_lines_with_the_numbers_the_sentence_and_the_report(command, tmp_path, capsys, preset):
    rows = [("BT-H", None, 30.0), ("EXP", None, 20.0), ("pnn", 0, 31.0), ("pnn-C", 0, 32.0)]
    table = pd.DataFrame(rows, columns=["method", "seed", "MPSNR"]).astype({"seed": "Int64"})
    both = pd.concat([table.assign(scene="a"), table.assign(scene="b", MPSNR=table["MPSNR"] + 1)])
    results.record(tmp_path, "04_stage2", {"Scores": results.tidy(both, resolution="full")})
    assert cli.main(["run", "wv2.yaml", "--preset", preset]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) <= 10 and shown[-1] == f"Report: {tmp_path / 'index.html'}"
    assert shown[0] == "MPSNR of pnn-C: 32.500 dB (higher is better, BT-H: 30.500 dB)"
    [sentence] = [line for line in shown if line.startswith("pnn-C is better than BT-H")]
    assert "+2.000 ± 0.000 dB" in sentence
    assert any(line.startswith("Warning: Smoke run") for line in shown) == (preset == "smoke")


def test_the_end_of_a_run_that_compared_nothing_names_the_report_alone(command, tmp_path, capsys):
    assert cli.main(["run", "wv2.yaml"]) == 0
    assert capsys.readouterr().out == f"Report: {tmp_path / 'index.html'}\n"


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (RunFailed("04 failed in code cell 3"), 1, "clippan: 04 failed in code cell 3\n"),
        (Refusal("another process is running"), 2, "clippan: another process is running\n"),
        (ResultsError("metrics.json is no table"), 2, "clippan: metrics.json is no table\n"),
        (KeyboardInterrupt(), 130, "clippan: interrupted; the same command goes on from here\n"),
    ],
)
def test_a_run_that_stops_says_why_and_has_its_status(command, capsys, outcome, status, message):
    command.outcome = outcome
    assert cli.main(["run", "wv2.yaml"]) == status
    out, err = capsys.readouterr()
    assert (out, err) == ("", message)


def test_a_refused_plan_is_one_line_and_status_2(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "nowhere.yaml"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("clippan: nowhere.yaml: cannot be read")
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "x", "--seed", "one"], ["ran", "x"]])
def test_a_misspelt_command_has_status_2_and_shows_its_usage(command, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: clippan" in capsys.readouterr().err
    assert not command.executed


COMMANDS = {
    name: command
    for action in cli.parser()._subparsers._group_actions  # argparse names them nowhere else
    for name, command in action.choices.items()
}


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"clippan {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_a_help_text_are_commands(name):
    examples = COMMANDS[name].examples
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "clippan" and cli.parser().parse_args(words).command == name
        assert f"  {example}\n" in COMMANDS[name].format_help() + "\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_text_has_a_sentence_and_the_default_of_each_option(name):
    for action in COMMANDS[name]._actions:
        assert action.help
        if not action.option_strings or action.dest == "help":
            continue
        said = "(required)" if action.required else "default: "
        assert said in action.help, action.option_strings
        given = action.default if isinstance(action.default, list) else [action.default]
        shown = " ".join(str(each) for each in given if type(each) in (int, str))
        if action.dest != "consistent":  # 0 of them are none
            assert f"default: {shown}" in action.help or action.required, action.option_strings


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        ("run", [NETWORKS, PRESETS]),
        ("table", [NETWORKS, PRESETS]),
        ("sharpen", [CLASSICAL, SENSORS, ["stack", "bandwise"]]),
        ("compare", [CLASSICAL, SENSORS, ["stack", "bandwise"]]),
        ("score", [SENSORS]),
    ],
)
def test_a_help_text_lists_all_names_that_its_options_take(name, lists):
    words = COMMANDS[name].format_help().replace(",", " ").split()
    assert {each for names in lists for each in names} <= set(words)
    assert not any(line.rstrip().endswith("-") for line in COMMANDS[name].format_help().splitlines())


def test_no_command_is_too_heavy_to_ask_for_the_version():
    asked = "import sys; from clippan_lib import cli; cli.parser(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stdout == "False\n"


def test_a_scene_is_sharpened_by_gsa_where_no_method_is_given(monkeypatch, capsys):
    asked = []

    def plan_job(ms, pan, method, **options):
        asked.append((ms, pan, method, options["bands"], options["gains"], options["consistent"]))
        raise DataError("enough")

    monkeypatch.setattr("clippan_lib.commands.sharpen.plan_job", plan_job)
    line = ["sharpen", "--ms", "m.tif", "--pan", "p.tif", "--out", "o.tif", "--bands", "3,1"]
    assert cli.main(line) == 2 and "clippan: enough" in capsys.readouterr().err
    assert asked == [(["m.tif"], "p.tif", "gsa", [3, 1], "measured", 0)]


@pytest.fixture
def served(monkeypatch, tmp_path) -> SimpleNamespace:
    """The command with the download replaced; `outcome` is what it gives or raises."""
    (tmp_path / "one.yaml").write_text((ROOT / "data_manifests" / "wv2_grip.yaml").read_text())
    asked = SimpleNamespace(outcome=Fetched((), (), (), ""), line=["fetch", str(tmp_path / "one.yaml")])
    asked.line += ["--data", str(tmp_path / "data")]

    def fetch(manifest, root, announce, progress):
        asked.manifest, asked.root = manifest, root
        announce(f"Licence: {manifest.licence}")
        progress("imgWV2.mat", 5, 10, {})
        if isinstance(asked.outcome, BaseException):
            raise asked.outcome
        return asked.outcome

    monkeypatch.setattr("clippan_lib.commands.fetch.fetch", fetch)
    return asked


def test_fetch_shows_the_licence_and_names_the_files(served, tmp_path, capsys):
    served.outcome = Fetched(("imgWV2.mat",), ("old.mat",), (), "")
    assert cli.main(served.line) == 0
    shown = capsys.readouterr()
    assert "GRIP" in shown.err
    assert shown.out.split() == [str(tmp_path / "data" / name) for name in ("imgWV2.mat", "old.mat")]
    assert (served.manifest.name, served.root) == ("wv2_grip", tmp_path / "data")


def test_fetch_of_what_has_no_address_says_what_to_do_and_is_not_complete(served, capsys):
    served.outcome = Fetched((), (), ("a.h5",), "Missing, and no direct address is known: a.h5")
    assert cli.main(served.line) == 1
    assert "no direct address is known: a.h5" in capsys.readouterr().err


def test_a_refused_download_or_manifest_is_explained(served, capsys):
    served.outcome = DataError("imgWV2.mat: sha256 is 12, the manifest says 34")
    assert cli.main(served.line) == 2
    assert "the manifest says 34" in capsys.readouterr().err
    assert cli.main(["fetch", "nowhere.yaml", "--data", "d"]) == 2
    assert "nowhere.yaml: cannot be read" in capsys.readouterr().err


def test_an_interrupted_download_says_that_it_goes_on(served, capsys):
    served.outcome = KeyboardInterrupt()
    assert cli.main(served.line) == 130
    assert "the same command goes on" in capsys.readouterr().err


SYNTHETIC = """
name: few
title: A few small synthetic scenes
sensor: QB
source: {kind: synthetic, scenes: {train: 1, val: 1, test: 1}, size: 256, seed: 0}
licence: Apache-2.0
citation: none
homepage: none
how_to_get: nothing to get
"""


def test_an_audit_of_sound_data_passes_and_leaves_a_page(tmp_path, capsys):
    (tmp_path / "few.yaml").write_text(SYNTHETIC)
    line = ["audit", str(tmp_path / "few.yaml"), "--report", str(tmp_path / "audit.html"), "--sample", "4"]
    assert cli.main(line) == 0
    shown = capsys.readouterr().out
    assert "passed" in shown and f"Report: {tmp_path / 'audit.html'}" in shown
    assert "A few small synthetic scenes" in (tmp_path / "audit.html").read_text()


def test_an_audit_of_what_is_not_there_fails_and_says_why(tmp_path, capsys):
    line = ["audit", str(ROOT / "data_manifests" / "wv2_grip.yaml"), "--data", str(tmp_path)]
    assert cli.main([*line, "--report", str(tmp_path / "audit.html")]) == 1
    assert "fault: readable" in capsys.readouterr().out
    assert cli.main([*line, "--sample", "0"]) == 2
    assert "--sample 0: give 1 or more" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_work_shows_a_bar_on_a_terminal_and_nothing_in_a_log():
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        show = bars(stream, "B")
        show("a.mat", 0, 2_000, {})
        show("a.mat", 2_000, 2_000, {})
    assert "a.mat: 100%" in terminal.getvalue() and "2.00k/2.00k" in terminal.getvalue()
    assert log.getvalue() == ""
