"""The command `clippan`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from clippan_lib import audit_report, report, results
from clippan_lib.data import load_manifest
from clippan_lib.data.audit import audit
from clippan_lib.data.fetch import fetch
from clippan_lib.fusion import CLASSICAL
from clippan_lib.parameters import Refusal
from clippan_lib.plan import find_device, plan_run
from clippan_lib.run import find_network
from clippan_lib.runner import RunFailed, execute
from clippan_lib.sensors import SENSORS, get_sensor
from clippan_lib.sharpening import OutputError, plan_job, sharpen
from clippan_lib.training.config import PRESETS
from clippan_lib.watch import bars


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: of the command line, without the program's name; None takes the process's own.
    Returns: exit status: 0 done, 1 failed or not complete, 2 refused before anything ran, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.act(options)
    except KeyboardInterrupt:
        return _stop(130, "interrupted; the same command goes on from here")


def _run(options: argparse.Namespace) -> int:
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
        return _stop(2, error)
    try:
        execute(plan, sys.stderr)
    except Refusal as error:
        return _stop(2, error)
    except RunFailed as error:
        return _stop(1, error)
    for (_, title), table in results.frames(plan.folder).items():
        print(f"\n{title}\n{table.to_string(index=False, float_format='{:.4g}'.format, na_rep='-')}")
    print(f"\nReport: {plan.folder / report.PAGE}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    try:
        manifest = load_manifest(options.manifest)
        fetched = fetch(manifest, options.data, partial(print, file=sys.stderr), bars(sys.stderr, "B"))
    except ValueError as error:
        return _stop(2, error)
    for path in fetched.downloaded + fetched.present:
        print(options.data / path)
    return _stop(1, fetched.advice) if fetched.advice else 0


def _audit(options: argparse.Namespace) -> int:
    try:
        manifest = load_manifest(options.manifest)
        outcome = audit(manifest, options.data, options.sample, options.seed, bars(sys.stderr, "windows"))
    except ValueError as error:
        return _stop(2, error)
    page = options.report or Path("runs") / manifest.name / "audit.html"
    audit_report.write(outcome, page)
    for finding in outcome.findings:
        if finding.severity != "ok":
            print(
                f"{finding.severity}: {finding.check}, {finding.split} {finding.resolution}: {finding.measured}"
            )
    print(f"{audit_report.verdict(outcome)}\nReport: {page}")
    return 0 if outcome.passed else 1


def _sharpen(options: argparse.Namespace) -> int:
    method = options.method
    try:
        job = plan_job(
            options.ms,
            options.pan,
            method if method in CLASSICAL else find_network(method),
            sensor=options.sensor and get_sensor(options.sensor),
            bands=options.bands,
            tile=options.tile,
            device=find_device(options.device),
        )
    except ValueError as error:
        return _stop(2, error)
    rows, columns = job.size
    print(
        f"{job.title}: {rows} x {columns} px of PAN, {job.pair.n_bands} bands, ratio {job.pair.ratio}",
        file=sys.stderr,
    )
    if not job.exact:
        print(
            f"Note: this method looks at its whole image; here every tile of {options.tile} px is one, and the "
            "result depends on --tile",
            file=sys.stderr,
        )
    try:
        sharpen(job, options.out, options.scheduler, bars(sys.stderr, "tiles"))
    except (ValueError, OutputError) as error:
        return _stop(1, error)
    print(options.out)
    return 0


def _stop(status: int, reason: object) -> int:
    print(f"clippan: {reason}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clippan", description="Pansharpening supervised by CLIP.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands)
    _add_fetch(commands)
    _add_audit(commands)
    _add_sharpen(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run the notebooks for one dataset",
        description="Runs the notebooks in order into runs/DATASET/NAME/ and ends with index.html there. "
        "The same command again goes on where a stopped run was.",
    )
    run.add_argument("manifest", type=Path, metavar="MANIFEST", help="a file of data_manifests/")
    run.add_argument("--data", type=Path, metavar="DIR", help="folder of the data (default: the manifest's)")
    run.add_argument("--preset", choices=PRESETS, default="demo")
    run.add_argument("--network", metavar="N", help="fusion network (default: the preset's)")
    run.add_argument("--seed", type=int, default=0, metavar="S")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    run.add_argument("--name", help="folder of the run (default: made of preset, network, seed and changes)")
    run.add_argument(
        "-p",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a field of the configuration or a parameter of a notebook; may be repeated",
    )
    run.set_defaults(act=_run)


def _add_fetch(commands: Any) -> None:
    fetching = commands.add_parser(
        "fetch",
        help="get a dataset's files",
        description="Shows licence and citation, downloads the files whose address the manifest knows (a stopped "
        "download goes on; a file of another SHA-256 is refused) and says what to get by hand.",
    )
    fetching.add_argument("manifest", type=Path, metavar="MANIFEST", help="a file of data_manifests/")
    fetching.add_argument("--data", type=Path, metavar="DIR", required=True, help="folder to put the data in")
    fetching.set_defaults(act=_fetch)


def _add_audit(commands: Any) -> None:
    auditing = commands.add_parser(
        "audit",
        help="measure a dataset before training",
        description="Measures phase, registration, leakage between splits, values, truncation, simulation and band "
        "order, and writes a page with pictures. Exits with 0 if nothing is at fault (warnings do not count), 1 if "
        "something is, 2 if the manifest cannot be used.",
    )
    auditing.add_argument("manifest", type=Path, metavar="MANIFEST", help="a file of data_manifests/")
    auditing.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data (default: the manifest's)"
    )
    auditing.add_argument(
        "--report", type=Path, metavar="FILE", help="the page (default: runs/DATASET/audit.html)"
    )
    auditing.add_argument(
        "--sample", type=int, default=100, metavar="N", help="windows per split measured in detail"
    )
    auditing.add_argument("--seed", type=int, default=0, metavar="S", help="of that sample")
    auditing.set_defaults(act=_audit)


def _add_sharpen(commands: Any) -> None:
    sharpening = commands.add_parser(
        "sharpen",
        help="sharpen a scene of your own",
        description="Fuses two GeoTIFFs as delivered into one, tile by tile. The same command again goes on where "
        "a stopped one was; the output appears once it is complete.",
    )
    sharpening.add_argument("--ms", type=Path, required=True, metavar="FILE", help="the bands")
    sharpening.add_argument("--pan", type=Path, required=True, metavar="FILE", help="the sharp image")
    sharpening.add_argument("--out", type=Path, required=True, metavar="FILE", help="the GeoTIFF to write")
    sharpening.add_argument(
        "--method",
        default="gsa",
        metavar="NAME|RUN",
        help=f"a classical method ({', '.join(CLASSICAL)}), the folder of a run, or a file of its networks/ "
        "(default: gsa)",
    )
    sharpening.add_argument(
        "--sensor",
        metavar="S",
        help=f"whose MTF the method needs ({', '.join(SENSORS)}); a network knows its own",
    )
    sharpening.add_argument(
        "--bands",
        type=_bands,
        metavar="B,B,...",
        help="bands of the MS file and their order, as numbers from 1 or as names (default: the sensor's, or all)",
    )
    sharpening.add_argument(
        "--tile", type=int, default=1280, metavar="PX", help="side of a tile; memory grows with its square"
    )
    sharpening.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    sharpening.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster that sees the same files, such as tcp://host:8786",
    )
    sharpening.set_defaults(act=_sharpen)


def _bands(text: str) -> list[int] | list[str]:
    names = text.split(",")
    return [int(name) for name in names] if all(name.isdigit() for name in names) else names
