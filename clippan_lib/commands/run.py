"""clippan run."""

import argparse
import sys

from clippan_lib.commands import stop
from clippan_lib.commands.assignments import parse_assignments
from clippan_lib.errors import Refusal, ResultsError, RunFailed
from clippan_lib.figures.tables import starred
from clippan_lib.runs import results
from clippan_lib.runs.folder import PAGE
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.runner import execute


def act(options: argparse.Namespace) -> int:
    try:
        plan = plan_run(
            options.manifest,
            data=options.data,
            preset=options.preset,
            network=options.network,
            plugin=options.plugin,
            seed=options.seed,
            device=options.device,
            name=options.name,
            changes=parse_assignments(options.assignments),
        )
    except ValueError as error:
        return stop(2, error)
    try:
        execute(plan, sys.stderr)
    except (Refusal, ResultsError) as error:
        return stop(2, error)
    except RunFailed as error:
        return stop(1, error)
    except OSError as error:
        return stop(
            1, f"{plan.folder} cannot be written ({error}); make room, or move away what is in its place"
        )
    for (_, title), rows in results.frames(plan.folder).items():
        print(f"\n{title}\n{starred(*results.displayed(rows)).reset_index().to_string(index=False)}")
    print(f"\nReport: {plan.folder / PAGE}")
    return 0
