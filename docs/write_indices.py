"""Write docs/indices.md, and what certificates say of themselves, from docs/indices.json.

python benchmarks/indices.py --shared ../shared --out docs/indices.json
python docs/write_indices.py             write
python docs/write_indices.py --check     exit 1 if a file would change
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clippan_lib.files import write_text

DOCS = Path(__file__).resolve().parent
ASSET = DOCS.parent / "clippan_lib" / "assets" / "certificate.json"
ONE_DOWN = "truth one scale down"
FULL = "full resolution"

PAGE = """# Which index ranks as the truth does?

This page is written by `python docs/write_indices.py` from what `python benchmarks/indices.py --shared ../shared`
measured. Nothing but the noise in spoiled truths is drawn at random, and its seed is fixed.

Real scenes: {real}, one scale down with measured gains;
where a product is soft, the truth as delivered and the truth made sharp. Synthetic scenes: {synthetic} of
{size} x {size} PAN px, at full resolution, where they have a truth, too. On each {fusions} fusions: seventeen classical
methods and the band-wise network, as they are, with three steps of consistency with LRMS, and with one step with LRMS
and PAN; and the stack. Every index is computed as if there were no truth.

## Does it order methods as the truth does?

Share of pairs of images that an index orders as a score against the truth does, mean over scenes; 1 is right, .5 is
chance. Pairs that the truth hardly tells apart (.1 dB, .02°, .001) are left out. In the last two columns fifteen
spoiled truths (blur, noise, a shift, a colour cast, halos) are among the images.

{agreement}

{agreement_says}

Spearman's rank correlation with the truth, of the same images:

{correlation}

## How much is lost by choosing with it?

Of the fusions of a synthetic scene, the one that an index puts first at full resolution; and the one that the truth
puts first one scale down, which is what `clippan compare` and `--method auto` take. What it lacks against the best at
full resolution, by the truth there (MPSNR, dB), over {synthetic} scenes:

{winners}

{winners_say}

## What this does not show

- The synthetic scenes are rendered, and the band-wise network and the stack have seen scenes of this kind. On real
  scenes there is no truth at full resolution to repeat the second table with.
- One scale down the optics, the noise and the land are not those of full resolution.
- The fusions share members: the results of a method with and without consistency are not independent.
- The stack, and steps of consistency with PAN, know how sharp the truth is, as in the tables of the course.
- The indices are those of `clippan_lib.metrics`, whose docstrings say where a convention could not be established.
"""


def table(frame: pd.DataFrame, digits: int = 2) -> str:
    """Markdown, the best of each column in bold."""
    best = frame.round(digits).max()
    rows = []
    for name, row in frame.iterrows():
        cells = [
            f"**{v:.{digits}f}**" if round(v, digits) == best[c] else f"{v:.{digits}f}"
            for c, v in row.items()
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    head = f"| index | {' | '.join(map(str, frame.columns))} |"
    return "\n".join([head, "|---" * (len(frame.columns) + 1) + "|", *rows])


def means(ranks: pd.DataFrame, value: str) -> pd.DataFrame:
    """One row per index; columns are kinds of scenes and truths."""
    real = ~ranks.scene.str.startswith("synthetic")
    full = ranks.setting == FULL
    alone, all_images = ranks.images == "fusions", ranks.images == "with spoiled"
    columns = {}
    for truth in ("MPSNR", "SAM", "Q2n"):
        columns[f"real, {truth}"] = real & alone & (ranks.truth == truth)
    columns["synthetic, full, MPSNR"] = full & alone & (ranks.truth == "MPSNR")
    columns["real, with spoiled, MPSNR"] = real & all_images & (ranks.truth == "MPSNR")
    columns["synthetic, full, with spoiled, MPSNR"] = full & all_images & (ranks.truth == "MPSNR")
    found = {name: ranks[rows].groupby("index", sort=False)[value].mean() for name, rows in columns.items()}
    return pd.DataFrame(found)


def losses(winners: pd.DataFrame) -> pd.DataFrame:
    """One row per way of choosing: wins, mean and worst loss."""
    grouped = winners.groupby("by", sort=False).loss
    return pd.DataFrame(
        {"best on": grouped.agg(lambda x: (x <= 0).sum()), "mean": grouped.mean(), "worst": grouped.max()}
    )


def certificate(winners: pd.DataFrame) -> dict[str, Any]:
    """What `sharpening.verdict.trust` says."""
    found = losses(winners)
    indices = found[[not name.startswith(("truth", "always")) for name in found.index]]
    first = indices["mean"].idxmin()
    chosen = found.loc[ONE_DOWN]
    return {
        "scenes": int(winners.scene.nunique()),
        "wins": int(chosen["best on"]),
        "mean": round(float(chosen["mean"]), 2),
        "worst": round(float(chosen["worst"]), 2),
        "index": first,
        "index_mean": round(float(indices.loc[first, "mean"]), 2),
        "hqnr_mean": round(float(found.loc["HQNR", "mean"]), 2),
    }


def page(measured: Mapping[str, Any]) -> str:
    """The page."""
    ranks, winners = pd.DataFrame(measured["ranks"]), pd.DataFrame(measured["winners"])
    agreement, said = means(ranks, "agreement"), certificate(winners)
    real = [name for name in ranks.scene.unique() if not name.startswith("synthetic")]
    order = agreement["real, MPSNR"].sort_values(ascending=False)
    chance = [name for name, value in agreement["real, MPSNR"].items() if value < 0.55]
    best = losses(winners)
    lines = [
        f"| {name} | {int(row['best on'])} of {said['scenes']} | {row['mean']:.2f} | {row['worst']:.2f} |"
        for name, row in best.iterrows()
    ]
    return PAGE.format(
        real=", ".join(real),
        synthetic=said["scenes"],
        size=measured["size"],
        fusions=measured["fusions"],
        agreement=table(agreement),
        agreement_says=(
            f"On real scenes {order.index[0]} ({order.iloc[0]:.2f}), {order.index[1]} ({order.iloc[1]:.2f}) and "
            f"{order.index[2]} ({order.iloc[2]:.2f}) order the fusions best by MPSNR. Hardly better than chance, or "
            f"worse, are {', '.join(chance)}. The tables of the course show R_Q2n, RQNR and D_rho "
            "beside the paper's indices."
        ),
        correlation=table(means(ranks, "spearman")),
        winners="\n".join(["| chosen by | best on | mean loss | worst |", "|---|---|---|---|", *lines]),
        winners_say=(
            f"The winner one scale down is the best on {said['wins']} of {said['scenes']} scenes and lacks "
            f"{said['mean']:.2f} dB on average. The best index, {said['index']}, lacks {said['index_mean']:.2f} dB, "
            f"HQNR {said['hqnr_mean']:.2f} dB."
        ),
    )


def main(arguments: Sequence[str] | None = None, docs: Path = DOCS, asset: Path = ASSET) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    check = parser.parse_args(arguments).check
    measured = json.loads((docs / "indices.json").read_text(encoding="utf-8"))
    said = json.dumps(certificate(pd.DataFrame(measured["winners"])), indent=1) + "\n"
    changed = False
    for path, text in {docs / "indices.md": page(measured), asset: said}.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        changed = True
        if check:
            print(f"{path.name} is not what was measured: run python docs/write_indices.py", file=sys.stderr)
        else:
            write_text(path, text)
    return int(check and changed)


if __name__ == "__main__":
    sys.exit(main())
