"""An audit on one page: the findings, and pictures of what they were measured on."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from clippan_lib import __version__
from clippan_lib.audit import Audit, Finding, SplitAudit, offsets
from clippan_lib.figures import histograms, optics_curve, patch_grid, show_images
from clippan_lib.figures.page import PageRow, PageTable, Picture, Section, drawn, render
from clippan_lib.figures.style import BOX, PALETTE, new_figure, styled
from clippan_lib.files import write_text

_WORST_FIRST = ("fault", "warning", "not measured", "ok")


def write(audit: Audit, path: str | Path) -> None:
    """Write the page; it needs no other file, and appears under its name only when complete.

    Args:
        audit: from `clippan_lib.audit.audit`.
        path: path of the page; its folder is made if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(audit))


def verdict(audit: Audit) -> str:
    """The outcome in one line, e.g. "failed: 1 fault, 2 warnings, 30 ok"."""
    counts = dict.fromkeys(_WORST_FIRST, 0)
    for finding in audit.findings:
        counts[finding.severity] += 1
    named = {"fault": "faults", "warning": "warnings"}
    texts = (
        f"{count} {named.get(severity, severity) if count > 1 else severity}"
        for severity, count in counts.items()
        if count
    )
    return f"{'passed' if audit.passed else 'failed'}: {', '.join(texts)}"


def page(audit: Audit) -> str:
    """The page as HTML, with its pictures inside."""
    manifest = audit.manifest
    facts = {
        "Outcome": verdict(audit),
        "Manifest": f"{manifest.name}, digest {manifest.digest()}",
        "Sensor": manifest.resolve_sensor().name,
        "Looked at": ", ".join(_looked(part) for part in audit.parts) or "nothing",
        "CLIPPan": __version__,
    }
    sections = [Section("Findings", tables=[_table(audit)])]
    if audit.leaks:
        sections.append(Section("The same ground in two splits", pictures=_leaks(audit)))
    sections += [
        Section(f"{part.split}, {part.resolution} resolution", pictures=_pictures(part))
        for part in audit.parts
        if part.examples
    ]
    return render(f"Audit of {manifest.title}", sections, facts)


def _looked(part: SplitAudit) -> str:
    total = 0 if part.patches is None else len(part.patches)
    return f"{part.split} {part.resolution} {part.looked} of {total} windows ({part.detailed} in detail)"


def _table(audit: Audit) -> PageTable:
    ordered = sorted(audit.findings, key=lambda finding: _WORST_FIRST.index(finding.severity))
    heads = ("outcome", "check", "split", "resolution", "measured", "limit", "what to do")
    return PageTable(heads, [*map(_row, ordered)])


def _row(finding: Finding) -> PageRow:
    kinds = {"fault": "fault", "warning": "warning", "not measured": "unmeasured", "ok": "ok"}
    cells = (
        finding.severity,
        finding.check,
        finding.split,
        finding.resolution,
        finding.measured,
        finding.limit,
        finding.advice,
    )
    return PageRow(cells, kinds[finding.severity])


def _leaks(audit: Audit) -> list[Picture]:
    sensor = audit.manifest.resolve_sensor()
    return [
        drawn(
            show_images({leak.first: leak.first_image, leak.second: leak.second_image}, sensor, columns=2),
            f"The same ground in two splits: about {leak.pixels} px in common",
        )
        for leak in audit.leaks
    ]


def _pictures(part: SplitAudit) -> list[Picture]:
    lrms, pan = (torch.cat([getattr(batch, key) for batch in part.examples]) for key in ("lrms", "pan"))
    gt = torch.cat([batch.gt for batch in part.examples]) if part.patches.has_gt else None
    # the batch as one tall image: its histogram is that of all windows together
    tall = (image.transpose(0, 1).flatten(1, 2) for image in (lrms, pan))
    shown = {
        "The first windows of the sample, under one stretch": patch_grid(lrms, pan, part.sensor, gt),
        "Values of these windows": histograms(*tall, part.sensor, dn_max=part.patches.stack.dn_max),
    }
    if part.surfaces:
        shown["Where MS lies on PAN"] = registration(part)
    if part.optics:
        shown["How sharp each band is"] = optics_curve(part.optics, part.sensor)
    return [drawn(figure, text) for text, figure in shown.items()]


@styled
def registration(part: SplitAudit) -> Figure:
    """How well PAN follows the bands at each offset, and the offset of each window; the convention is (0, 0).

    Args:
        part: with at least one surface.
    Raises: ValueError without one.
    """
    if not part.surfaces:
        raise ValueError(f"{part.split} {part.resolution}: no window was measured, nothing to draw")
    mean = torch.stack(part.surfaces).mean(0)
    reach = len(mean) // 2
    edge = reach + 0.5
    figure = new_figure(4.2)
    left, right = figure.subplots(1, 2)
    drawn = left.imshow(mean.numpy(), cmap="viridis", extent=(-edge, edge, edge, -edge))
    figure.colorbar(drawn, ax=left, label="R² of PAN from the bands")
    left.plot(0, 0, "+", color=BOX, markersize=12)
    left.set_title(f"mean of {len(part.surfaces)} windows")
    found = offsets(part)
    right.scatter(found[:, 1], found[:, 0], s=20, color=PALETTE[0], alpha=0.6, linewidth=0)
    right.axhline(0, color="0.7", linewidth=0.8)
    right.axvline(0, color="0.7", linewidth=0.8)
    right.set(xlim=(-edge, edge), ylim=(edge, -edge), aspect="equal", title=f"{len(found)} windows")
    for ax in (left, right):
        ax.set(xlabel="columns (PAN px)", ylabel="rows (PAN px)")
    return figure
