"""Real scenes as found: how PAN lies on MS, what the commands say, and what registration brings one scale down.

    python benchmarks/delivered.py ../shared/scenes --out benchmarks/results/delivered.json

Each folder holds `ms.tif` and `pan.tif`, or other images named ms*.tif. Every pair is opened as `clippan sharpen` opens
it, as it lies and registered, and methods are compared one scale down on both (`clippan compare`, the truth made as
sharp as PAN): the Q2n of GSA, and of the best method.
"""

import argparse
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from rasterio.errors import NotGeoreferencedWarning

from clippan_lib.files import write_json
from clippan_lib.sharpening.contest import plan_contest, run_contest
from clippan_lib.sharpening.job import plan_job
from clippan_lib.sharpening.verdict import scores_of

METHODS = ("exp", "gsa", "bt_h", "mtf_glp", "mtf_glp_hpm_r")


def compared(ms: Path, pan: Path, **how: Any) -> dict[str, Any]:
    """Q2n one scale down of GSA and of the best method; or why there is none."""
    try:
        contest = plan_contest(ms, pan, methods=METHODS, **how)
        with tempfile.TemporaryDirectory() as folder:
            rows = run_contest(replace(contest, settings=contest.settings[:1]), Path(folder) / "kept.json")
    except ValueError as error:
        return {"refused": str(error)}
    q2n = scores_of(rows, "reduced")["Q2n"]
    best = q2n.idxmax()
    return {"gsa": q2n.loc[("gsa", "none")], "best": q2n.max(), "method": "".join(best).replace("none", "")}


def looked_at(ms: Path, pan: Path) -> dict[str, Any]:
    """One pair, as it lies and registered."""
    row: dict[str, Any] = {"scene": ms.parent.name, "ms": ms.name}
    for name, how in (
        ("as_found", {}),
        ("registered", {"register": True}),
        ("as_it_lies", {"shift": (0.0, 0.0)}),
    ):
        try:
            job = plan_job(ms, pan, "gsa", **how)
            left = job.placed.look.optics
            row[name] = {"said": job.remarks, "shift": job.placed.shift, "left": left and left.shift}
        except ValueError as error:
            row[name] = {"refused": str(error)}
    row["q2n_as_it_lies"] = compared(ms, pan, shift=(0.0, 0.0))
    row["q2n_registered"] = compared(ms, pan, register=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scenes", type=Path, help="the folder of folders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/delivered.json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    rows = []
    for pan in sorted(options.scenes.glob("*/pan.tif")):
        for ms in sorted(pan.parent.glob("ms*.tif")):
            rows.append(looked_at(ms, pan))
            print(rows[-1], file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"methods": METHODS, "rows": rows})


if __name__ == "__main__":
    main()
