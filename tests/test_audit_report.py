"""The audit's page: whole in itself, worst first, with the pictures of what was found."""

import base64
import re
from dataclasses import replace

import pytest
from layouts import h5_dataset, manifest, save_h5
from matplotlib.figure import Figure

from clippan_lib.audit import Audit, Finding, audit, offsets
from clippan_lib.audit import report as audit_report

SYNTHETIC = {"kind": "synthetic", "scenes": {"train": 1, "val": 1, "test": 0}, "size": 256, "seed": 0}


@pytest.fixture(scope="module")
def outcome() -> Audit:
    return audit(manifest(SYNTHETIC, title="Land & <sea>"))


def finding(severity: str, check: str) -> Finding:
    return Finding(check, "train", "full", severity, f"{check} <measured>", 1.0, "none", "Do & look.")


def test_the_page_holds_findings_and_pictures_and_asks_for_no_other_file(tmp_path, outcome):
    path = tmp_path / "new" / "audit.html"
    audit_report.write(outcome, path)
    assert list(path.parent.iterdir()) == [path]
    page = path.read_text(encoding="utf-8")
    assert "<title>Audit of Land &amp; &lt;sea&gt;</title>" in page
    assert page.count("<tr") == 1 + len(outcome.findings)
    pictures = re.findall(r'src="([^"]*)"', page)
    assert len(pictures) == 3 * len(outcome.parts) + 1
    assert page.count("<figcaption>How sharp each band is") == 1
    for picture in pictures:
        kind, _, content = picture.partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(content)[:4] == b"\x89PNG"
    assert not re.search(r"https?:|<link|<script|href=", page)
    assert outcome.manifest.digest() in page
    assert "train full 1 of 1 windows (1 in detail)" in page


def test_the_worst_comes_first_and_texts_are_escaped(outcome):
    kinds = ("ok", "warning", "not measured", "fault", "ok")
    findings = tuple(finding(kind, f"check{i}") for i, kind in enumerate(kinds))
    page = audit_report.page(Audit(outcome.manifest, findings))
    assert re.findall(r'<tr class="(\w+)">', page) == ["fault", "warning", "unmeasured", "ok", "ok"]
    assert "check0 &lt;measured&gt;" in page and "Do &amp; look." in page
    assert "<dd>nothing</dd>" in page


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["ok", "ok"], "passed: 2 ok"),
        (["ok", "warning"], "passed: 1 warning, 1 ok"),
        (["fault", "warning", "fault", "not measured"], "failed: 2 faults, 1 warning, 1 not measured"),
    ],
)
def test_the_verdict_counts(outcome, kinds, said):
    findings = tuple(finding(kind, "check") for kind in kinds)
    assert audit_report.verdict(Audit(outcome.manifest, findings)) == said


def test_a_leak_is_shown_as_two_pictures_side_by_side(tmp_path):
    stored = save_h5(tmp_path / "train_reduced.h5")
    save_h5(tmp_path / "test_reduced.h5", count=2, **{key: stored[key][:2] for key in ("gt", "ms", "pan")})
    found = audit(h5_dataset(tmp_path).manifest, tmp_path)
    page = audit_report.page(found)
    assert len(found.leaks) == 2 and page.count("The same ground in two splits: about") == 4
    assert "registration" in page and "not measured" in page
    assert "Where MS lies on PAN" not in page


def test_data_that_could_not_be_opened_still_have_a_page(tmp_path):
    save_h5(tmp_path / "train_reduced.h5")
    dataset = h5_dataset(tmp_path)
    (tmp_path / "train_reduced.h5").unlink()
    page = audit_report.page(audit(dataset.manifest, tmp_path))
    assert "failed: 1 fault" in page and "none of train_reduced.h5 is there" in page
    assert "<img" not in page


def test_the_registration_picture_needs_a_measurement(outcome):
    [part] = [part for part in outcome.parts if (part.split, part.resolution) == ("train", "full")]
    figure = audit_report.registration(part)
    assert isinstance(figure, Figure)
    assert figure.axes[1].get_title() == f"{len(offsets(part))} windows"
    with pytest.raises(ValueError, match="train full: no window was measured"):
        audit_report.registration(replace(part, surfaces=[]))


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, outcome, monkeypatch):
    path = tmp_path / "audit.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        audit_report.write(Audit(outcome.manifest, ()), path)
    assert path.read_text() == "old"
