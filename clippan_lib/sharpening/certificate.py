"""The page that a user shows to others: which method is best on a scene, by how much, and how that is known."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from clippan_lib import __version__, figures
from clippan_lib.data.pair.names import Location, file_of, last_of, parts_of
from clippan_lib.figures.maps import index_maps
from clippan_lib.figures.page import PageRow, PageTable, Section, drawn, render
from clippan_lib.files import file_digest, write_text
from clippan_lib.metrics.reprojection import phases, reproject, reprojection_map
from clippan_lib.metrics.spatial import d_rho_map
from clippan_lib.sharpening.areas import Judged
from clippan_lib.sharpening.contest import Contest, images
from clippan_lib.sharpening.verdict import (
    DECIDES,
    Place,
    best_of_each,
    leads,
    scores_of,
    trust,
    verdict,
)

PAGE, TABLE, KEPT = "index.html", "scores.csv", ".kept.json"
COLUMNS = ["method", "consistency", "setting", "seed", "metric", "value"]
SHOWN = 4  # methods in pictures
COLOURS = 256  # of a picture, so that a page stays below 3 MB
# In pictures after the best and the best classical method, while there is room
_ALWAYS = ("adapted", "stack", "bandwise", "bt_h", "sr_d")
_WITH_TRUTH = {"MPSNR": 2, "SAM": 2, "Q2n": 4}
_WITHOUT = {"D_rho": 3, "R_Q2n": 4, "HQNR": 3}


@cache
def known_trust() -> dict[str, Any]:
    """What benchmarks/indices.py measured on synthetic scenes, see `verdict.trust`."""
    text = files("clippan_lib.assets").joinpath("certificate.json").read_text(encoding="utf-8")
    return json.loads(text)


def write_certificate(contest: Contest, rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write scores.csv and index.html.

    Args:
        contest, rows: from `plan_contest` and `run_contest`.
        folder: must exist.
    Returns: the files.
    """
    table, page = folder / TABLE, folder / PAGE
    write_text(table, rows[COLUMNS].astype({"seed": "Int64"}).to_csv(index=False))
    result = verdict(rows)
    shown = _shown(contest, rows)
    sections = [
        _standings(rows, result.best),
        *_pictures(contest, shown),
        Section("What this page cannot say", _limits(contest)),
    ]
    facts = {"result": result.sentence, "how far to trust it": trust(known_trust()), **_facts(contest)}
    write_text(page, render(f"Pansharpening compared: {contest.files[0].name}", sections, facts))
    return [page, table]


def _facts(contest: Contest) -> dict[str, str]:
    ms, pan = contest.files
    optics = contest.optics
    facts = {
        "MS": _identified(ms),
        "PAN": _identified(pan),
        "sensor": f"{optics.sensor.name}, bands {', '.join(contest.pair.band_names)}, ratio {contest.sensor.ratio}",
        "optics": optics.remark
        + ("" if optics.sensor.measured else " (assumed: no published measurement is known)"),
        "compared": contest.areas.in_words,
        **({"place": contest.placed.remark} if contest.placed.remark else {}),
        "made by": f"CLIPPan {__version__}",
    }
    return facts | ({"left out": "; ".join(contest.absent)} if contest.absent else {})


def _identified(image: Location) -> str:
    """Names without folders, and what tells the files that hold them from others."""
    told = [
        f"{last_of(part)}, SHA-256 {file_digest(file)[:16]}…"
        for part in parts_of(image)
        if (file := file_of(part))
    ]
    return "; ".join(told) or image.name


def _standings(rows: pd.DataFrame, best: Place) -> Section:
    """One row per method, with the consistency that served it best."""
    reduced, full = scores_of(rows, "reduced"), scores_of(rows, "full")
    delivered = scores_of(rows, "as_delivered") if (rows.setting == "as_delivered").any() else None
    kept, behind = best_of_each(reduced), leads(rows, best)
    columns = ["method", "MPSNR (dB)", "to the best (dB)", "SAM (°)", "Q2n"]
    columns += ["MPSNR, truth as delivered (dB)"] * (delivered is not None)
    columns += [*_WITHOUT]
    lines = []
    for key, row in kept.iterrows():
        place = Place(*key)
        lead = behind.get(place)
        cells = [
            place.title,
            f"{row[DECIDES]:.2f}",
            f"-{lead.mean:.2f} ± {lead.half:.2f}" if lead else "best",
        ]
        cells += [f"{row[name]:.{digits}f}" for name, digits in list(_WITH_TRUTH.items())[1:]]
        if delivered is not None:
            cells.append(f"{delivered.loc[key, DECIDES]:.2f}")
        cells += [f"{full.loc[key, name]:.{digits}f}" for name, digits in _WITHOUT.items()]
        lines.append(PageRow(cells, best=frozenset(range(len(cells)) if place == best else ())))
    note = (
        "Left: one scale down, where MS is the truth, made as sharp as PAN if the product is soft. “To the best” is "
        "the mean over parts of the scene, with its 95 % interval. Right: indices at full resolution, for which no "
        "truth is needed: D_rho (0 follows PAN), R_Q2n (1 gives MS back), HQNR (known to prefer blur). Each method "
        f"has the steps of consistency that served it best; {TABLE} has all."
    )
    return Section("All methods", note, [PageTable(columns, lines, names=1)])


def _shown(contest: Contest, rows: pd.DataFrame) -> list[Place]:
    """The best, the best classical method, and others that readers look for."""
    result = verdict(rows)
    each = {Place(*key).method: Place(*key) for key in best_of_each(scores_of(rows, "reduced")).index}
    wanted = [result.best] + ([result.leads.other] if result.leads else [])
    wanted += [each[name] for name in _ALWAYS if name in each] + [*each.values()]
    first = {place.method: place for place in reversed(wanted)}
    return [first[name] for name in dict.fromkeys(place.method for place in wanted)][:SHOWN]


@torch.no_grad()
def _fused(contest: Contest, judged: Judged, shown: list[Place]) -> dict[str, Tensor]:
    """Title to images of all areas."""
    found = {}
    entrants = {entrant.name: entrant for entrant in contest.entrants}
    for place in shown:
        for steps, hrms in images(entrants[place.method], judged, contest.sensor):
            if (str(steps) or "none") == place.consistency:
                found[place.title] = hrms
    return found


def _pictures(contest: Contest, shown: list[Place]) -> Iterator[Section]:
    by_setting = {judged.setting: judged for judged in contest.settings}
    sensor, scale = contest.sensor, contest.areas.largest
    reduced, full = by_setting["reduced"], by_setting["full"]
    fused = _fused(contest, reduced, shown)
    assert reduced.gt is not None
    picture = figures.zooms(
        {title: image[:1] for title, image in fused.items()},
        reduced.lrms[:1],
        reduced.pan[:1],
        sensor,
        reduced.gt[:1],
        columns=SHOWN + 3,
        dn_max=scale,
    )
    caption = (
        "One scale down: inputs, fusions and the truth; the box magnified; absolute errors, all on one scale."
    )
    yield Section("One scale down", pictures=[drawn(picture, caption, COLOURS)])
    fused = {title: image[:1] for title, image in _fused(contest, full, shown).items()}
    picture = figures.zooms(fused, full.lrms[:1], full.pan[:1], sensor, columns=SHOWN + 2)
    maps = index_maps(_maps(contest, full, fused), "Where indices without a truth find fault")
    yield Section(
        "Full resolution",
        pictures=[
            drawn(
                picture,
                "Full resolution: the scene as it is, the middle of an area; the box magnified.",
                COLOURS,
            ),
            drawn(
                maps,
                "D_rho: how little the surroundings of a pixel follow PAN. Reprojection: how far the fusion, seen as "
                "the sensor would see it, is from MS. Dark is good.",
                COLOURS,
            ),
        ],
    )


def _maps(contest: Contest, full: Judged, fused: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    ratio, scale = contest.sensor.ratio, contest.areas.largest
    gnyq, lrms = contest.sensor.gnyq, full.lrms[:1]
    where = phases(lrms, full.pan[:1], gnyq, ratio)
    rho = {title: d_rho_map(image, full.pan[:1], ratio)[0, 0] for title, image in fused.items()}
    back = {
        title: reprojection_map(reproject(image, gnyq, ratio, where), lrms)[0, 0] * scale
        for title, image in fused.items()
    }
    return {"D_rho": rho, "reprojection (DN)": back}


def _limits(contest: Contest) -> str:
    reduced = contest.settings[0]
    said = [
        "One scale down is not full resolution: the land is seen coarser, the sensor's noise is averaged away, and PAN "
        "and MS lie closer together, in their pixels, than they do here.",
        "In dense cities methods that learn or are weighed one scale down may inject too little; there look at the "
        "pictures, and at D_rho.",
    ]
    if reduced.sharpness != 1:
        said.append(
            f"The truth one scale down is {reduced.sharpness:.2f} times as sharp as PAN at PAN's Nyquist frequency; "
            "methods that end in consistency with PAN are told so there, and take PAN as it is at full resolution."
        )
    if contest.areas.share < 0.999:
        said.append(f"Only {contest.areas.share:.0%} of the scene was compared.")
    said.append(
        "Methods that look at their whole image saw the compared part alone; MTF gains were measured on the whole "
        "scene."
    )
    return " ".join(said)
