"""Gains that were measured: what they replace, where they are not used, and where they are kept."""

import json
from dataclasses import replace

import pytest
import torch
from layouts import h5_dataset, save_h5
from tiny import tiny_manifest

from clippan_lib.data import wald
from clippan_lib.errors import DataError
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.metrics import full_scores
from clippan_lib.runs.run import open_run
from clippan_lib.runs.settings import as_configured, measured_optics
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import make_config
from clippan_lib.training.stage2 import pan_sharpness

QB = get_sensor("QB")
MEASURED = make_config("demo", gains="measured")


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "tiny.yaml").write_text(tiny_manifest())

    def open_with(**overrides):
        return open_run(tmp_path / "tiny.yaml", "", tmp_path / "run", "smoke", 0, "cpu", overrides)

    return open_with


@pytest.fixture
def dataset(opened):
    return opened(gains="table").dataset


def test_the_gains_of_rendered_scenes_are_found_to_be_about_those_they_were_made_with(dataset):
    optics = dataset.measure_optics()
    assert optics.good and max(map(abs, optics.shift)) < 0.1
    # relative to PAN, which is itself soft: a little more
    for found, made in zip(optics.gnyq, QB.gnyq, strict=True):
        assert 0.8 * made < found < 1.4 * made


def test_all_that_depends_on_gains_takes_the_measured_ones(dataset):
    optics = replace(dataset.measure_optics(), gnyq=(0.1, 0.2, 0.3, 0.4))
    seen = dataset.through(optics.gnyq)
    assert seen.sensor == replace(QB, gnyq=optics.gnyq) and dataset.sensor == QB
    full, reduced = (seen.scenes("train", resolution)[0] for resolution in ("full", "reduced"))
    assert full.sensor.gnyq == reduced.sensor.gnyq == optics.gnyq
    batch = full.read()
    assert torch.equal(reduced.read().lrms, wald(batch.lrms, batch.pan, seen.sensor).lrms)
    assert seen.lowered().sensor.gnyq == optics.gnyq
    hrms = batch.gt.double()
    scores = [
        full_scores(hrms, batch.lrms.double(), batch.pan.double(), sensor, 4, 2047.0)["D_lambda_K"].item()
        for sensor in (QB, seen.sensor)
    ]
    assert scores[0] != scores[1]


def test_a_fit_that_is_not_good_leaves_the_table(dataset, monkeypatch):
    optics = replace(dataset.measure_optics(), r2=0.2)
    assert not optics.good
    monkeypatch.setattr(type(dataset), "measure_optics", lambda self: optics)
    assert measured_optics(dataset, MEASURED) == optics
    assert as_configured(dataset, MEASURED, measured_optics(dataset, MEASURED)).sensor == QB


def test_scenes_that_cannot_be_measured_leave_the_table(dataset, monkeypatch):
    def fails(self):
        raise ValueError("too few pixels")

    monkeypatch.setattr(type(dataset), "measure_optics", fails)
    assert measured_optics(dataset, MEASURED) is None
    assert as_configured(dataset, MEASURED, measured_optics(dataset, MEASURED)).sensor == QB


def test_with_the_tables_gains_nothing_is_measured(dataset, monkeypatch):
    monkeypatch.setattr(type(dataset), "measure_optics", lambda self: pytest.fail("was measured"))
    assert measured_optics(dataset, make_config("paper", gains="table")) is None


def test_a_source_with_its_own_reduced_resolution_keeps_the_gains_it_was_made_with(tmp_path, dataset):
    save_h5(tmp_path / "train_reduced.h5")
    source = h5_dataset(tmp_path)
    assert not source.measurable
    assert measured_optics(source, MEASURED) is None
    assert as_configured(source, MEASURED, None).sensor == source.sensor
    with pytest.raises(
        DataError, match="gains='measured' would not be those that its reduced resolution was made"
    ):
        source.through((0.1,) * 4)


def test_a_run_keeps_what_was_measured_and_a_network_the_gains_it_was_trained_with(opened):
    run = opened(gains="measured", consistency=2)
    kept = json.loads((run.folder / "optics.json").read_text())["content"]
    assert kept["good"] and tuple(kept["optics"]["gnyq"]) == run.optics.gnyq == run.dataset.sensor.gnyq
    run.stage2({"pnn": None}, run.pseudo_supervisor(), "full", n_seeds=1)
    trained = run.trained("pnn", "full")
    assert trained.sensor.gnyq == run.optics.gnyq != QB.gnyq
    assert trained.network.gnyq == run.optics.gnyq and trained.consistency == 2
    assert trained.sharpness == pan_sharpness(run.patches("train", "full"), run.config)
    pseudo = TrainedNetwork.load(run.layout.pseudo("pnn", 0))
    assert (pseudo.consistency, pseudo.sharpness) == (2, None)
    header = TrainedNetwork.header(run.layout.network("full", "pnn", 0))
    assert header.sensor.gnyq == run.optics.gnyq


def test_a_run_that_is_opened_again_measures_only_what_another_code_or_another_file_left(opened, monkeypatch):
    first, file = opened(gains="measured").optics, opened(gains="measured").layout.optics
    monkeypatch.setattr(
        "clippan_lib.data.patches.measure_optics", lambda *_, **__: measured.append(1) or other
    )
    measured, other = [], replace(first, common=0.5)
    assert opened(gains="measured").optics == first and not measured
    assert isinstance(first.curve[0], tuple) and hash(opened(gains="measured").dataset.sensor)
    file.write_text(file.read_text().replace('"reach": ', '"reach": 1'))
    assert opened(gains="measured").optics == other and measured == [1]
    monkeypatch.setattr("clippan_lib.runs.settings.library_digest", lambda: "a later library")
    opened(gains="measured")
    assert measured == [1, 1]
