"""clippan table."""

import argparse
import os
import sys

from clippan_lib.campaign import tables
from clippan_lib.campaign.engine import run_campaign
from clippan_lib.campaign.grid import plan_campaign
from clippan_lib.campaign.pages import write_pages
from clippan_lib.campaign.record import load
from clippan_lib.commands import stop
from clippan_lib.commands.assignments import parse_assignments
from clippan_lib.errors import RunFailed
from clippan_lib.runs.limits import refuse_beyond
from clippan_lib.runs.progress import bars


def act(options: argparse.Namespace) -> int:
    try:
        refuse_beyond("--jobs", options.jobs or 1, 1000)
        refuse_beyond("the number of --seeds,", len(options.seeds), 1000)
        campaign = plan_campaign(
            options.table,
            options.manifests,
            seeds=options.seeds,
            data=options.data,
            preset=options.preset,
            device=options.device,
            name=options.name,
            changes=parse_assignments(options.assignments),
        )
        jobs = options.jobs or (1 if campaign.device == "cuda" else os.cpu_count() or 1)
    except ValueError as error:
        return stop(2, error)
    print(f"{campaign.command}: {len(campaign.tasks)} runs, {jobs} side by side", file=sys.stderr)
    for remark in campaign.remarks:
        print(remark, file=sys.stderr)
    try:
        outcomes = run_campaign(
            campaign, jobs=jobs, scheduler=options.scheduler, progress=bars(sys.stderr, "runs")
        )
        pages = write_pages(campaign)
        found = load(campaign.folder)
    except (RunFailed, ValueError) as error:
        return stop(1, error)
    except OSError as error:
        folder = campaign.folder
        return stop(1, f"{folder} cannot be written ({error}); make room, or move away what is in its place")
    for table in tables.all_tables(found):
        print(f"\n{table.title}\n{table.text.to_string()}\n{table.note}".rstrip())
    print(*(f"\nReport: {page}" for page in pages), sep="")
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed:
        print(f"failed: {outcome.place}: {outcome.failure}", file=sys.stderr)
    return stop(1, f"{len(failed)} of {len(outcomes)} runs failed") if failed else 0
