"""clippan compare."""

import argparse
import sys
import warnings
from dataclasses import replace

from rasterio.errors import NotGeoreferencedWarning

from clippan_lib.commands import opening_of, sensor_of, stop
from clippan_lib.commands.outputs import refuse_folder
from clippan_lib.errors import OutputError
from clippan_lib.runs.limits import refuse_seed
from clippan_lib.runs.progress import bars
from clippan_lib.sharpening.certificate import KEPT, PAGE, TABLE, write_certificate
from clippan_lib.sharpening.contest import Contest, plan_contest, run_contest
from clippan_lib.sharpening.verdict import verdict


def act(options: argparse.Namespace) -> int:
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    folder = options.out
    try:
        refuse_seed(options.seed)
        refuse_folder(options, (PAGE, TABLE, KEPT))
        contest = plan_contest(
            options.ms,
            options.pan,
            sensor=sensor_of(options.sensor),
            **opening_of(options),
            methods=options.methods or (),
            networks=options.networks,
            gains=options.gains,
            register=options.register,
            shift=options.shift,
        )
        if options.adapt:
            contest = _with_adapted(contest, options)
        folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, OutputError) as error:
        return stop(2, error)
    except OSError as error:
        return stop(2, f"{folder}: cannot be made ({error.strerror}); name another folder")
    pair, measured = contest.pair, f"{contest.areas.in_words}; {contest.optics.remark}"
    for said in (*pair.remarks, contest.placed.remark, measured, contest.placed.unseen):
        print(said, end="\n" * bool(said), file=sys.stderr)
    for remark in contest.absent:
        print(f"Left out: {remark}", file=sys.stderr)
    try:
        rows = run_contest(contest, folder / KEPT, bars(sys.stderr, "methods"))
        files = write_certificate(contest, rows, folder)
    except (ValueError, OutputError) as error:
        return stop(1, error)
    except OSError as error:
        return stop(1, f"{folder}: cannot be written ({error.strerror}); make room or name another")
    print(verdict(rows).sentence)
    for file in files:
        print(file)
    return 0


def _with_adapted(contest: Contest, options: argparse.Namespace) -> Contest:
    from clippan_lib.sharpening.adapted import adapted  # training: seconds to import

    entrant = adapted(contest, options.out, preset=options.adapt, seed=options.seed)
    return replace(contest, entrants=[*contest.entrants, entrant])
