"""The gates as a command: what passes, what it is compared with, and which supervisors cannot be judged."""

import csv
import io
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from clippan_lib import cli
from clippan_lib.clip.model import load_clip
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.evaluation import judgement
from clippan_lib.evaluation.judgement import GATES, _gate, judge, verdict, with_random_weights
from clippan_lib.runs.folder import RunFolder
from clippan_lib.sensors import get_sensor
from clippan_lib.training.deliveries import make, toned

QB = get_sensor("QB")


@pytest.fixture(scope="module")
def supervisor() -> Supervisor:
    torch.manual_seed(0)
    made = Supervisor(load_clip(), QB)
    generator = torch.Generator().manual_seed(1)
    made.fit_stretch(
        0.1 + 0.2 * torch.rand(4, 4, 16, 16, generator=generator),
        0.3 * torch.rand(4, 1, 64, 64, generator=generator),
    )
    return made.freeze()


@cache
def drawn(*given):
    return make(*given)


@pytest.fixture
def few(monkeypatch):
    """Few fusions of each delivery, and short walks."""
    monkeypatch.setattr(judgement, "METHODS", ("gsa",))
    monkeypatch.setattr(judgement, "UNSEEN_METHODS", ())
    monkeypatch.setattr(judgement, "STEPS", 2)
    monkeypatch.setattr(judgement, "make", drawn)


def test_a_delivery_is_shown_as_the_supervisors_own_scenes_are(supervisor):
    delivery = make(4_960_000, ("exp",), QB)
    case = toned(delivery, supervisor.stretch("lrms"), supervisor.stretch("pan"))
    for image, of in ((case.lrms, supervisor.stretch("lrms")), (case.pan, supervisor.stretch("pan"))):
        low, high = np.quantile(image.numpy(), [0.02, 0.98], axis=(0, 2, 3))
        assert low == pytest.approx(of.lo.numpy(), abs=0.01) and high == pytest.approx(
            of.hi.numpy(), abs=0.01
        )
    # what the truth lacks is what it lacked, band by band
    before, after = delivery.gt - delivery.fused["exp"].float(), case.gt - case.fused["exp"]
    ratio = (after / before).where(before.abs() > 0.01, torch.nan).flatten(2).nanmedian(2).values
    assert torch.allclose(after, ratio[..., None, None] * before, atol=1e-4)


def test_a_delivery_has_the_bands_of_the_sensor_and_optics_of_its_own():
    drawn = make(4_960_000, ("exp",), get_sensor("WV3").only(["red", "green", "blue"]))
    assert drawn.sensor.bands == ("red", "green", "blue") and drawn.gt.shape[1] == 3
    assert drawn.sensor.gnyq != get_sensor("WV3").gnyq[:3]


@pytest.mark.parametrize("sensor, why", [("L8", "has ratio 2"), ("one", "and one, two")])
def test_a_sensor_that_cannot_be_drawn_is_refused(sensor, why):
    told = get_sensor("L8") if sensor == "L8" else replace(QB, bands=("one", "two", "three", "four"))
    with pytest.raises(ValueError, match=why):
        make(0, ("exp",), told)


def test_the_control_has_all_but_the_weights(supervisor):
    control = with_random_weights(supervisor)
    assert control.towers.fingerprint != supervisor.towers.fingerprint
    assert control.prompts == supervisor.prompts and control.options == supervisor.options and control.frozen
    for role in ("lrms", "pan", "hrms"):
        assert torch.equal(control.stretch(role).lo, supervisor.stretch(role).lo)


def test_a_gate_by_hand():
    gate = _gate("cosine", pd.Series([0.1, 0.2, 0.3]), pd.Series([0.0, 0.1, 0.2]))
    assert (gate.mean, gate.control) == pytest.approx((0.2, 0.1))
    # Student's t of two degrees of freedom, 4.3027, times .1 / sqrt 3
    assert (gate.low, gate.high) == pytest.approx((0.2 - 0.24842, 0.2 + 0.24842), abs=1e-4)
    assert gate.above == pytest.approx((0.1, 0.1)) and not gate.passed
    assert replace(gate, low=0.01).passed and not replace(gate, low=0.01, above=(0.1, -0.01)).passed
    assert not replace(gate, name="ranking, fused", low=0.45).passed


def test_every_gate_is_measured_and_the_same_twice(supervisor, few):
    gates = judge(supervisor, count=2)
    assert [gate.name for gate in gates] == [*GATES]
    assert gates == judge(supervisor, count=2)
    assert all(0 <= gate.mean <= 1 for gate in gates if gate.name.startswith("ranking"))
    with pytest.raises(ValueError, match="1 deliveries allow no interval"):
        judge(supervisor, count=1)


def test_the_command_prints_a_row_per_gate(supervisor, few, tmp_path, capsys):
    supervisor.save(RunFolder(tmp_path).supervisor())
    assert (
        cli.main(["judge", str(tmp_path), "--deliveries", "2", "--guidance", "dense", "--device", "cpu"]) == 0
    )
    said = capsys.readouterr()
    rows = [*csv.DictReader(io.StringIO(said.out))]
    assert {row["gate"]: row["what"] for row in rows} == GATES
    assert {row["passed"] for row in rows} <= {"0", "1"}
    failed = [row["gate"] for row in rows if row["passed"] == "0"]
    assert verdict(pd.Series({row["gate"]: int(row["passed"]) for row in rows})) in said.err
    assert all(gate in said.err for gate in failed)


def test_a_verdict_names_the_gates_that_failed():
    passed = pd.Series(1, index=[*GATES])
    assert verdict(passed) == "passes all 5 gates"
    said = verdict(passed.mask(passed.index == "walk", 0))
    assert said.startswith("fails 1 of 5 gates") and "walk (dB that 10 steps" in said and "cosine" not in said


def test_a_folder_without_a_supervisor_is_refused(tmp_path, capsys):
    assert cli.main(["judge", str(tmp_path)]) == 2
    assert "whose Stage I is done" in capsys.readouterr().err
