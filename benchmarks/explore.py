"""Time from a changed control to the new picture, on a synthetic scene of eight bands.

    python benchmarks/explore.py --side 1024 --threads 2 --out benchmarks/results/explore.json
    python benchmarks/explore.py --browser

Three of six methods and the truth are seen, with their errors, as `compare` opens. The metrics of the area, which wait
until the controls rest, are not part of a redraw. With --browser a JupyterLab is opened, too, at 1280 by 800: from the
mouse's move, or a key on a slider, to the next time that the pictures are painted.
"""

import argparse
import asyncio
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import torch

from clippan_lib.data import Batch, Scene
from clippan_lib.data.stacks import MemoryStack
from clippan_lib.data.synthetic import render
from clippan_lib.explore import compare, degrade
from clippan_lib.explore.base import Explorer
from clippan_lib.files import write_json
from clippan_lib.fusion import get_method
from clippan_lib.sensors import get_sensor

HERE = Path(__file__).resolve().parent
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
            "controls": {
                control: {"median_ms": statistics.median(found), "slowest_ms": max(found)}
                for control, found in times.items()
            },
        }
    return rows


# When something was done, and when pictures were painted
_HOOK = """() => {
    window.acts = []
    window.paints = []
    new MutationObserver(() => paints.push(performance.now())).observe(document.querySelector('.jp-Notebook'), {
        subtree: true, attributes: true, attributeFilter: ['data-drawn', 'src']
    })
    for (const kind of ['pointermove', 'wheel', 'keydown'])
        addEventListener(kind, () => acts.push([kind, performance.now()]), true)
}"""
_TIMES = """kind => acts.filter(([each]) => each === kind)
    .map(([, act]) => (paints.find(paint => paint > act) ?? NaN) - act).filter(time => time < 5000)"""


def in_browser(side: int) -> dict[str, dict]:
    """Milliseconds from what the user does to what is painted, by explorer and act."""
    sys.path.append(str(HERE.parent / "tests"))
    import browser

    first = f"import sys\nsys.path.append({str(HERE)!r})\nfrom explore import MOVES, synthetic"
    cells = [first, f"scene = synthetic({side})", "MOVES['compare'][0](scene)", "MOVES['degrade'][0](scene)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(notebook, Path(folder) / "one.ipynb")
        with browser.lab(Path(folder)) as lab:
            shown = lab.open("one.ipynb", 1280, 800)
            shown.run()
            sliders = {"compare": "size (px)", "degrade": "gain"}
            views = zip(sliders.items(), shown.explorers(), strict=True)
            return {name: _acts(view, slider) for (name, slider), view in views}


def _acts(view, slider: str) -> dict[str, dict]:
    way = [(0.4 + 0.02 * step, 0.5) for step in range(6)]
    acts = {
        "drag": ("pointermove", lambda: view.drag(*way, frame=view.frame())),
        "wheel": ("wheel", lambda: [view.wheel(0.5, 0.5, view.frame(), turn) for turn in (-1, -1, 1, 1)]),
        "slider": ("keydown", lambda: [view.right(slider) for _ in range(6)]),
    }
    return {act: _timed(view.page, kind, do) for act, (kind, do) in acts.items()}


def _timed(page, kind: str, do) -> dict[str, float]:
    page.wait_for_timeout(2000)
    page.evaluate(_HOOK)
    do()
    page.wait_for_timeout(2000)
    times = page.evaluate(_TIMES, kind)
    return {"acts": len(times), "median_ms": statistics.median(times), "slowest_ms": max(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/explore.json"))
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = asyncio.run(measure(options.side))
    for name, row in rows.items():
        print(f"{name}: median {row['median_ms']:.0f} ms")
        for control, found in row["controls"].items():
            print(f"    {control:14} {found['median_ms']:6.0f} ms  (slowest {found['slowest_ms']:.0f})")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"side": options.side, "bands": SENSOR.n_bands, "threads": options.threads}
    seen = in_browser(options.side) if options.browser else {}
    for name, acts in seen.items():
        for act, times in acts.items():
            print(
                f"{name}, {act} in the browser: {times['median_ms']:.0f} ms (slowest {times['slowest_ms']:.0f})"
            )
    write_json(options.out, {"machine": platform.machine(), **about, "explorers": rows, "browser": seen})


if __name__ == "__main__":
    main()
