"""clippan audit."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from clippan_lib.audit import audit
from clippan_lib.audit import report as audit_report
from clippan_lib.commands import stop
from clippan_lib.data import Manifest, load_manifest
from clippan_lib.data.pair.sources import files_of
from clippan_lib.errors import OutputError
from clippan_lib.runs.limits import refuse_beyond, refuse_seed
from clippan_lib.runs.progress import bars
from clippan_lib.targets import refuse_replacing, refuse_unwritable


def act(options: argparse.Namespace) -> int:
    try:
        refuse_beyond("--sample", options.sample, 1_000_000)
        refuse_seed(options.seed)
        manifest = load_manifest(options.manifest)
        page = options.report or Path("runs") / manifest.name / "audit.html"
        refuse_unwritable(page, made=True)
        refuse_replacing(
            [page], [options.manifest, *_data(manifest, options.data or options.manifest.parent)]
        )
        outcome = audit(manifest, options.data, options.sample, options.seed, bars(sys.stderr, "windows"))
    except (ValueError, OutputError) as error:
        return stop(2, error)
    try:
        audit_report.write(outcome, page)
    except OSError as error:
        return stop(1, f"{page}: cannot be written ({error.strerror}); make room on its disk")
    for finding in outcome.findings:
        if finding.severity != "ok":
            print(
                f"{finding.severity}: {finding.check}, {finding.split} {finding.resolution}: {finding.measured}"
            )
    print(f"{audit_report.verdict(outcome)}\nReport: {page}")
    return 0 if outcome.passed else 1


def _data(manifest: Manifest, root: Path) -> Iterator[Path]:
    """The files of a dataset, with those that belong to one."""
    for path in manifest.source.paths:
        if (root / path).is_dir():
            yield from (root / path).rglob("*")
        elif manifest.source.kind == "geotiff":
            yield from files_of([root / path])
        else:  # GDAL would try to read it, and HDF5 tell of its faults on its own
            yield root / path
