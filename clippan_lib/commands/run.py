"""clippan run."""

import argparse
import sys
from pathlib import Path

from clippan_lib.commands import stop
from clippan_lib.commands.assignments import parse_assignments
from clippan_lib.errors import Refusal, ResultsError, RunFailed
from clippan_lib.runs import results
from clippan_lib.runs.folder import PAGE
from clippan_lib.runs.headline import headline, warning
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
    caution = warning(plan.preset, plan.config.stage2_iterations)
    print("\n".join(_summary(plan.folder, plan.config.network, caution)))
    return 0


def _summary(folder: Path, network: str, caution: str) -> list[str]:
    """What the run found, in ten lines at most, and where its report is."""
    lines = []
    if found := headline(results.load(folder), network):
        for number in found.numbers:
            beside = ", ".join(filter(None, (number.direction, number.note)))
            lines.append(f"{number.name}: {number.value} ({beside})")
        lines.append(found.sentence)
    if caution:
        lines.append(f"Warning: {caution}")
    return [*lines, f"Report: {folder / PAGE}"]
