"""Whole scenes: tiles leave no trace, a stopped job goes on, and nothing half done has the output's name."""

import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
import torch
import torch.nn.functional as F
from distributed import LocalCluster
from rasters import grid, noise, save
from scenes import SOFT
from scenes import scene as land

from clippan_lib import __version__, cli
from clippan_lib.data.pair import open_pair
from clippan_lib.errors import DataError, OutputError
from clippan_lib.files import library_digest, read_json
from clippan_lib.fusion import CLASSICAL, build_network, get_method, network_for
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import parts, plan_job, sharpen, tiles

QB = get_sensor("QB")
TILED = [name for name in CLASSICAL if name not in ("fe_hpm", "sr_d", "tv")]


def scene(folder: Path, height: int = 37, width: int = 53, dtype=np.float32, hole: int = 7, **options):
    """A pair with structure, its MS larger and shifted by part of a pixel, with a hole in both."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 4, height // 4 + 3, width // 4 + 3, generator=generator)
    truth = F.interpolate(coarse, size=(4 * height + 40, 4 * width + 40), mode="bicubic").clamp(0, 1)
    truth = 1000 * (1 + truth + 0.1 * torch.rand(truth.shape, generator=generator))[0].numpy()
    pan = truth.mean(0, keepdims=True)[:, 20:-20, 20:-20].astype(dtype)
    ms = F.avg_pool2d(torch.from_numpy(truth), 4).numpy().astype(dtype)
    pan[:, 50 : 50 + hole, 61 : 61 + hole] = 0
    ms[:, 12 : 12 + hole // 4, 30 : 30 + hole // 4] = 0
    return (
        save(folder / "ms.tif", ms, grid(4, -19.75, -20), nodata=0, **options),
        save(folder / "pan.tif", pan, grid(), nodata=0, **options),
    )


def fused(folder: Path, tile: int, method="gsa", paths=None, **options) -> np.ma.MaskedArray:
    job = plan_job(
        *(paths or scene(folder)), method, sensor=None if "/" in str(method) else QB, tile=tile, **options
    )
    sharpen(job, folder / f"{tile}.tif")
    with rasterio.open(folder / f"{tile}.tif") as file:
        return file.read(masked=True)


@pytest.mark.parametrize("method", TILED)
@pytest.mark.parametrize("hole", [0, 7])
def test_tiles_leave_no_trace(tmp_path, method, hole):
    paths = scene(tmp_path, hole=hole)
    whole, tiled = (fused(tmp_path, tile, method, paths) for tile in (1024, 68))
    assert whole.shape == (4, 148, 212) and (whole.mask.sum() > 49) == (hole > 0)
    assert np.array_equal(whole.mask, tiled.mask)
    np.testing.assert_allclose(tiled, whole, atol=2e-5 * np.ptp(whole))


@pytest.fixture(scope="module")
def network_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "pnn.safetensors"
    TrainedNetwork(build_network("pnn", 4, 4).eval(), "pnn", QB, 2047.0, {}).save(path)
    return path


@pytest.mark.parametrize("name", ["pnn", "pannet", "fusionnet", "msdcnn", "drpnn", "lformer"])
def test_tiles_of_a_network_leave_no_trace(tmp_path, name):
    file = tmp_path / f"{name}.safetensors"
    TrainedNetwork(network_for(name, QB).eval(), name, QB, 2047.0, {}).save(file)
    paths = scene(tmp_path)
    small = 136 if name == "lformer" else 68  # it looks far: small tiles of it are nearly all apron
    whole, tiled = (fused(tmp_path, tile, file, paths) for tile in (1024, small))
    np.testing.assert_allclose(tiled, whole, atol=2e-5 * np.ptp(whole))


def test_the_output_is_the_methods_own_up_to_the_border(tmp_path):
    paths = scene(tmp_path, hole=0)
    window = open_pair(*paths).read(slice(None), slice(None))
    expected = get_method("gsa", QB, 4)(window.lrms, window.pan)[0].numpy()
    np.testing.assert_allclose(fused(tmp_path, 68, "gsa", paths), expected, rtol=1e-4)
    expected = get_method("exp", QB, 4)(window.lrms, window.pan)[0].numpy()
    np.testing.assert_allclose(fused(tmp_path, 68, "exp", paths), expected, rtol=1e-5)


def test_a_network_gets_values_as_in_training(tmp_path, network_file):
    paths = scene(tmp_path, dtype=np.uint16, hole=0)
    window = open_pair(*paths).read(slice(None), slice(None))
    with torch.no_grad():
        expected = 2047 * TrainedNetwork.load(network_file).network(window.lrms / 2047, window.pan / 2047)
    seen = fused(tmp_path, 1024, network_file, paths).astype(float)
    np.testing.assert_allclose(seen, expected[0].numpy().clip(0), atol=0.51)


def test_wv2_as_geotiffs_gives_the_pixels_of_the_array_path(tmp_path, shared):
    arrays = scipy.io.loadmat(shared / "data" / "imgWV2.mat")
    ms, pan = (arrays[key].astype(np.float32) for key in ("I_MS", "I_PAN"))
    wv2, margin = get_sensor("WV2"), 5
    larger = np.pad(ms.transpose(2, 0, 1), ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    # area-aligned deliveries put MS half a PAN pixel before the phase of the arrays
    corner = 0.5 - 4 * margin
    paths = (
        save(tmp_path / "ms.tif", larger, grid(4, corner, corner)),
        save(tmp_path / "pan.tif", pan[None], grid()),
    )
    lrms, high = torch.from_numpy(ms).permute(2, 0, 1)[None], torch.from_numpy(pan)[None, None]
    window = open_pair(*paths, sensor=wv2).read(slice(None), slice(None))
    assert torch.equal(window.lrms, lrms) and torch.equal(window.pan, high)
    for name in ("exp", "gsa", "bdsd_pc", "mtf_glp_fs"):
        sharpen(plan_job(*paths, name, sensor=wv2, tile=200, gains="table"), tmp_path / "o.tif")
        with rasterio.open(tmp_path / "o.tif") as file:
            np.testing.assert_allclose(file.read(), get_method(name, wv2, 4)(lrms, high)[0], atol=2e-2)


def test_type_nodata_crs_and_bands_are_those_of_ms(tmp_path):
    paths = scene(tmp_path, dtype=np.uint16)
    job = plan_job(*paths, "gsa", sensor=QB, bands=(3, 2, 1, 4), tile=100)
    sharpen(job, tmp_path / "o.tif")
    with (
        rasterio.open(tmp_path / "o.tif") as out,
        rasterio.open(paths[1]) as pan,
        rasterio.open(paths[0]) as ms,
    ):
        assert (out.crs, out.nodata, out.dtypes) == (ms.crs, 0, ("uint16",) * 4)
        assert out.descriptions == QB.bands and out.tags()["CLIPPAN_METHOD"] == "gsa"
        assert out.transform == pan.transform and out.shape == pan.shape
        assert out.overviews(1) == [] or out.overviews(1)[0] == 2
        # NoData where PAN has none, and where the MS pixel that covers it has none
        assert (out.read(1, masked=True).mask >= (pan.read(1) == 0)).all()
        assert 49 < out.read(1, masked=True).mask.sum() <= 49 + 4 * 16


@pytest.mark.parametrize("method", ["exp", "bt_h", "gsa"])
@pytest.mark.parametrize("hole", ["ms", "pan", "half of each"])
def test_files_that_hold_data_nowhere_in_common_are_refused_and_nothing_is_written(tmp_path, method, hole):
    paths = scene(tmp_path)
    everything, nothing = slice(None), slice(0)
    empty = {
        "ms": (everything, nothing),
        "pan": (nothing, everything),
        "half of each": (slice(28, None), slice(106)),
    }
    for path, columns in zip(paths, empty[hole], strict=True):
        with rasterio.open(path, "r+") as file:
            image = file.read()
            image[..., columns] = 0
            file.write(image)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        DataError, match=r"ms\.tif and .*pan\.tif: no pixel holds data in both; check their NoData"
    ):
        fused(tmp_path, 100, method, paths)
    assert sorted(tmp_path.iterdir()) == before


UNTIL_THREE = """
import sys, time
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.sensors import get_sensor
def progress(label, done, *_):
    if label == "fusing" and done == 3:
        print("three", flush=True)
        time.sleep(60)
ms, pan, out = sys.argv[1:]
sharpen(plan_job(ms, pan, "gsa", sensor=get_sensor("QB"), tile=68), out, None, progress)
"""


def test_a_stopped_job_goes_on_from_its_tiles(tmp_path, monkeypatch):
    paths = scene(tmp_path, dtype=np.uint16)
    job = plan_job(*paths, "gsa", sensor=QB, tile=68)
    whole = fused(tmp_path, 68, "gsa", paths)
    script = [sys.executable, "-c", UNTIL_THREE, *map(str, paths), str(tmp_path / "o.tif")]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "three\n"
        child.kill()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / ".o.tif.tiles").glob("*.safetensors")}
    assert len(kept) >= 3 and not (tmp_path / "o.tif").exists()
    visited = []
    save_part = parts.Parts.save
    monkeypatch.setattr(
        parts.Parts, "save", lambda self, tile, fused: (visited.append(tile), save_part(self, tile, fused))[1]
    )
    sharpen(job, tmp_path / "o.tif")
    assert len(visited) <= len(tiles.cut(job.pair, job.side)) - len(kept) + 1
    assert not (tmp_path / ".o.tif.tiles").exists()
    with rasterio.open(tmp_path / "o.tif") as file:
        assert np.array_equal(file.read(), whole.filled(0))


def test_tiles_of_another_job_are_not_taken_up(tmp_path):
    paths = scene(tmp_path, dtype=np.uint16)
    expected = fused(tmp_path, 68, "gs", paths).filled(0)
    other, job = (plan_job(*paths, method, tile=68) for method in ("exp", "gs"))
    left = parts.Parts(tmp_path / "o.tif", other)
    with pytest.raises(KeyboardInterrupt), left.opened():
        left.save(
            tiles.cut(other.pair, other.side)[0],
            tiles.Fused(torch.zeros(1, 4, 68, 68), torch.ones(1, 1, 68, 68).bool()),
        )
        raise KeyboardInterrupt
    sharpen(job, tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as file:
        assert np.array_equal(file.read(), expected)


def test_tiles_of_another_state_of_the_library_are_not_taken_up(tmp_path, monkeypatch):
    paths = scene(tmp_path, dtype=np.uint16)
    before, again = (plan_job(*paths, "exp", tile=68).key for _ in range(2))
    monkeypatch.setattr("clippan_lib.sharpening.job.library_digest", lambda: "another state")
    assert before == again != plan_job(*paths, "exp", tile=68).key


@pytest.mark.parametrize("method", ["exp", "gs"])
def test_an_output_that_another_process_writes_is_refused_and_its_tiles_stay(tmp_path, method):
    paths = scene(tmp_path, dtype=np.uint16)
    first, second = (plan_job(*paths, name, tile=68) for name in ("exp", method))
    writing = parts.Parts(tmp_path / "o.tif", first)
    with pytest.raises(KeyboardInterrupt), writing.opened():
        before = {path: path.read_bytes() for path in writing.folder.iterdir()}
        with pytest.raises(OutputError, match=r"o\.tif: another process is writing it; wait"):
            sharpen(second, tmp_path / "o.tif")
        assert {path: path.read_bytes() for path in writing.folder.iterdir()} == before
        raise KeyboardInterrupt
    sharpen(second, tmp_path / "o.tif")


def test_a_full_disk_is_seen_before_anything_is_fused(tmp_path, monkeypatch):
    job = plan_job(*scene(tmp_path, dtype=np.uint16), tile=68)
    monkeypatch.setattr(parts.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5, 5))
    with pytest.raises(OutputError, match=r"0\.00 GB free.*make room"):
        sharpen(job, tmp_path / "o.tif")
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.parametrize(("driver", "outputs"), [("GTiff", 2), ("COG", 10 / 3)])
def test_the_room_that_is_asked_for_is_that_of_the_tiles_and_of_all_copies(
    tmp_path, monkeypatch, driver, outputs
):
    job = plan_job(*scene(tmp_path, dtype=np.uint16), tile=68)
    needed = outputs * job.size[0] * job.size[1] * job.pair.n_bands * 2
    for free, refused in ((int(needed) - 1, True), (int(needed) + 1, False)):
        usage = shutil._ntuple_diskusage(10**9, 10**9 - free, free)
        monkeypatch.setattr(parts.shutil, "disk_usage", lambda _, usage=usage: usage)
        with pytest.raises(OutputError, match="make room") if refused else nullcontext():
            sharpen(job, tmp_path / "o.tif", driver=driver)
    assert (tmp_path / "o.tif").exists()


def test_a_tile_that_cannot_be_written_stops_the_job_and_costs_no_other(tmp_path, monkeypatch):
    job = plan_job(*scene(tmp_path, dtype=np.uint16), tile=68)

    flush = os.fsync

    def full(descriptor):
        if "safetensors" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        flush(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(
            OutputError, match=r"0_0\.safetensors cannot be written.*No space left.*goes on from"
        ):
            sharpen(job, tmp_path / "o.tif")
    assert not (tmp_path / "o.tif").exists()
    sharpen(job, tmp_path / "o.tif")


def test_an_output_in_no_folder_is_refused(tmp_path):
    job = plan_job(*scene(tmp_path), tile=68)
    with pytest.raises(OutputError, match="nowhere: no such folder; make it, or name an output in another"):
        sharpen(job, tmp_path / "nowhere" / "o.tif")


def test_the_inputs_are_not_overwritten(tmp_path):
    paths = scene(tmp_path)
    for path in paths:
        with pytest.raises(OutputError, match="is one of the files that are read; give"):
            sharpen(plan_job(*paths, tile=68), path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_file_that_turns_out_to_be_corrupt_leaves_the_old_output(tmp_path):
    paths = scene(tmp_path, height=200, width=200, dtype=np.uint16)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: int(0.7 * len(content))])
    (tmp_path / "o.tif").write_text("an older output")
    with pytest.raises(DataError, match=r"pan\.tif: rows .* cannot be read"):
        sharpen(plan_job(*paths, tile=128), tmp_path / "o.tif")
    assert (tmp_path / "o.tif").read_text() == "an older output"


def test_methods_that_look_at_their_whole_image_say_so(tmp_path, network_file):
    paths = scene(tmp_path)
    exact = {name: plan_job(*paths, name, sensor=QB, tile=128).exact for name in CLASSICAL}
    assert [name for name, value in exact.items() if not value] == ["fe_hpm", "sr_d", "tv"]
    assert plan_job(*paths, network_file, tile=128).exact


@pytest.mark.slow
def test_a_cluster_gives_the_same_file(tmp_path):
    paths = scene(tmp_path, dtype=np.uint16)
    expected = fused(tmp_path, 68, "gsa", paths)
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        sharpen(plan_job(*paths, "gsa", sensor=QB, tile=68), tmp_path / "o.tif", cluster.scheduler_address)
    with rasterio.open(tmp_path / "o.tif") as file:
        assert np.array_equal(file.read(), expected.filled(0))


def command(
    folder: Path, *options: str, ms: str = "ms.tif", pan: str = "pan.tif", method: str = "gsa"
) -> int:
    paths = ["--ms", str(folder / ms), "--pan", str(folder / pan), "--out", str(folder / "o.tif")]
    return cli.main(["sharpen", *paths, "--method", method, *options])


def test_the_command_writes_the_file_and_prints_its_name(tmp_path, capsys):
    scene(tmp_path, dtype=np.uint16)
    assert command(tmp_path, "--sensor", "qb", "--tile", "100") == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'o.tif'}\n" and "gsa: 148 x 212 px of PAN, 4 bands, ratio 4" in told.err
    assert command(tmp_path, "--tile", "200", "--sensor", "QB", method="tv") == 0
    assert "every tile of 200 px is one, and the result depends on --tile" in capsys.readouterr().err


def test_a_record_beside_the_output_says_what_it_was_made_of_and_how(tmp_path):
    ms, pan = scene(tmp_path, dtype=np.uint16)
    (tmp_path / "ms.tif.aux.xml").write_text("<PAMDataset/>")
    (tmp_path / "o.clippan.json").write_text("of an older output")
    assert (
        command(tmp_path, "--sensor", "QB", "--bands", "3,1,2,4", "--shift", "1,0", "--dtype", "int16") == 0
    )
    told = read_json(tmp_path / "o.clippan.json")
    where = f"--ms {ms} --pan {pan} --out {tmp_path / 'o.tif'}"
    assert told["command"] == (
        f"clippan sharpen {where} --method gsa --sensor QB --bands 3,1,2,4 --shift 1,0 --dtype int16"
    )
    assert (told["method"], told["version"], told["output"]) == ("gsa", __version__, "o.tif")
    assert told["library_sha256"] == library_digest() and told["sensor"]["name"] == "QB"
    assert told["shift"] == {"left": None, "applied": [1.0, 0.0]} and told["gains"] is None
    assert "MS was moved by +1 rows" in told["remarks"][0]
    assert [band["number"] for band in told["bands"]] == [3, 1, 2, 4]
    assert [band["name"] for band in told["bands"]] == [*QB.bands] and told["bands"][0]["description"] is None
    files = {part["path"]: part for image in told["inputs"] for part in image["files"]}
    assert [image["path"] for image in told["inputs"]] == [str(ms), str(pan)]
    assert files.keys() == {str(ms), f"{ms}.aux.xml", str(pan)}
    for path, part in files.items():
        content = Path(path).read_bytes()
        assert (part["bytes"], part["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    with rasterio.open(tmp_path / "o.tif") as out:
        assert (told["rows"], told["columns"]) == out.shape and told["dtype"] == out.dtypes[0] == "int16"
        assert out.tags()["CLIPPAN_VERSION"] == __version__ and out.tags()["CLIPPAN_MOVED"] == "1 0"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["made"])).total_seconds() < 100


def test_the_function_leaves_a_record_with_measured_gains_and_without_a_command(tmp_path):
    paths = land(tmp_path)
    sharpen(plan_job(*paths, "mtf_glp"), tmp_path / "o.v1.tiff")
    told = read_json(tmp_path / "o.v1.clippan.json")
    assert told["command"] is told["sensor"] is None and told["driver"] == "GTiff"
    assert told["gains"]["source"] == "measured" and told["gains"]["r2"] > 0.9
    np.testing.assert_allclose(told["gains"]["gnyq"], SOFT, atol=0.05)
    assert np.abs(told["shift"]["left"]).max() < 0.2 and told["shift"]["applied"] == [0, 0]
    assert any(remark.startswith("gains measured on the scene") for remark in told["remarks"])


def test_a_record_that_cannot_be_written_costs_no_output_and_the_same_job_writes_it(tmp_path, monkeypatch):
    job = plan_job(*scene(tmp_path, dtype=np.uint16), "exp", tile=68)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("clippan_lib.sharpening.record.write_json", full)
        with pytest.raises(
            OutputError, match=r"o\.clippan\.json: cannot be written .No space left.*o\.tif is whole"
        ):
            sharpen(job, tmp_path / "o.tif")
    assert (tmp_path / "o.tif").exists() and not (tmp_path / "o.clippan.json").exists()
    sharpen(job, tmp_path / "o.tif")
    assert read_json(tmp_path / "o.clippan.json")["method"] == "exp"


def test_a_job_that_fails_leaves_no_record(tmp_path):
    paths = scene(tmp_path, height=200, width=200, dtype=np.uint16)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: int(0.7 * len(content))])
    with pytest.raises(DataError):
        sharpen(plan_job(*paths, tile=128), tmp_path / "o.tif")
    assert not [*tmp_path.glob("*.json")]


def test_the_command_writes_a_cloud_optimised_file_of_the_same_pixels(tmp_path):
    paths = scene(tmp_path, dtype=np.uint16)
    expected = fused(tmp_path, 100, "gsa", paths)
    assert command(tmp_path, "--sensor", "QB", "--tile", "100", "--driver", "COG") == 0
    with rasterio.open(tmp_path / "o.tif") as out:
        assert out.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(out.read(), expected.filled(0))
    assert read_json(tmp_path / "o.clippan.json")["driver"] == "COG"


def one_band(folder):
    save(folder / "ms.tif", noise(1, 24, 24), grid(4))


def far(folder):
    save(folder / "ms.tif", noise(4, 24, 24), grid(4, 9000, 0))


def elsewhere(folder):
    save(folder / "ms.tif", noise(4, 24, 24), grid(4), crs="EPSG:32633")


def broken_ratio(folder):
    save(folder / "ms.tif", noise(4, 24, 24), grid(3.6))


def fine(folder):
    save(folder / "ms.tif", noise(4, 400, 400), grid(0.25))


def corrupt(folder):
    (folder / "ms.tif").write_bytes(b"II*\0" + bytes(99))


def long_integers(folder):
    save(folder / "ms.tif", noise(4, 24, 24, dtype=np.int64), grid(4))


def no_change(folder):
    pass


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (one_band, [], "MS has 1 band"),
        (far, [], "do not overlap"),
        (elsewhere, [], "EPSG:32633"),
        (broken_ratio, [], "ratios 3.6 x 3.6"),
        (fine, [], "MS is finer than PAN"),
        (corrupt, [], "truncated or corrupt"),
        (long_integers, [], "values are int64; convert them to one of uint8"),
        (no_change, ["--pan", "gone.tif"], "no such file"),
        (no_change, ["--method", "mtf_glp"], "mtf_glp needs MTF gains"),
        (
            no_change,
            ["--method", "gone"],
            "--method gone: no such file or folder, and no classical method",
        ),
        (no_change, ["--sensor", "moon"], "unknown sensor 'moon'"),
        (no_change, ["--sensor", "WV3"], "8 bands"),
        (no_change, ["--bands", "1,9"], "bands 1, 9 are wanted"),
        (no_change, ["--dtype", "int64"], "the output cannot be int64; choose one of uint8"),
        (no_change, ["--tile", "63"], "a tile of 63 PAN px is too small; give 64 or more"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path, capsys, spoil, options, said):
    scene(tmp_path, dtype=np.uint16)
    spoil(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    assert command(tmp_path, *options) == 2
    assert said in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_network_refuses_another_sensor(tmp_path, capsys, network_file):
    scene(tmp_path, dtype=np.uint16)
    assert command(tmp_path, "--sensor", "GE1", method=str(network_file)) == 2
    assert "was trained for sensor QB, not GE1" in capsys.readouterr().err
    assert command(tmp_path, "--tile", "100", method=str(network_file)) == 0
