"""clippan run."""

import argparse
import sys

from clippan_lib.commands import stop
from clippan_lib.errors import Refusal, RunFailed
from clippan_lib.runs import report, results
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.runner import execute


def act(options: argparse.Namespace) -> int:
    try:
        plan = plan_run(
            options.manifest,
            data=options.data,
            preset=options.preset,
            network=options.network,
            seed=options.seed,
            device=options.device,
            name=options.name,
            assignments=options.assignments,
        )
    except ValueError as error:
        return stop(2, error)
    try:
        execute(plan, sys.stderr)
    except Refusal as error:
        return stop(2, error)
    except RunFailed as error:
        return stop(1, error)
    for (_, title), table in results.frames(plan.folder).items():
        print(f"\n{title}\n{table.to_string(index=False, float_format='{:.4g}'.format, na_rep='-')}")
    print(f"\nReport: {plan.folder / report.PAGE}")
    return 0
