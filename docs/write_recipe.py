"""Write docs/recipe.md from docs/recipe/{stage2,one_scale_down,one_scale_down_trained}.json, which benchmarks make.

python benchmarks/recipe.py --seeds 0 1 2 --out docs/recipe/stage2.json
python benchmarks/one_scale_down.py --shared ../shared --out docs/recipe/one_scale_down.json
python benchmarks/one_scale_down_trained.py --shared ../shared --out docs/recipe/one_scale_down_trained.json
python docs/write_recipe.py             write
python docs/write_recipe.py --check     exit 1 if the file would change
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clippan_lib.files import write_text

DOCS = Path(__file__).resolve().parent
JUDGES = {
    "measured": "as delivered",
    "measured, sharp truth": "sharp",
    "table": "as delivered, the table's gains",
}
VARIANTS = (
    "stack, weights without ridge",
    "stack, ridge of 3",
    "stack without bandwise",
    "stack, three steps",
    "bandwise++3",
)
SPOILED = ("noise", "bands apart")

PAGE = """# The recipe: what was tried

This page is written by `python docs/write_recipe.py` from what three benchmarks measured; the same commands
repeat it.

## What the image of `demo` is made of

A network is trained one scale lower for 60 iterations. With more iterations it learns only that scale. Stage II
starts with this network and trains it at full resolution without truth. In Stage II the network's last layer is
two steps of consistency with LRMS and with PAN. L_spec degrades with the MTF gains that were measured on the
pair. L_spat and the last layer compare the bands' share in PAN with PAN as sharp as the truth. For the
synthetic scenes the MS optics one scale finer have a gain of .37 at Nyquist, and PAN has .14. Where no truth
exists, as on a scene of your own, L_spat and the last layer take PAN as it is.

`clippan sharpen --adapt` starts from the band-wise network of the package instead, and trains it little.

## Stage II at full resolution, synthetic WorldView-3 scenes

`python benchmarks/recipe.py`: PNN, MPSNR (dB); only rows that name a weight of language train with it. Mean ±
standard deviation over {seeds} seeds. Each seed has its own Stage I and pseudo-supervisor, which is its start.
The values of the preset were chosen by `val`; `test` judges. Rows with language, here and below, are of the earlier
embedded CLIP; [supervisor.md](supervisor.md) has those of today's.

{stage2}

{stage2_says} L_pseudo and language are kept because the course shows every term of the paper.

"Start" is the network trained one scale lower, with steps of consistency with LRMS alone. "Start with the last
layer" is the same network with Stage II's last layer, before any training without truth. The stack, and the methods
"with the last layer", have PAN as sharp as the truth, as Stage II has it.

## Real scenes one scale down

`python benchmarks/one_scale_down.py`: a scene's MS is the truth, the pair is degraded once with the gains that
were measured on it. MPSNR (dB). "Steps": three steps of consistency with LRMS (`bt_h+3`), or with LRMS and PAN
(`bt_h++3`). The best classical method of all seventeen is chosen *by the truth*; the stack chooses nothing by
it. A sharp truth is a soft product halved first (`data.wald`); of a product that is not soft it is the truth as
delivered.

{scenes}

{scenes_says}

SAM and Q2n of the same images, stack minus the best classical method with or without steps of consistency with
LRMS:

{others}

### Stage II on the judged scene

`python benchmarks/one_scale_down_trained.py`: Stage II as `--adapt` has it, one scale down, on the scene itself,
without its truth. It starts from the band-wise network. MPSNR (dB), mean ± standard deviation
over {trained_seeds} seeds; the start has none. "Best classical" is that of the tables above: of all seventeen, as they
are and with three steps of consistency with LRMS, chosen by the truth.

{trained}

Stage II with language, minus the best classical method:

{trained_others}

{trained_says}

### Parts of the stack

Mean difference of MPSNR (dB) to the stack as it is, ± standard deviation over the rows
above:

{variants}

The degraded LRMS of this page has no noise of its own, and its bands lie on one another. Neither holds for a real
LRMS. There many steps of consistency fit what is no part of the image, and at full resolution they show as ripples
beside bright edges. So the stack has one step, though three steps would gain a little more here. Three steps minus
one, where LRMS is spoiled, MPSNR (dB), mean ± standard deviation over the rows above with measured gains:

{spoiled}

## What this does not show

- One scale down the optics, the noise and the land are not those of full resolution. There no truth exists.
- The gains are measured on the whole scene, of which the truth is a part: a few numbers leak. Halves of a scene
  give nearly the same gains: {halves}.
- The ridge of the stack (.3), its members and its step were chosen while looking at these five scenes,
  so the differences are a little too good.
- `fe_hpm`, `sr_d` and `tv` are no members: they look at their whole image, so tiles would leave traces.
- Networks trained on the scene one scale lower were members once. With the steps that include PAN they did not
  help, and were taken out. No benchmark here shows this.
"""


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _table(frame: pd.DataFrame) -> str:
    head = [frame.index.name or "", *frame.columns]
    lines = ["| " + " | ".join(map(str, head)) + " |", "|" + "---|" * len(head)]
    rows = ("| " + " | ".join(map(str, (name, *row))) + " |" for name, *row in frame.itertuples())
    return "\n".join([*lines, *rows])


def _stage2(found: pd.DataFrame) -> tuple[str, str]:
    groups = found.groupby("row", sort=False)
    mean, spread = groups[["val", "test"]].mean(), groups[["val", "test"]].std()
    shown = pd.DataFrame(
        {
            split: [
                f"{mean[split][row]:.2f}"
                + ("" if pd.isna(spread[split][row]) else f" ± {spread[split][row]:.2f}")
                for row in mean.index
            ]
            for split in ("val", "test")
        },
        index=pd.Index(mean.index, name="row"),
    )
    paired = found.dropna(subset="seed").pivot(index="seed", columns="row", values="test")
    starts = [row for row in mean.index if row.startswith("start")]
    gains = [paired["the preset"] - paired[start] for start in starts]
    trained = [row for row in mean.index if row in paired and row not in starts]
    best = mean["val"][trained].idxmax()
    preset, classical = mean.loc["the preset"], mean.drop([*trained, *starts])
    says = (
        "On `test` the preset ends "
        + ", and ".join(
            f"{_signed(gain.mean())} ± {gain.std():.2f} dB from its {start}"
            for gain, start in zip(gains, starts, strict=True)
        )
        + f'. By `val` the best row of Stage II is "{best}" ({mean["val"][best]:.2f}; the preset {preset.val:.2f}).'
    )
    more = mean["val"]["60 iterations"] - preset.val
    says += f" 60 iterations take twice the time of the preset's, for {_signed(more)} dB on `val`."
    for split in ("val", "test"):
        above = [row for row in classical.index if classical[split][row] < preset[split]]
        below = [row for row in classical.index if row not in above]
        says += f" On `{split}` the preset is above {', '.join(above) or 'none of the others'}"
        says += f", and below {', '.join(below)}." if below else "."
    return _table(shown), says


def _best(rows: pd.DataFrame, kind: str) -> pd.Series:
    chosen = rows[(rows.kind == kind) & ~rows.method.str.startswith("bandwise")]
    return chosen.loc[chosen.MPSNR.idxmax()]


def _scenes(found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The table of MPSNR; the differences of the stack to the best classical method without PAN's steps; and that."""
    shown, others, chosen = [], [], {}
    for (scene, judge), rows in found.groupby(["scene", "judge"], sort=False):
        by_name = rows.set_index("method").MPSNR
        plain, lrms, both = (_best(rows, kind) for kind in ("as it is", "LRMS", "LRMS and PAN"))
        stack, best = rows[rows.method == "stack"].iloc[0], plain if plain.MPSNR > lrms.MPSNR else lrms
        chosen[scene, judge] = best
        shown.append(
            {
                "scene": scene,
                "truth": JUDGES[judge],
                "classical": f"{plain.MPSNR:.2f} {plain.method}",
                "with steps": f"{lrms.MPSNR:.2f} {lrms.method}",
                "with PAN's steps": f"{both.MPSNR:.2f} {both.method}",
                "bandwise": f"{by_name['bandwise']:.2f}",
                "bandwise++3": f"{by_name['bandwise++3']:.2f}",
                "stack": f"**{stack.MPSNR:.2f}**",
                "stack - best": _signed(stack.MPSNR - best.MPSNR),
            }
        )
        others.append(
            {"scene": scene, "judge": judge}
            | {metric: stack[metric] - best[metric] for metric in ("MPSNR", "SAM", "Q2n")}
        )
    return pd.DataFrame(shown).set_index("scene"), pd.DataFrame(others), pd.DataFrame(chosen).T


def _by_judge(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each judge; of a product that is not soft the truth made sharp is the truth as delivered."""
    sharp = rows[rows.judge == "measured, sharp truth"]
    rest = rows[(rows.judge == "measured") & ~rows.scene.isin(sharp.scene)]
    return {
        "By the truth as delivered": rows[rows.judge == "measured"],
        "By the truth made sharp": pd.concat([rest, sharp]),
    }


def _says(gains: pd.DataFrame) -> str:
    lines = []
    for title, rows in (_by_judge(gains) | {"With the table's gains": gains[gains.judge == "table"]}).items():
        worse = rows[rows.MPSNR < 0]
        lines.append(
            f"{title} the stack is above the best classical method on {(rows.MPSNR > 0).sum()} of {len(rows)} scenes, "
            f"{_signed(rows.MPSNR.mean())} dB on average"
            + (f"; it is below on {', '.join(worse.scene)}." if len(worse) else ".")
        )
    return " ".join(lines)


_LANGUAGE, _SMALL = "language", 0.02


def _trained(found: pd.DataFrame, best: pd.DataFrame) -> tuple[str, str, str]:
    """Of Stage II on real scenes: MPSNR by variant, its differences to the best classical method, and sentences."""
    variants = [*found.variant.unique()]
    shown, others, paired = [], [], []
    for (scene, truth), rows in found.groupby(["scene", "truth"], sort=False):
        judge = "measured, sharp truth" if truth == "sharp" else "measured"
        classical = best.loc[(scene, judge)]
        by_variant = rows.groupby("variant", sort=False).MPSNR
        mean, spread = by_variant.mean(), by_variant.std()
        about = {"scene": scene, "truth": JUDGES[judge]}
        shown.append(
            about
            | {"best classical": f"{classical.MPSNR:.2f} {classical.method}"}
            | {
                name: f"{mean[name]:.2f}" + ("" if pd.isna(spread[name]) else f" ± {spread[name]:.3f}")
                for name in variants
            }
        )
        ours = rows[rows.variant == _LANGUAGE]
        others.append(
            about
            | {
                metric: f"{(ours[metric] - classical[metric]).mean():+.{digits}f} ± {ours[metric].std():.{digits}f}"
                for metric, digits in (("MPSNR", 2), ("SAM", 3), ("Q2n", 4))
            }
        )
        by_seed = rows.pivot(index="seed", columns="variant", values="MPSNR")
        steps = {name: (by_seed[name] - by_seed["without language"]).mean() for name in variants[3:]}
        layer = mean["without language"] - mean["start, with PAN"]
        paired.append(
            {"judge": judge, "scene": scene, "gain": mean[_LANGUAGE] - classical.MPSNR, "training": layer}
            | steps
        )
    frame = pd.DataFrame(paired)
    says = [
        f"{title} Stage II is above the best classical method on {(rows.gain > 0).sum()} of {len(rows)} scenes, "
        f"{_signed(rows.gain.mean())} dB on average."
        for title, rows in _by_judge(frame).items()
    ]
    says.append(
        f"Training without truth moves MPSNR by {frame.training.mean():+.3f} ± {frame.training.std():.3f} dB (over the "
        "rows above); the rest is the start and its last layer."
    )
    moves = (f"{name} {frame[name].mean():+.3f} ± {frame[name].std():.3f}" for name in variants[3:])
    small = frame[variants[3:]].abs().max().max() < _SMALL
    verdict = f" None of them moves a scene by {_SMALL} dB." if small else ""
    says.append(f"Against training without language: {'; '.join(moves)} dB.{verdict}")
    tables = (_table(pd.DataFrame(rows).set_index("scene")) for rows in (shown, others))
    return (*tables, " ".join(says))


def _variants(found: pd.DataFrame) -> str:
    wide = found.pivot_table(index=["scene", "judge"], columns="method", values="MPSNR")
    rows = {name: wide[name] - wide["stack"] for name in VARIANTS}
    shown = {name: f"{_signed(row.mean())} ± {row.std():.2f}" for name, row in rows.items()}
    return _table(pd.DataFrame({"difference": shown}).rename_axis("stack"))


def _spoiled(found: pd.DataFrame) -> str:
    wide = found.pivot_table(index=["scene", "judge", "kind"], columns="method", values="MPSNR")
    more = wide["stack, three steps"] - wide["stack"]
    shown = {kind: more.xs(kind, level="kind") for kind in SPOILED}
    cells = {kind: f"{_signed(rows.mean())} ± {rows.std():.2f}" for kind, rows in shown.items()}
    return _table(pd.DataFrame({"difference": cells}).rename_axis("LRMS"))


def written(folder: Path) -> str:
    """The page, from the two files of a folder."""
    stage2 = pd.read_json(folder / "stage2.json")
    found = pd.read_json(folder / "one_scale_down.json")
    found, spoiled = found[found.judge.isin([*JUDGES])], found[~found.judge.isin([*JUDGES])]
    shown, gains, best = _scenes(found)
    after = pd.read_json(folder / "one_scale_down_trained.json")
    trained, trained_others, trained_says = _trained(after, best)
    others = pd.DataFrame(
        {
            "truth": [JUDGES[judge] for judge in gains.judge],
            "SAM": [f"{value:+.3f}" for value in gains.SAM],
            "Q2n": [f"{value:+.4f}" for value in gains.Q2n],
        },
        index=pd.Index(gains.scene, name="scene"),
    )
    table, says = _stage2(stage2)
    halves = found.drop_duplicates("scene")
    told = (f"{row.scene} {row.halves[0]:.2f} and {row.halves[1]:.2f}" for row in halves.itertuples())
    return PAGE.format(
        seeds=stage2.seed.nunique(),
        stage2=table,
        stage2_says=says,
        scenes=_table(shown),
        scenes_says=_says(gains),
        others=_table(others),
        variants=_variants(found),
        spoiled=_spoiled(spoiled),
        trained=trained,
        trained_others=trained_others,
        trained_says=trained_says,
        trained_seeds=after[after.variant == _LANGUAGE].seed.nunique(),
        halves=", ".join(told),
    )


def main(arguments: Sequence[str] | None = None, docs: Path = DOCS) -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something would change"
    )
    check = parser.parse_args(arguments).check
    page, new = docs / "recipe.md", written(docs / "recipe")
    same = page.is_file() and page.read_text(encoding="utf-8") == new
    if check:
        print(f"{page.name} {'is as it should be' if same else 'would change: run without --check'}")
        return int(not same)
    if not same:
        write_text(page, new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
