"""The bad outputs of `make soak`: those that would destroy something, and those that cannot be written."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from rasters import save
from soak_inputs import Case, audit, network, sharpen


def of_outputs() -> Iterator[Case]:
    """Outputs in the place of an input, or where nothing can be written."""

    def to(out: Callable[[Path], Path]) -> Callable[[Path], list[str]]:
        return lambda folder: sharpen(folder, out=str(out(folder)))

    def linked(make: Callable[[Path, Path], object], name: str) -> Callable[[Path], Path]:
        def out(folder: Path) -> Path:
            make(folder / name, folder / "alias.tif")
            return folder / "alias.tif"

        return out

    for name in ("ms.tif", "pan.tif"):
        yield Case(f"outputs: {name}", to(lambda folder, name=name: folder / name))
        yield Case(f"outputs: a link to {name}", to(linked(lambda old, new: new.symlink_to(old), name)))
        yield Case(f"outputs: a hard link of {name}", to(linked(os.link, name)))
        yield Case(f"outputs: {name} through ..", to(lambda folder, name=name: folder / "data" / ".." / name))

    def replaces_network(folder: Path) -> list[str]:
        return sharpen(folder, "--method", str(folder / "pnn.safetensors"), out="pnn.safetensors")

    def replaces_sensor(folder: Path) -> list[str]:
        (folder / "own.yaml").write_text(
            "name: own\nbands: [blue, green, red, nir]\nbits: 11\nratio: 4\ngnyq: [0.3, 0.3, 0.3, 0.3]\n"
            "gnyq_pan: 0.15\nrgb: [2, 1, 0]\ngbnir: [1, 0, 3]\n"
        )
        return sharpen(folder, "--method", "brovey", "--sensor", str(folder / "own.yaml"), out="own.yaml")

    def replaces_source(folder: Path) -> list[str]:
        bands = "".join(
            f'<VRTRasterBand dataType="UInt16" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">ms.tif'
            f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in range(1, 5)
        )
        with rasterio.open(folder / "ms.tif") as file:
            size = f'rasterXSize="{file.width}" rasterYSize="{file.height}"'
            place = ", ".join(map(str, file.transform.to_gdal()))
        (folder / "ms.vrt").write_text(
            f"<VRTDataset {size}><SRS>EPSG:32632</SRS><GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
        )
        return sharpen(folder, "--method", "brovey", "--shift=0,0", ms="ms.vrt", out="ms.tif")

    def replaces_run(folder: Path) -> list[str]:
        (folder / "run" / "networks" / "full").mkdir(parents=True)
        facts = {"resolution": "full", "variant": "pnn-C", "seed": "0"}
        file = network(folder, "run/networks/full/pnn-C-0.safetensors", origin=facts)
        return sharpen(folder, "--method", str(folder / "run"), out=str(file.relative_to(folder)))

    def replaces_sidecar(folder: Path) -> list[str]:
        (folder / "ms.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
        return sharpen(folder, out="ms.tif.aux.xml")

    def score(folder: Path) -> list[str]:
        save(folder / "out.tif", np.zeros((1, 8, 8), np.uint16), None)
        return [
            "score",
            "--fused",
            str(folder / "out.tif"),
            "--ms",
            str(folder / "ms.tif"),
            "--pan",
            str(folder / "pan.tif"),
        ]

    yield Case("outputs: the network", replaces_network)
    yield Case("outputs: the sensor's file", replaces_sensor)
    yield Case("outputs: the source of a VRT", replaces_source)
    yield Case("outputs: the network of a run", replaces_run)
    yield Case("outputs: a file beside MS", replaces_sidecar)
    yield Case("outputs: of score, an image of another size", score)
    yield Case("outputs: a folder", to(lambda folder: folder / "data"))

    def into_pipe(folder: Path) -> list[str]:
        # not a device of the machine: who may do everything would replace it where it is not refused
        os.mkfifo(folder / "pipe.tif")
        return sharpen(folder, out="pipe.tif")

    yield Case("outputs: a pipe", into_pipe)
    yield Case("outputs: in no folder", to(lambda folder: folder / "none" / "out.tif"))
    yield Case("outputs: in a file", to(lambda folder: folder / "ms.tif" / "out.tif"))
    yield Case("outputs: a name of 300 letters", to(lambda folder: folder / ("x" * 300 + ".tif")))
    yield Case("outputs: in /proc", to(lambda folder: Path("/proc/out.tif")))

    def tiles(kind: str) -> Callable[[Path], list[str]]:
        def make(folder: Path) -> list[str]:
            aside = folder / ".out.tif.tiles"
            if kind == "a link":
                aside.symlink_to(folder / "data")
            elif kind == "a file":
                aside.write_text("mine")
            else:
                aside.mkdir()
                (aside / "mine.txt").write_text("mine")
            return sharpen(folder)

        return make

    for kind in ("a link", "a file", "somebody's folder"):
        yield Case(f"outputs: {kind} where tiles go", tiles(kind))
    reports = {"the manifest": "mat.yaml", "the data": "data/scene.mat", "a folder": "data"}
    for what, name in reports.items():

        def page(folder: Path, name=name) -> list[str]:
            return [*audit(folder, "mat.yaml"), "--report", str(folder / name)]

        yield Case(f"outputs: of an audit, {what}", page)

    def into_file(folder: Path) -> list[str]:
        return [
            "compare",
            "--ms",
            str(folder / "ms.tif"),
            "--pan",
            str(folder / "pan.tif"),
            "--out",
            str(folder / "ms.tif"),
        ]

    yield Case("outputs: of compare, a file", into_file)
