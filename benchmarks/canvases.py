"""Which library draws the explorers' pictures: one colour picture of a scene, dragged by the mouse in JupyterLab.

    pip install ipympl jupyter_bokeh plotly
    python benchmarks/canvases.py --side 1024 --out benchmarks/results/canvases.json

From the pointer's move to the next time that something is painted, in ms, in a browser without a window. It also says
what a notebook keeps for viewers without widgets, and how large the library is.
"""

import argparse
import statistics
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import nbformat
from playwright.sync_api import TimeoutError

from clippan_lib.files import write_json

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))

import browser  # noqa: E402

FIRST = f"""
import sys
sys.path.append({str(HERE)!r})
from explore import synthetic
from clippan_lib.figures import fit_stretch
scene = synthetic(SIDE)
batch = scene.read()
picture = (fit_stretch(batch.lrms, scene.sensor.rgb).apply(batch.gt) * 255).round().astype("uint8")
"""
# Name, the packages it adds to ipywidgets, the cell that shows it, and what is dragged
CANVASES = {
    "anywidget": (
        ["anywidget", "psygnal"],
        "from clippan_lib.explore import compare\ncompare(scene, {'truth': batch.gt, 'half': batch.gt / 2})",
        ".clippan-canvas canvas",
    ),
    "ipympl": (
        ["ipympl"],
        "%matplotlib widget\nimport matplotlib.pyplot as plt\nfigure, ax = plt.subplots(figsize=(6, 6))\n"
        "ax.imshow(picture)\nax.set(xlim=(300, 600), ylim=(600, 300))\nfigure.canvas.toolbar.pan()\nplt.show()",
        ".jupyter-matplotlib-canvas-container canvas",
    ),
    "jupyter_bokeh": (
        ["bokeh", "jupyter_bokeh", "xyzservices"],
        "import numpy as np\nfrom bokeh.plotting import figure\nfrom jupyter_bokeh import BokehModel\n"
        "rgba = np.full((SIDE, SIDE, 4), 255, 'uint8')\nrgba[..., :3] = picture\nrgba = rgba.view('uint32')[..., 0]\n"
        "p = figure(width=600, height=600, x_range=(300, 600), y_range=(300, 600), tools='pan,wheel_zoom')\n"
        "p.image_rgba([np.ascontiguousarray(rgba[::-1])], x=0, y=0, dw=SIDE, dh=SIDE)\nBokehModel(p)",
        ".jp-OutputArea-output canvas",
    ),
    "plotly": (
        ["plotly"],
        "import plotly.express as px, plotly.graph_objects as go\nf = go.FigureWidget(px.imshow(picture))\n"
        "f.update_layout(width=600, height=600, dragmode='pan')\nf",
        ".jp-OutputArea-output .nsewdrag",
    ),
}
# Times of the pointer's moves, and of all that may change what is seen
_HOOK = """() => {
    window.moves = []
    window.paints = []
    const painted = () => paints.push(performance.now())
    for (const name of ['drawImage', 'putImageData']) {
        const own = CanvasRenderingContext2D.prototype[name]
        CanvasRenderingContext2D.prototype[name] = function (...given) { painted(); return own.apply(this, given) }
    }
    new MutationObserver(painted).observe(document.querySelector('.jp-Notebook'), {
        subtree: true, attributes: true, attributeFilter: ['transform', 'viewBox', 'src', 'd', 'x', 'y', 'xlink:href']
    })
    addEventListener('pointermove', () => moves.push(performance.now()), true)
}"""
_TIMES = """() => moves.map(move => (paints.find(paint => paint > move) ?? NaN) - move).filter(time => time < 2000)"""


def measure(name: str, side: int, moves: int) -> dict[str, object]:
    """One library: latencies of a drag in ms, kinds of its output, and bytes installed."""
    packages, cell, dragged = CANVASES[name]
    cells = [FIRST.replace("SIDE", str(side)), cell.replace("SIDE", str(side))]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(notebook, Path(folder) / "one.ipynb")
        with browser.lab(Path(folder)) as lab:
            shown = lab.open("one.ipynb", 1280, 800)
            page = shown.page
            page.evaluate(browser._RUN)
            page.wait_for_function("() => window.ended", timeout=browser.RUN * 1000)
            if errors := page.evaluate(browser._ERRORS):
                raise RuntimeError(f"{name}: {errors}")
            place = page.locator(dragged).first
            try:
                place.wait_for(timeout=30_000)
            except TimeoutError:
                return {
                    "moves": moves,
                    "answered": 0,
                    "median_ms": None,
                    "slowest_ms": None,
                    **_installed(packages),
                }
            page.wait_for_timeout(3000)
            place.scroll_into_view_if_needed()
            page.wait_for_timeout(1000)
            page.evaluate(_HOOK)
            box = place.bounding_box()
            assert box is not None
            middle = box["x"] + min(box["width"], 500) / 2, box["y"] + min(box["height"], 500) / 2
            page.mouse.move(*middle)
            page.mouse.down()
            for step in range(moves):
                page.mouse.move(middle[0] - 2 * (step % 40), middle[1] - step % 40)
                page.wait_for_timeout(50)
            page.mouse.up()
            page.wait_for_timeout(2000)
            times = page.evaluate(_TIMES)
            kinds = page.evaluate(f"() => {browser._OUTPUTS}.flatMap(each => Object.keys(each.data ?? {{}}))")
    return {
        "moves": moves,
        "answered": len(times),
        "median_ms": statistics.median(times) if times else None,
        "slowest_ms": max(times, default=None),
        "outputs": sorted(set(kinds)),
        **_installed(packages),
    }


def _installed(packages: list[str]) -> dict[str, object]:
    files = [path.locate() for package in packages for path in distribution(package).files or ()]
    size = sum(Path(path).stat().st_size for path in files if Path(path).is_file())
    return {"packages": packages, "megabytes": size / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CANVASES))
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/canvases.json"))
    options = parser.parse_args()
    rows = {name: measure(name, options.side, options.moves) for name in options.names}
    for name, row in rows.items():
        print(
            f"{name:14} median {row['median_ms']} ms, slowest {row['slowest_ms']}, {row['answered']} answered,"
        )
        print(
            f"{'':14} {row['megabytes']:.1f} MB in {row['packages']}; outputs {row.get('outputs', 'not drawn')}"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"side": options.side, "canvases": rows})


if __name__ == "__main__":
    main()
