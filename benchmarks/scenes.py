"""Whole scenes: throughput and peak memory of `clippan sharpen`, beside `gdal_pansharpen` on the same files in one run.

    python benchmarks/scenes.py --sides 4096 8192 16384 --methods brovey gsa pnn --out benchmarks/results/scenes.json

Every row is a command in a process of its own, from its start to its finished file (tiled, DEFLATE, overviews): wall
and processor time, and the largest resident set. `gdal_pansharpen.py` (Debian: gdal-bin, python3-gdal), the weighted
Brovey of GDAL with cubic resampling, writes with the same options, and `gdaladdo` makes its overviews; both are left
out, with a note, where they are not installed. A network is also run bare: forward passes over tiles of
the same size, without apron, files or overlap, which `over_bare` divides by.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rasterio import Affine

from clippan_lib.data.synthetic import render
from clippan_lib.files import write_json
from clippan_lib.fusion import NETWORKS, build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import Sensor, get_sensor
from clippan_lib.sharpening.output import BLOCK, LEVEL, SceneTile, write_scene

STRIP = 1024  # PAN px, rows written at once
WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
GDAL = ("gdal_pansharpen.py", "gdaladdo")


def mirrored(image: np.ndarray, rows: range, columns: range) -> np.ndarray:
    """A window of the plane that an image and its mirror images fill, so that no edge is seen."""
    height, width = image.shape[1:]
    down, right = (np.array(part) % (2 * side) for part, side in ((rows, height), (columns, width)))
    down, right = np.minimum(down, 2 * height - 1 - down), np.minimum(right, 2 * width - 1 - right)
    return image[:, down[:, None], right]


def write_pair(folder: Path, side: int, sensor: Sensor) -> None:
    """A synthetic scene as ms.tif and pan.tif, uint16; `side` in PAN px, a multiple of the sensor's ratio."""
    scene = render(0, sensor, 1024)
    for name, key, scale in (("ms", "lrms", sensor.ratio), ("pan", "pan", 1)):
        image = (scene[key] * sensor.max_value).round().clamp(0, sensor.max_value).numpy().astype(np.uint16)
        length, height = side // scale, STRIP // scale
        strips = (range(top, min(top + height, length)) for top in range(0, length, height))
        write_scene(
            folder / f"{name}.tif",
            (SceneTile(rows.start, 0, mirrored(image, rows, range(length)), None) for rows in strips),
            height=length,
            width=length,
            bands=sensor.bands if name == "ms" else ("pan",),
            dtype="uint16",
            nodata=None,
            crs=None,
            transform=Affine(0.5 * scale, 0, 400_000, 0, -0.5 * scale, 5_000_000),
            tags={},
        )


def measured(*commands: Sequence[str | Path]) -> dict[str, float]:
    """Wall and processor seconds of commands one after the other, and the largest of their peaks."""
    row = {"seconds": 0.0, "cpu_seconds": 0.0, "peak_mib": 0.0}
    for command in commands:
        start = time.perf_counter()
        # through a small process: a child's peak begins with the size of the one that it was forked from
        done = subprocess.run(
            [sys.executable, "-c", WATCH, *map(str, command)], stdout=subprocess.PIPE, text=True, check=True
        )
        row["seconds"] += time.perf_counter() - start
        cpu, peak = map(float, done.stdout.splitlines()[-1].split())
        row["cpu_seconds"] += cpu
        row["peak_mib"] = max(row["peak_mib"], peak / (2**20 if sys.platform == "darwin" else 2**10))
    return row


def gdal(folder: Path) -> dict[str, float]:
    """GDAL's own pansharpening of the pair, with our output options."""
    options = {
        "TILED": "YES",
        "BLOCKXSIZE": BLOCK,
        "BLOCKYSIZE": BLOCK,
        "COMPRESS": "DEFLATE",
        "ZLEVEL": LEVEL,
    }
    options |= {"PREDICTOR": 2, "NUM_THREADS": "ALL_CPUS", "BIGTIFF": "IF_SAFER"}
    created = [word for name, value in options.items() for word in ("-co", f"{name}={value}")]
    out = folder / "gdal.tif"
    return measured(
        [GDAL[0], "-q", "-threads", "ALL_CPUS", *created, folder / "pan.tif", folder / "ms.tif", out],
        [GDAL[1], "-q", "-r", "average", "--config", "GDAL_NUM_THREADS", "ALL_CPUS", out],
    )


def ours(folder: Path, method: str | Path, tile: int, sensor: Sensor) -> dict[str, float]:
    files = [word for name in ("ms", "pan") for word in (f"--{name}", folder / f"{name}.tif")]
    known = [] if Path(method).is_file() else ["--sensor", sensor.name]
    options = [
        "--out",
        folder / "ours.tif",
        "--method",
        method,
        "--tile",
        str(tile),
        "--device",
        "cpu",
        *known,
    ]
    return measured([Path(sys.executable).with_name("clippan"), "sharpen", *files, *options])


@torch.inference_mode()
def bare(name: str, side: int, tile: int, sensor: Sensor) -> float:
    """Seconds of a network's forward passes over a scene, on tiles without apron."""
    network = build_network(name, sensor.n_bands, sensor.ratio).eval().to(memory_format=torch.channels_last)
    lengths = [min(tile, side - start) for start in range(0, side, tile)]
    sizes = [(height, width) for height in lengths for width in lengths]
    images = {
        (height, width): (
            torch.rand(1, sensor.n_bands, height // sensor.ratio, width // sensor.ratio),
            torch.rand(1, 1, height, width),
        )
        for height, width in set(sizes)
    }
    for pair in images.values():
        network(*pair)
    start = time.perf_counter()
    for size in sizes:
        network(*images[size])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sensor", default="QB")
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 8192], help="of PAN, in pixels")
    parser.add_argument(
        "--methods", nargs="+", default=["brovey", "gsa"], help="classical methods and networks"
    )
    parser.add_argument("--tile", type=int, default=1024, help="side of a tile, in pixels of PAN")
    parser.add_argument(
        "--folder", type=Path, help="for the scenes; needs some GB (default: a temporary one)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scenes.json"))
    options = parser.parse_args()
    sensor, rows = get_sensor(options.sensor), []
    has_gdal = all(map(shutil.which, GDAL))
    if not has_gdal:
        print(f"{' or '.join(GDAL)} is not installed: no comparison", file=sys.stderr)
    print(
        f"{'method':10}{'Mpx':>6}{'s':>8}{'CPU s':>8}{'Mpx/s':>8}{'peak MiB':>10}{'of GDAL':>9}{'over bare':>11}"
    )
    for side in options.sides:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_pair(folder, side, sensor)
            reference = gdal(folder) if has_gdal else None
            found = [{"method": "gdal", **reference}] if has_gdal else []
            for method in options.methods:
                row, given = {"method": method}, method
                if method in NETWORKS:
                    given = folder / f"{method}.safetensors"
                    network = build_network(method, sensor.n_bands, sensor.ratio)
                    TrainedNetwork(network, method, sensor, float(sensor.max_value), {}).save(given)
                    row["bare_seconds"] = bare(method, side, options.tile, sensor)
                found.append(row | ours(folder, given, options.tile, sensor))
        for row in found:
            row |= {"side": side, "megapixels_per_second": side**2 / 1e6 / row["seconds"]}
            if reference:
                row["of_gdal"] = reference["seconds"] / row["seconds"]
            if "bare_seconds" in row:
                row["over_bare"] = row["seconds"] / row["bare_seconds"]
            print(
                f"{row['method']:10}{side**2 / 1e6:6.0f}{row['seconds']:8.1f}{row['cpu_seconds']:8.1f}"
                f"{row['megapixels_per_second']:8.2f}{row['peak_mib']:10.0f}{row.get('of_gdal', np.nan):9.2f}"
                f"{row.get('over_bare', np.nan):11.2f}",
                flush=True,
            )
        rows += found
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "sensor": sensor.name,
        "tile": options.tile,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    write_json(options.out, {**settings, "rows": rows})


if __name__ == "__main__":
    main()
