"""A tenth of `make soak`, and a proof that it sees what it looks for."""

from pathlib import Path

import pytest
import soak
import soak_kills
from soak_inputs import EITHER, REFUSED, Case, sound


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    sound(folder)
    return folder


def test_there_are_at_least_three_hundred_bad_inputs_each_with_its_name():
    names = [case.name for case in soak.cases()]
    assert len(names) == len(set(names)) >= 300


@pytest.mark.slow
@pytest.mark.parametrize("case", soak.cases()[::10], ids=lambda case: case.name[:60])
def test_a_bad_input_is_refused_in_one_line_and_nothing_is_destroyed(case, template, tmp_path):
    assert soak.attempt(case, template, tmp_path / "work").wrong == ""


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_output():
    rows = [*soak_kills.with_kills("sharpen, gsa", 5)]
    assert rows and [row for row in rows if row[2]] == []


def _sound(folder: Path) -> list[str]:
    return ["audit", str(folder / "none.yaml")]


def _accepted(folder: Path) -> list[str]:
    return ["run", str(folder / "tiny.yaml"), "--preset", "smoke"]


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        (Case("a: sound", _sound), ""),
        (Case("a: accepted", _accepted), "accepted: "),
        (Case("a: served", _accepted, EITHER), ""),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_what_is_wrong_is_seen(case, wrong, template, tmp_path):
    found = soak.attempt(case, template, tmp_path / "work").wrong
    assert found.startswith(wrong) and bool(found) == bool(wrong)


def test_what_a_command_destroys_leaves_runs_or_says_is_seen(template, tmp_path, monkeypatch):
    case = Case("a: b", lambda folder: ["x"], REFUSED)
    planted = {
        "destroyed: ms.tif": lambda arguments: Path("ms.tif").write_bytes(b"") or 2,
        "code in it was run": lambda arguments: Path(soak.TRAP).touch() or 2,
        "refused, but left half.tif": lambda arguments: (
            print("clippan: no", file=soak.sys.stderr) or Path("half.tif").touch() or 2
        ),
        "a traceback: ZeroDivisionError: division by zero": lambda arguments: 1 / 0,
        "said ''": lambda arguments: 2,
        "status 3": lambda arguments: 3,
    }
    for wrong, command in planted.items():
        monkeypatch.setattr(soak, "clippan", command)
        assert soak.attempt(case, template, tmp_path / "work").wrong == wrong
