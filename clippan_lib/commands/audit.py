"""clippan audit."""

import argparse
import sys
from pathlib import Path

from clippan_lib.audit import audit
from clippan_lib.audit import report as audit_report
from clippan_lib.commands import stop
from clippan_lib.data import load_manifest
from clippan_lib.runs.limits import refuse_beyond, refuse_seed
from clippan_lib.runs.progress import bars


def act(options: argparse.Namespace) -> int:
    try:
        refuse_beyond("--sample", options.sample, 1_000_000)
        refuse_seed(options.seed)
        manifest = load_manifest(options.manifest)
        outcome = audit(manifest, options.data, options.sample, options.seed, bars(sys.stderr, "windows"))
    except ValueError as error:
        return stop(2, error)
    page = options.report or Path("runs") / manifest.name / "audit.html"
    audit_report.write(outcome, page)
    for finding in outcome.findings:
        if finding.severity != "ok":
            print(
                f"{finding.severity}: {finding.check}, {finding.split} {finding.resolution}: {finding.measured}"
            )
    print(f"{audit_report.verdict(outcome)}\nReport: {page}")
    return 0 if outcome.passed else 1
