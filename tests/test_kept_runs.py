"""What a run keeps is damaged: it is named and made again, or refused by name; never a traceback."""

import io
import json
import random
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from tiny import tiny_manifest
from tiny_notebooks import MANIFEST, write_notebook

from clippan_lib.campaign import engine, record
from clippan_lib.campaign.grid import Campaign, plan_campaign
from clippan_lib.cli import main
from clippan_lib.errors import CheckpointError, Refusal
from clippan_lib.files import write_json
from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs import results, runner
from clippan_lib.runs.folder import RunFolder, find_network, newest_run, no_run
from clippan_lib.runs.plan import Plan, plan_run
from clippan_lib.runs.progress import clear_progress, file_progress, read_progress
from clippan_lib.runs.settings import Settings
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import make_config

NUMBERS = results.pd.DataFrame([{"method": "EXP", "MPSNR": 30.0}, {"method": "GSA", "MPSNR": 31.5}])
# What a record may become: JSON of other types, of other keys, or none
ALTERED = [b"", b"null", b"[]", b"3", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000]


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> list[str]:
    """Notebooks are not executed: each leaves its own numbers, and its name in the list."""
    ran: list[str] = []

    def execute_notebook(path, output, parameters, *_):
        ran.append(path.stem)
        nbformat.write(nbformat.read(path, 4), output)
        rows = {"Scores": results.tidy(NUMBERS, resolution="reduced"), "Times": results.tidy(NUMBERS, seed=0)}
        results.record(parameters["run_dir"], path.stem, rows)

    monkeypatch.setattr(runner, "execute_notebook", execute_notebook)
    monkeypatch.setattr(runner, "library_digest", lambda: "one state of the library")
    monkeypatch.setattr(
        "clippan_lib.runs.report.write_html", lambda path: path.with_suffix(".html").write_text("</html>")
    )
    return ran


def planned(folder: Path) -> Plan:
    notebooks = folder / "notebooks"
    notebooks.mkdir(exist_ok=True)
    for name in ("00_first", "01_second"):
        write_notebook(notebooks / f"{name}.ipynb", 'run_dir = ""\nseed = 0')
    return plan_run(MANIFEST, name="one", device="cpu", notebooks=notebooks, runs=folder / "runs")


def go(plan: Plan) -> None:
    runner.execute(plan, io.StringIO())


@pytest.fixture
def finished(tmp_path, quick) -> Plan:
    made = planned(tmp_path)
    go(made)
    assert quick == ["00_first", "01_second"]
    quick.clear()
    go(made)
    assert quick == []
    return made


def shown(plan: Plan) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in plan.folder.iterdir() if path.suffix in (".json", ".csv")
    }


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_a_run_that_is_as_it_was_written_says_nothing(finished, caplog):
    go(finished)
    assert not caplog.records


def test_a_damaged_stamp_is_named_and_its_notebook_runs_again(finished, quick, caplog):
    stamp = finished.folder / ".01_second.done.json"
    for content in (*ALTERED, stamp.read_bytes()[:-20]):
        stamp.write_bytes(content)
        go(finished)
        assert quick == ["01_second"] and str(stamp) in caplog.text, content
        go(finished)
        assert quick == ["01_second"]
        quick.clear()
        caplog.clear()


def test_a_turned_bit_of_a_stamp_repeats_its_notebook_or_changes_nothing(finished, quick):
    stamp, generator = finished.folder / ".00_first.done.json", random.Random(0)
    whole, before = stamp.read_bytes(), shown(finished)
    for _ in range(8):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole) - 1)] ^= 1 << generator.randrange(8)
        stamp.write_bytes(damaged)
        go(finished)
    assert set(quick) == {"00_first", "01_second"}
    assert shown(finished)["metrics.json"] == before["metrics.json"]


def test_numbers_that_are_none_are_named_thrown_away_and_measured_again(finished, quick, caplog):
    path, before = finished.folder / "metrics.json", shown(finished)
    others = (path.read_bytes()[:-20], b'[{"metric": "MPSNR", "value": 3}]')
    for content in (*[content for content in ALTERED if content != b"[]"], *others):
        path.write_bytes(content)
        go(finished)
        assert quick == ["00_first", "01_second"] and f"{path} is no table" in caplog.text, content
        assert shown(finished)["metrics.json"] == before["metrics.json"]
        quick.clear()
        caplog.clear()


@pytest.mark.parametrize(
    ("old", "new"), [("31.5", "91.5"), ("31.5", "null"), ("GSA", "EXP2"), ('"MPSNR"', '"SAM"')]
)
def test_numbers_that_were_changed_by_hand_are_measured_again(finished, quick, caplog, old, new):
    path, before = finished.folder / "metrics.json", shown(finished)
    path.write_text(path.read_text().replace(old, new))
    go(finished)
    assert (
        quick == ["00_first", "01_second"]
        and "00_first.ipynb has other numbers in metrics.json" in caplog.text
    )
    assert shown(finished)["metrics.json"] == before["metrics.json"]


def test_numbers_that_are_gone_are_measured_again(finished, quick):
    (finished.folder / "metrics.json").unlink()
    go(finished)
    assert quick == ["00_first", "01_second"]


@pytest.mark.parametrize(
    "value",
    ["NaN", "1e999", "true", '"3"', "[]", str(10**400)],
    ids=["nan", "inf", "true", "text", "list", "huge"],
)
@pytest.mark.parametrize("column", ["value", "seed"])
def test_a_value_of_another_kind_is_no_number_of_a_run(tmp_path, column, value):
    results.record(tmp_path, "00", {"Scores": results.tidy(NUMBERS, seed=7)})
    path = tmp_path / "metrics.json"
    path.write_text(
        path.read_text().replace("30.0" if column == "value" else "7,", value + ("," * (column == "seed")))
    )
    with pytest.raises(
        results.ResultsError, match=rf"{path} is no table with the columns.*delete it and run again"
    ):
        results.load(tmp_path)


def test_an_executed_notebook_that_is_none_runs_again(finished, quick, caplog):
    path = finished.folder / "01_second.ipynb"
    for content in (*ALTERED, path.read_bytes()[:-20]):
        path.write_bytes(content)
        go(finished)
        assert quick == ["01_second"] and f"{path} cannot be read: it runs again" in caplog.text, content
        quick.clear()
        caplog.clear()


def test_a_damaged_run_json_is_named_and_written_again_without_a_notebook(finished, quick, caplog):
    path, before = finished.folder / "run.json", shown(finished)
    for content in (*ALTERED, path.read_bytes()[:-20]):
        path.write_bytes(content)
        go(finished)
        assert quick == [] and f"{path} is damaged" in caplog.text, content
        assert shown(finished) == before
        caplog.clear()


def test_a_changed_run_json_is_written_again(finished, quick, caplog):
    path, before = finished.folder / "run.json", shown(finished)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    go(finished)
    assert "it is not as it was written" in caplog.text and shown(finished) == before


def test_a_page_that_is_gone_or_cut_is_written_again_without_a_notebook(finished, quick):
    for path in (finished.folder / "index.html", finished.folder / "00_first.html"):
        for content in (b"", b"<html>", None):
            path.unlink() if content is None else path.write_bytes(content)
            go(finished)
            assert quick == [] and path.read_text().rstrip().endswith("</html>")


def test_damaged_settings_are_refused_by_name_and_nothing_runs(finished, quick):
    path = finished.folder / "settings.json"
    for content in (*ALTERED, path.read_bytes()[:-20]):
        path.write_bytes(content)
        before = shown(finished)
        with pytest.raises(
            Refusal, match=rf"{path} is damaged \(.*\); delete it, .* or give another run_dir"
        ):
            go(finished)
        assert quick == [] and shown(finished) == before
    path.unlink()
    go(finished)
    assert quick == ["00_first", "01_second"]


def test_settings_that_were_changed_by_hand_are_refused(finished):
    path = finished.folder / "settings.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(Refusal, match=r"settings.json is damaged \(it is not as it was written\)"):
        go(finished)


def test_settings_without_a_checksum_of_an_older_version_are_taken(finished, quick):
    write_json(finished.folder / "settings.json", finished.place.settings)
    go(finished)
    assert quick == []


@pytest.mark.parametrize("name", ["settings.json", "metrics.json", "run.json"])
def test_a_folder_in_the_place_of_a_record_is_refused_by_name_and_kept(finished, quick, name):
    (finished.folder / name).unlink()
    (finished.folder / name / "of somebody").mkdir(parents=True)
    with pytest.raises(
        Refusal, match=rf"{finished.folder / name} is (damaged|no table).*(move it away|delete it)"
    ):
        go(finished)
    assert (finished.folder / name / "of somebody").exists() and quick == []


def test_a_link_that_leads_nowhere_is_nothing(finished, quick):
    for name in ("run.json", ".01_second.done.json"):
        (finished.folder / name).unlink()
        (finished.folder / name).symlink_to("nowhere")
    go(finished)
    assert quick == ["01_second"] and not (finished.folder / "run.json").is_symlink()


@pytest.mark.parametrize("name", [".00_first.done.json", "index.html", "unfinished"])
def test_the_command_says_in_one_line_what_lies_in_the_place_of_a_file(finished, monkeypatch, capsys, name):
    place = finished.folder / name
    place.unlink(missing_ok=True)
    place.touch() if name == "unfinished" else place.mkdir()
    if name == "unfinished":
        (finished.folder / "index.html").unlink()
    monkeypatch.setattr("clippan_lib.commands.run.plan_run", lambda *_, **__: finished)
    assert main(["run", str(MANIFEST)]) in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("clippan: ") and str(place) in error


# ---------------------------------------------------------------- finding runs


def settings() -> Settings:
    return Settings("tiny", "digest", {}, "smoke", 0, make_config("smoke"))


@pytest.mark.parametrize("content", ALTERED)
def test_a_run_with_damaged_settings_is_not_the_newest_and_is_listed_as_damaged(tmp_path, content):
    whole, damaged = (RunFolder(tmp_path / "tiny" / name) for name in ("whole", "damaged"))
    for folder in (whole, damaged):
        folder.write_settings(settings())
    (damaged.path / "settings.json").write_bytes(content)
    assert newest_run(tmp_path, settings(), {}) == whole
    told = str(no_run(tmp_path, settings(), {}))
    assert f"{damaged.path}: its settings.json is damaged" in told and f"{whole.path}: preset smoke" in told
    (whole.path / "settings.json").unlink()
    assert newest_run(tmp_path, settings(), {}) is None


def keep_networks(folder: Path, *origins: dict[str, str]) -> list[Path]:
    files = [folder / "networks" / f"{number}.safetensors" for number in range(len(origins))]
    for file, origin in zip(files, origins, strict=True):
        origin = {"resolution": "full", "seed": "0"} | origin
        TrainedNetwork(build_network("pnn", 4, 4), "pnn", get_sensor("QB"), 2047.0, origin).save(file)
    return files


@pytest.mark.parametrize("content", ALTERED)
def test_damaged_settings_count_only_where_they_would_say_which_network(tmp_path, content):
    [only] = keep_networks(tmp_path, {"variant": "pnn-C"})
    (tmp_path / "settings.json").write_bytes(content)
    assert find_network(tmp_path) == only
    keep_networks(tmp_path, {"variant": "pnn-C"}, {"variant": "pannet-C"})
    with pytest.raises(Refusal, match=r"settings.json is damaged"):
        find_network(tmp_path)


@pytest.mark.parametrize("seed", ["", "first", "-1", "1.5"])
def test_a_network_without_a_seed_is_named(tmp_path, seed):
    [file] = keep_networks(tmp_path, {"variant": "pnn-C", "seed": seed})
    with pytest.raises(CheckpointError, match=rf"{file} was trained with the seed '{seed}'"):
        find_network(tmp_path)


def test_a_damaged_network_of_a_run_is_named(tmp_path):
    first, second = keep_networks(tmp_path, {"variant": "pnn-C"}, {"variant": "pnn"})
    cut(second)
    with pytest.raises(CheckpointError, match=str(second)):
        find_network(tmp_path)
    second.unlink()
    second.mkdir()
    with pytest.raises(CheckpointError, match=str(second)):
        find_network(tmp_path)
    assert first.is_file()


@pytest.mark.parametrize("content", [b"", b"half", b"{}" * 9])
def test_judging_a_run_whose_supervisor_is_damaged_is_refused_with_one_line(tmp_path, capsys, content):
    file = RunFolder(tmp_path).supervisor()
    file.parent.mkdir()
    file.write_bytes(content)
    assert main(["judge", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"clippan: {file} cannot be read")


@pytest.mark.parametrize("run", ["missing", "a" * 300, "file", "file/in/it"])
def test_judging_what_is_no_run_is_refused_with_one_line(tmp_path, capsys, run):
    (tmp_path / "file").touch()
    assert main(["judge", str(tmp_path / run)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "content", [*ALTERED, b'{"label": 1, "iteration": "x", "iterations": null, "terms": []}']
)
def test_progress_that_is_damaged_is_none_and_the_next_iteration_replaces_it(tmp_path, content):
    (tmp_path / "progress.json").write_bytes(content)
    assert read_progress(tmp_path) is None
    file_progress(tmp_path)("Stage I", 1, 2, {"total": 1.0})
    assert read_progress(tmp_path) == {
        "label": "Stage I",
        "iteration": 1,
        "iterations": 2,
        "terms": {"total": 1.0},
    }
    clear_progress(tmp_path)


# ---------------------------------------------------------------- campaigns


def campaign(folder: Path) -> Campaign:
    settings = {"seeds": [0], "preset": "smoke", "device": "cpu", "runs": folder / "runs"}
    (folder / "tiny.yaml").write_text(tiny_manifest())
    return plan_campaign(1, [folder / "tiny.yaml"], **settings, changes={"compared": ["pnn"]})


@pytest.fixture
def done(tmp_path, quick) -> Campaign:
    """A campaign of one run, of the classical methods."""
    made = campaign(tmp_path)
    classical = tuple(
        entry for entry in made.entries if not entry.task.needs and entry.task.notebook == "04_classical"
    )
    made = replace(made, entries=classical)
    [outcome] = engine.run_campaign(made)
    assert outcome.failure is None and quick == ["04_classical"]
    quick.clear()
    engine.run_campaign(made)
    assert quick == []
    return made


def run_of(made: Campaign) -> Path:
    return made.runs / made.tasks[0].place


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
def test_a_finished_run_of_a_campaign_whose_record_is_damaged_is_made_whole_again(done, quick, name):
    before = (done.folder / "scores.csv").read_bytes()
    for content in ALTERED:
        (run_of(done) / name).write_bytes(content)
        [outcome] = engine.run_campaign(done)
        assert outcome.failure is None
        assert quick == ([] if name == "run.json" else ["04_classical"]), content
        assert (done.folder / "scores.csv").read_bytes() == before
        assert set(record.load(done.folder).scores["status"]) == {"done"}
        quick.clear()


def test_a_number_of_a_campaign_that_was_changed_by_hand_is_measured_again(done, quick):
    path, before = run_of(done) / "metrics.json", (done.folder / "scores.csv").read_bytes()
    path.write_text(path.read_text().replace("31.5", "99.5"))
    engine.run_campaign(done)
    assert quick == ["04_classical"] and (done.folder / "scores.csv").read_bytes() == before


def test_damaged_settings_fail_their_run_of_a_campaign_by_name(done):
    (run_of(done) / "run.json").unlink()
    for content in ALTERED:
        (run_of(done) / "settings.json").write_bytes(content)
        [outcome] = engine.run_campaign(done)
        assert f"{run_of(done) / 'settings.json'} is damaged" in outcome.failure
        assert set(record.load(done.folder).scores["status"]) == {"failed"}


def test_a_folder_in_the_place_of_a_failure_is_a_failure_and_no_traceback(done):
    (run_of(done) / "failed.json").mkdir()
    [outcome] = engine.run_campaign(done)
    assert "failed.json" in outcome.failure


@pytest.mark.parametrize("name", ["campaign.json", "scores.csv"])
def test_a_damaged_record_of_a_campaign_is_refused_by_name_and_written_again(done, name):
    command = json.loads((done.folder / "campaign.json").read_text())["command"]
    for content in ALTERED:
        (done.folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{done.folder / name} is not a campaign's"):
            record.load(done.folder)
    engine.run_campaign(done)
    assert record.load(done.folder).record.command == command


def test_the_command_ends_in_one_line_where_the_folder_of_a_campaign_is_a_file(done, monkeypatch, capsys):
    place = done.folder.with_name("a file")
    place.touch()
    monkeypatch.setattr(
        "clippan_lib.commands.table.plan_campaign", lambda *_, **__: replace(done, folder=place)
    )
    assert main(["table", "1", str(MANIFEST), "--jobs", "1"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"clippan: {place} cannot be written")
