"""clippan judge."""

import argparse
import sys

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.commands import stop
from clippan_lib.errors import ClipWeightsError, MissingStage
from clippan_lib.evaluation.judgement import GATES, judge, table, verdict
from clippan_lib.runs.devices import find_device
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.limits import refuse_beyond
from clippan_lib.runs.progress import bars


def act(options: argparse.Namespace) -> int:
    try:
        refuse_beyond("--deliveries", options.deliveries, 10_000, least=2)  # one gives no interval
        file = RunFolder(options.run).supervisor()
        if not file.is_file():
            raise MissingStage(f"{file}: no such file; give the folder of a run whose Stage I is done")
        supervisor = Supervisor.load(file).to(find_device(options.device))
        gates = judge(
            supervisor,
            options.guidance == "dense",
            count=options.deliveries,
            progress=bars(sys.stderr, "deliveries"),
        )
    except (ValueError, OSError, ClipWeightsError, MissingStage) as error:
        return stop(2, error)
    found = table(gates).rename_axis("gate").assign(what=GATES)
    print(found.to_csv(float_format="%.4g"), end="")
    print(f"The supervisor {verdict(found.passed)}.", file=sys.stderr)
    return 0
