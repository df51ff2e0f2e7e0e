"""Time from a changed control to the new picture, on a synthetic scene of eight bands.

    python benchmarks/explore.py --side 1024 --threads 2 --out benchmarks/results/explore.json

Three of six methods and the truth are seen, with errors and spectra, as `compare` opens. The metrics of the
area, which wait until the controls rest, are not part of a redraw.
"""

import argparse
import asyncio
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from clippan_lib.data import Batch, Scene
from clippan_lib.data.stacks import MemoryStack
from clippan_lib.data.synthetic import render
from clippan_lib.explore import compare, degrade
from clippan_lib.explore.base import Explorer
from clippan_lib.files import write_json
from clippan_lib.fusion import get_method
from clippan_lib.sensors import get_sensor

SENSOR = get_sensor("WV3")
METHODS = ("exp", "brovey", "gsa", "mtf_glp", "mtf_glp_hpm_r", "bdsd_pc")


def synthetic(side: int) -> Scene:
    made = render(0, SENSOR, side)
    batch = Batch(*(made[name][None] for name in ("lrms", "pan", "gt")), torch.zeros(1, dtype=torch.int64))
    low = side // SENSOR.ratio
    return Scene(
        MemoryStack(("synthetic",), SENSOR, "full", low, low, True, float(SENSOR.max_value), lambda _: batch),
        0,
    )


def compared(scene: Scene) -> Explorer:
    return compare(scene, {name: get_method(name, SENSOR, SENSOR.ratio) for name in METHODS})


# Explorer to controls and the values given in turn, from the second of which times are taken
MOVES = {
    "compare": (
        compared,
        {
            "row": range(300, 700, 8),
            "size": (256, 128, 512, 64, 1024),
            "red": ("nir1", "red"),
            "stretch": ((1, 99), (2, 98), (5, 95)),
            "spectrum_row": range(400, 600, 4),
        },
    ),
    "compare, swipe": (
        compared,
        {"view": ("swipe",), "swipe": range(0, 100, 3), "column": range(300, 700, 8)},
    ),
    "degrade": (
        degrade,
        {
            "gain": (0.1, 0.2, 0.3, 0.4, 0.5),
            "ratio": (2, 3, 5, 6, 8, 4),
            "phase": (0, 1, 2, 3),
            "row": range(300, 700, 8),
            "size": (64, 128, 256),
        },
    ),
}


def redraws(view: Explorer, moves: Mapping[str, Sequence]) -> dict[str, list[float]]:
    """Milliseconds of wall time of each redraw, by control; the first value is not timed."""
    found = {}
    for name, values in moves.items():
        times = []
        for value in values:
            start = time.perf_counter()
            view.set(**{name: value})
            times.append(1e3 * (time.perf_counter() - start))
        found[name] = times[1:] or times
    return found


async def measure(side: int) -> dict[str, dict]:
    """In an event loop that is never given time, as a kernel's while one drags: the metrics wait."""
    scene, rows = synthetic(side), {}
    for name, (make, moves) in MOVES.items():
        view = make(scene)
        times = redraws(view, moves)
        rows[name] = {
            "median_ms": statistics.median(sum(times.values(), [])),
            "png_bytes": len(view.picture.value),
            "controls": {
                control: {"median_ms": statistics.median(found), "slowest_ms": max(found)}
                for control, found in times.items()
            },
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/explore.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = asyncio.run(measure(options.side))
    for name, row in rows.items():
        print(f"{name}: median {row['median_ms']:.0f} ms, {row['png_bytes'] / 1e6:.2f} MB")
        for control, found in row["controls"].items():
            print(f"    {control:14} {found['median_ms']:6.0f} ms  (slowest {found['slowest_ms']:.0f})")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"side": options.side, "bands": SENSOR.n_bands, "threads": options.threads}
    write_json(options.out, {"machine": platform.machine(), **about, "explorers": rows})


if __name__ == "__main__":
    main()
