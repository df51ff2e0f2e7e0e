"""An output never replaces an input, and what cannot be written is refused before anything is computed."""

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import yaml
from rasters import grid, noise, save
from scenes import scene

from clippan_lib import cli
from clippan_lib.data.pair.sources import files_of
from clippan_lib.errors import OutputError
from clippan_lib.fusion import network_for
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.targets import refuse_replacing, refuse_unwritable

QB = get_sensor("QB")


def small(folder: Path) -> tuple[Path, Path]:
    return (
        save(folder / "ms.tif", noise(4, 24, 24), grid(4)),
        save(folder / "pan.tif", noise(1, 96, 96), grid()),
    )


def network(file: Path) -> Path:
    TrainedNetwork(network_for("pnn", QB).eval(), "pnn", QB, 2047.0, {"resolution": "full"}).save(file)
    return file


def sharpened(folder: Path, out: Path | str, *options: str, ms: str = "ms.tif") -> int:
    line = ["sharpen", "--ms", str(folder / ms), "--pan", str(folder / "pan.tif"), "--out", str(out)]
    return cli.main([*line, "--shift", "0,0", "--method", "exp", *options])


def state(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(folder: Path, capsys, status: int, *said: str) -> None:
    told = capsys.readouterr().err
    assert status == 2 and told.startswith("clippan: ") and told.count("\n") == 1, told
    assert all(part in told for part in said), told


# What is one file


@pytest.mark.parametrize("link", [os.symlink, os.link, shutil.copy])
def test_a_file_that_is_read_is_known_by_whatever_name(tmp_path, link):
    (tmp_path / "in").write_text("input")
    link(tmp_path / "in", tmp_path / "out")
    if link is shutil.copy:
        refuse_replacing([tmp_path / "out"], [tmp_path / "in"])
        return
    with pytest.raises(
        OutputError, match=r"out: is one of the files that are read, by another name .*in; give"
    ):
        refuse_replacing([tmp_path / "new", tmp_path / "out"], [tmp_path / "in", tmp_path / "gone"])


def test_all_files_behind_an_image_are_listed(tmp_path):
    ms, pan = small(tmp_path)
    names = [
        "ms.tif.ovr",
        "ms.tif.msk",
        "ms.tif.aux.xml",
        "ms.RPB",
        "ms_RPC.TXT",
        "ms.IMD",
        "ms_metadata.txt",
    ]
    for name in (*names, "ms.txt", "ms2.aux.xml", "ms.fused.tif", "ms.clippan.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "x.vrt").write_text(
        '<VRTDataset rasterXSize="24" rasterYSize="24"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">ms.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    found = {path.name for path in files_of([tmp_path / "x.vrt", tmp_path / "gone.tif"])}
    assert found == {"x.vrt", "ms.tif", *names}
    assert files_of([pan]) == [pan]


# What cannot be written


def device(folder: Path) -> Path:
    return Path("/dev/null")


def a_folder(folder: Path) -> Path:
    (folder / "f").mkdir()
    return folder / "f"


def a_link_to_a_folder(folder: Path) -> Path:
    a_folder(folder)
    (folder / "g").symlink_to(folder / "f")
    return folder / "g"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "p")
    return folder / "p"


def a_socket(folder: Path) -> Path:
    here = os.getcwd()
    os.chdir(folder)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("s")
    finally:
        os.chdir(here)
    return folder / "s"


def nowhere(folder: Path) -> Path:
    return folder / "none" / "o.tif"


def through_a_link_to_nowhere(folder: Path) -> Path:
    (folder / "l.tif").symlink_to(folder / "none" / "o.tif")
    return folder / "l.tif"


def below_a_file(folder: Path) -> Path:
    return folder / "pan.tif" / "o.tif"


def of_the_system(folder: Path) -> Path:
    return Path("/proc/o.tif")


def far_too_long(folder: Path) -> Path:
    return folder / ("n" * 240)


KINDS = [
    (device, "/dev/null: is a device, and no file"),
    (a_folder, "f: is a folder, and no file"),
    (a_link_to_a_folder, "g: is a folder, and no file"),
    (a_pipe, "p: is a pipe, and no file"),
    (a_socket, "s: is a socket, and no file"),
    (nowhere, "none: no such folder; make it"),
    (through_a_link_to_nowhere, "none: no such folder; make it"),
    (below_a_file, "o.tif: cannot be written (Not a directory)"),
    (of_the_system, "/proc/o.tif: cannot be written"),
    (far_too_long, "n: cannot be written (File name too long)"),
]


@pytest.mark.parametrize(("kind", "said"), KINDS)
def test_an_output_that_cannot_be_a_file_is_refused_before_anything_is_read(
    tmp_path, capsys, monkeypatch, kind, said
):
    small(tmp_path)
    out = kind(tmp_path)
    before = state(tmp_path)
    monkeypatch.setattr("clippan_lib.commands.sharpen.plan_job", None)
    for more in ([], ["--adapt", "smoke", "--sensor", "QB"], ["--method", "auto"]):
        refused(tmp_path, capsys, sharpened(tmp_path, out, *more), said)
    assert state(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"o\.tif: cannot be written .Permission denied"):
        refuse_unwritable(tmp_path / "o.tif")
    tmp_path.chmod(0o700)


def test_folders_that_will_be_made_may_be_missing(tmp_path):
    refuse_unwritable(tmp_path / "a" / "b" / "index.html", made=True)
    with pytest.raises(OutputError, match=r"b: no such folder; make it"):
        refuse_unwritable(tmp_path / "a" / "b" / "index.html")
    assert not [*tmp_path.iterdir()]


# What would be replaced


def through_a_link(folder: Path) -> Path:
    (folder / "o.tif").symlink_to(folder / "ms.tif")
    return folder / "o.tif"


def by_a_second_name(folder: Path) -> Path:
    os.link(folder / "pan.tif", folder / "o.tif")
    return folder / "o.tif"


def a_sidecar(folder: Path) -> Path:
    (folder / "ms.tif.aux.xml").write_text("<PAMDataset/>")
    return folder / "ms.tif.aux.xml"


def beside_the_output(folder: Path) -> Path:
    (folder / "o.tif.ovr").symlink_to(folder / "pan.tif")
    return folder / "o.tif"


def the_record(folder: Path) -> Path:
    os.link(folder / "ms.tif", folder / "o.clippan.json")
    return folder / "o.tif"


def what_a_killed_writer_left(folder: Path) -> Path:
    os.link(folder / "ms.tif", folder / ".o.tif.12.part")
    return folder / "o.tif"


@pytest.mark.parametrize(
    "made",
    [through_a_link, by_a_second_name, a_sidecar, beside_the_output, the_record, what_a_killed_writer_left],
)
def test_an_output_that_would_replace_or_remove_an_input_is_refused(tmp_path, capsys, made):
    small(tmp_path)
    out = made(tmp_path)
    before = state(tmp_path)
    refused(tmp_path, capsys, sharpened(tmp_path, out), "is one of the files that are read")
    with pytest.raises(OutputError, match="is one of the files that are read"):
        sharpen(plan_job(tmp_path / "ms.tif", tmp_path / "pan.tif", "exp", shift=(0.0, 0.0)), out)
    assert state(tmp_path) == before


def test_the_source_of_a_vrt_is_not_replaced(tmp_path, capsys):
    small(tmp_path)
    place = ", ".join(map(str, grid(4).to_gdal()))
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}"><SimpleSource><SourceFilename relativeToVRT="1">ms.tif'
        f"</SourceFilename><SourceBand>{number}</SourceBand></SimpleSource></VRTRasterBand>"
        for number in (1, 2, 3, 4)
    )
    (tmp_path / "x.vrt").write_text(
        f'<VRTDataset rasterXSize="24" rasterYSize="24"><SRS>EPSG:32632</SRS><GeoTransform>{place}</GeoTransform>'
        f"{bands}</VRTDataset>"
    )
    before = state(tmp_path)
    for out in ("ms.tif", "x.vrt"):
        refused(
            tmp_path, capsys, sharpened(tmp_path, tmp_path / out, ms="x.vrt"), f"{out}: is one of the files"
        )
    assert state(tmp_path) == before


def test_a_network_a_run_a_sensor_and_words_are_not_replaced(tmp_path, capsys):
    small(tmp_path)
    run = tmp_path / "run"
    file = network(run / "networks" / "full" / "pnn-C-0.safetensors")
    other = network(run / "networks" / "full" / "pnn-0.safetensors")
    (run / "settings.json").write_text("{}")
    origin = {"resolution": "full", "variant": "pnn-C", "seed": "0"}
    TrainedNetwork(network_for("pnn", QB).eval(), "pnn", QB, 2047.0, origin).save(file)
    sensor, clip = tmp_path / "mine.yaml", tmp_path / "clip.pt"
    sensor.write_text(yaml.safe_dump({"name": "QB"}))
    clip.write_text("weights")
    before = state(tmp_path)
    for out, *options in (
        (file, "--method", str(file)),
        (file, "--method", str(run)),
        (other, "--method", str(run)),
        (run / "settings.json", "--method", str(run)),
        (clip, "--refine", "sharp", "--clip-weights", str(clip)),
    ):
        refused(
            tmp_path, capsys, sharpened(tmp_path, out, *options), f"{out}: is one of the files that are read"
        )
    fields = {"bands": ["b", "g", "r", "n"], "bits": 11, "ratio": 4, "gnyq": [0.3] * 4, "gnyq_pan": 0.15}
    sensor.write_text(yaml.safe_dump({"name": "X", **fields, "rgb": [2, 1, 0], "gbnir": [1, 0, 3]}))
    before[sensor] = sensor.read_bytes()
    status = sharpened(tmp_path, sensor, "--sensor", str(sensor))
    refused(tmp_path, capsys, status, "mine.yaml: is one of the files that are read")
    assert state(tmp_path) == before


def test_the_function_does_not_replace_its_network(tmp_path):
    ms, pan = scene(tmp_path)
    file = network(tmp_path / "n.safetensors")
    job = plan_job(ms, pan, file, shift=(0.0, 0.0))
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"n\.safetensors: is one of the files that are read"):
        sharpen(job, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["o.tif.ovr", "o.tif.aux.xml", "o.clippan.json", ".o.tif.compared.json"])
def test_a_folder_where_a_file_of_the_output_goes_is_refused(tmp_path, capsys, name):
    small(tmp_path)
    (tmp_path / name).mkdir()
    before = state(tmp_path)
    refused(
        tmp_path, capsys, sharpened(tmp_path, tmp_path / "o.tif"), f"{name}: is a folder, where a file goes"
    )
    assert state(tmp_path) == before


def test_a_folder_of_tiles_that_is_not_ours_is_refused_before_anything_is_read(tmp_path, capsys, monkeypatch):
    small(tmp_path)
    (tmp_path / ".o.tif.tiles").symlink_to(tmp_path)
    before = state(tmp_path)
    monkeypatch.setattr("clippan_lib.commands.sharpen.plan_job", None)
    refused(tmp_path, capsys, sharpened(tmp_path, tmp_path / "o.tif"), "is no folder that CLIPPan made")
    assert state(tmp_path) == before


def test_an_older_output_beside_an_input_is_replaced(tmp_path):
    small(tmp_path)
    for name in ("ms.fused.tif", "exp"):
        (tmp_path / name).write_text("an older output")
        assert sharpened(tmp_path, tmp_path / name) == 0
        assert (tmp_path / name).read_bytes()[:2] == b"II"


# Folders and pages


@pytest.mark.parametrize("name", ["index.html", "scores.csv", ".kept.json"])
def test_a_comparison_replaces_no_input_that_lies_in_its_folder(tmp_path, capsys, name):
    ms, pan = small(tmp_path)
    (tmp_path / "d").mkdir()
    shutil.move(ms, tmp_path / "d" / name)
    before = state(tmp_path)
    line = ["compare", "--ms", str(tmp_path / "d" / name), "--pan", str(pan), "--out", str(tmp_path / "d")]
    refused(tmp_path, capsys, cli.main(line), f"{name}: is one of the files that are read")
    assert state(tmp_path) == before


def test_a_comparison_into_a_file_is_refused_before_anything_is_read(tmp_path, capsys, monkeypatch):
    ms, pan = small(tmp_path)
    monkeypatch.setattr("clippan_lib.commands.compare.plan_contest", None)
    for out in ("/dev/null", str(pan)):
        line = ["compare", "--ms", str(ms), "--pan", str(pan), "--out", out]
        refused(tmp_path, capsys, cli.main(line), "cannot be written (Not a directory)")


MANIFEST = {
    "name": "few",
    "title": "t",
    "sensor": "QB",
    "source": {"kind": "geotiff", "ms": "ms.tif", "pan": "pan.tif"},
    "split": {"train": 0.6, "val": 0.2, "test": 0.2},
    "licence": "l",
    "citation": "c",
    "homepage": "h",
    "how_to_get": "n",
}


def test_the_page_of_an_audit_replaces_neither_manifest_nor_data(tmp_path, capsys, monkeypatch):
    small(tmp_path)
    (tmp_path / "ms.IMD").write_text("")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(MANIFEST))
    (tmp_path / "link.html").symlink_to(tmp_path / "pan.tif")
    monkeypatch.setattr("clippan_lib.commands.audit.audit", None)
    before = state(tmp_path)
    for name in ("m.yaml", "ms.tif", "pan.tif", "ms.IMD", "link.html"):
        status = cli.main(["audit", str(tmp_path / "m.yaml"), "--report", str(tmp_path / name)])
        refused(tmp_path, capsys, status, f"{name}: is one of the files that are read")
    for report, said in (
        ("/dev/null", "is a device"),
        (str(tmp_path), "is a folder"),
        ("/proc/x/a.html", ""),
    ):
        status = cli.main(["audit", str(tmp_path / "m.yaml"), "--report", report])
        refused(tmp_path, capsys, status, said)
    assert state(tmp_path) == before


def test_the_page_of_an_audit_replaces_no_scene_of_a_folder(tmp_path, capsys, monkeypatch):
    keys = {"lrms": "a", "pan": "b"}
    source = {"kind": "nbu", "lrms_dir": "ms", "pan_dir": "pan", "keys": keys}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(MANIFEST | {"source": source}))
    (tmp_path / "ms").mkdir()
    (tmp_path / "pan").mkdir()
    np.save(tmp_path / "ms" / "1.mat", np.zeros(2))
    monkeypatch.setattr("clippan_lib.commands.audit.audit", None)
    report = tmp_path / "ms" / "1.mat.npy"
    status = cli.main(["audit", str(tmp_path / "m.yaml"), "--report", str(report)])
    refused(tmp_path, capsys, status, "1.mat.npy: is one of the files that are read")
