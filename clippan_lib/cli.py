"""The command `clippan`."""

import argparse
import gc
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from clippan_lib.assets import EMBEDDED
from clippan_lib.commands import stop
from clippan_lib.commands.given import bands, nodata, plugin, positive, shift
from clippan_lib.commands.streams import lasting_streams
from clippan_lib.sensors import SENSORS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: of the command line, without the program's name; None takes the process's own.
    Returns: exit status: 0 done, 1 failed or not complete, 2 refused before anything ran, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with lasting_streams() as out:
        options = _parser().parse_args(arguments)
        options.typed = shlex.join(["clippan", *arguments])
        status = _act(options)
    # the scores are nowhere else
    return status or int(bool(out.fault) and options.command in ("score", "judge"))


def _act(options: argparse.Namespace) -> int:
    # read once, by torch's first large tensor: with small pages the system takes a third of a whole scene's time
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # the collector would go through all of torch again and again while it is imported: a tenth of that time
    collecting = gc.isenabled()
    gc.disable()
    try:
        try:
            command = import_module(f"clippan_lib.commands.{options.command}")
        finally:
            if collecting:
                gc.enable()
        return command.act(options)
    except KeyboardInterrupt:
        return stop(130, "interrupted; the same command goes on from here")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clippan", description="Pansharpening supervised by CLIP.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands)
    _add_table(commands)
    _add_fetch(commands)
    _add_audit(commands)
    _add_sharpen(commands)
    _add_compare(commands)
    _add_score(commands)
    _add_judge(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run the notebooks for one dataset",
        description="Runs the notebooks in order into runs/DATASET/NAME/ and ends with index.html there. "
        "The same command again goes on where a stopped run was.",
    )
    run.add_argument("manifest", type=Path, metavar="MANIFEST", help="a file of data_manifests/")
    run.add_argument("--network", metavar="N", help="fusion network (default: the preset's)")
    run.add_argument("--seed", type=int, default=0, metavar="S")
    run.add_argument("--name", help="folder of the run (default: made of preset, network, seed and changes)")
    plugin(run)
    _add_settings(run, "a field of the configuration or a parameter of a notebook")


def _add_table(commands: Any) -> None:
    table = commands.add_parser(
        "table",
        help="repeat a table of the paper",
        description="Trains and judges every row of a table of the paper on each dataset with each seed, shared work "
        "once, and writes the tables with means, spreads and paired differences into runs/campaigns/NAME/. The same "
        "command again does what is missing or failed.",
    )
    table.add_argument(
        "table",
        type=int,
        choices=range(1, 6),
        help="1: networks without and with CLIPPan; 2: losses of Stage II; 3: losses of Stage I; 4: stems; 5: prompts",
    )
    table.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="files of data_manifests/")
    table.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S")
    table.add_argument("--name", help="of the folder (default: made of table, preset, datasets and changes)")
    table.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="runs side by side, one thread each (default: one per processor, one on a GPU)",
    )
    table.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster that does the runs and sees the same files, such as tcp://host:8786",
    )
    _add_settings(table, "a field of the configuration of all runs, such as clip_model=ViT-B-32")


def _add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """The options of all that runs notebooks."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data (default: the manifest's)"
    )
    parser.add_argument("--preset", default="demo", metavar="P", help="smoke, demo (default) or paper")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "-p",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"set {what}; may be repeated",
    )


def _add_fetch(commands: Any) -> None:
    fetching = commands.add_parser(
        "fetch",
        help="get a dataset's files",
        description="Shows licence and citation, downloads the files whose address the manifest knows (a stopped "
        "download goes on; a file of another SHA-256 is refused) and says what to get by hand.",
    )
    fetching.add_argument("manifest", type=Path, metavar="MANIFEST", help="a file of data_manifests/")
    fetching.add_argument("--data", type=Path, metavar="DIR", required=True, help="folder to put the data in")


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


def _add_sharpen(commands: Any) -> None:
    sharpening = commands.add_parser(
        "sharpen",
        help="sharpen a scene of your own",
        description="Fuses two GeoTIFFs as delivered into one, tile by tile. The same command again goes on where "
        "a stopped one was; the output appears once it is complete.",
    )
    _add_scene(sharpening)
    sharpening.add_argument("--out", type=Path, required=True, metavar="FILE", help="the GeoTIFF to write")
    sharpening.add_argument(
        "--method",
        metavar="NAME|RUN",
        help="a classical method, such as brovey, gsa (the default) or mtf_glp_hpm_r; stack, the mean of several, "
        "weighed on the scene itself and made consistent with bands and PAN; auto, the best of all one scale down; "
        "bandwise, the network that comes with the "
        "package; the folder of a run, for its network trained at full resolution with language, or a file of its "
        "networks/",
    )
    plugin(sharpening)
    sharpening.add_argument(
        "--consistent",
        type=positive,
        default=0,
        metavar="N",
        help="so many steps behind the method, such as 3, after which its output, seen through the MTF, is nearly the "
        "bands; refused where PAN is measured to lie more than half a PAN pixel off the bands",
    )
    sharpening.add_argument(
        "--refine",
        metavar="WORDS",
        help='what the image shall be, such as "a sharper image": in the end it is moved that way a little, in what '
        "the bands do not see; refused like --consistent",
    )
    of_clip = "of the CLIP that reads the words"
    sharpening.add_argument(
        "--clip-model", default=EMBEDDED, metavar="M", help=f"{of_clip} (default: the package's)"
    )
    sharpening.add_argument("--clip-weights", metavar="W", help=f"{of_clip}: a tag or a file")
    sharpening.add_argument(
        "--adapt",
        nargs="?",
        const="demo",
        metavar="PRESET",
        help="first train on this scene, without ground truth, and leave a report in runs/: smoke, demo (default) or "
        "paper; begins with the network of --method, if it is given",
    )
    sharpening.add_argument("--seed", type=int, default=0, metavar="S", help="of the training")
    sharpening.add_argument(
        "--tile", type=int, default=1024, metavar="PX", help="side of a tile; memory grows with its square"
    )
    sharpening.add_argument(
        "--driver",
        choices=("GTiff", "COG"),
        default="GTiff",
        help="COG: a cloud optimised GeoTIFF, which needs room for one more copy, uncompressed, while it is written",
    )
    sharpening.add_argument(
        "--dtype",
        metavar="TYPE",
        help="of the output's values, such as uint16 or float32 (default: one that holds the bands used of MS); values "
        "that it cannot hold are clipped",
    )
    sharpening.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    sharpening.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster that sees the same files, such as tcp://host:8786",
    )


def _add_scene(parser: argparse.ArgumentParser) -> None:
    """The options that say what a scene is."""
    parser.add_argument(
        "--ms",
        action="append",
        required=True,
        metavar="FILE",
        help="the bands; may be repeated where files on one grid hold a band each. GDAL's own names, such as "
        "/vsizip/A.zip/MS.tif, do as well, here and for --pan",
    )
    parser.add_argument("--pan", required=True, metavar="FILE", help="the sharp image")
    placing = parser.add_mutually_exclusive_group()
    placing.add_argument(
        "--register",
        action="store_true",
        help="move MS first by as much as PAN is measured to lie off it; without this, more than half a PAN pixel is "
        "warned of, and more than a MS pixel refused",
    )
    placing.add_argument(
        "--shift",
        type=shift,
        metavar="ROWS,COLUMNS",
        help="move MS by so many PAN pixels down and right first (up and left are negative: --shift=-2.4,1); 0,0 takes "
        "the two as they lie",
    )
    parser.add_argument(
        "--no-georeference",
        dest="georeference",
        action="store_false",
        help="take upper left corner on upper left corner, whatever the files say of their place: for files that have "
        "RPCs or GCPs only, which go into the output",
    )
    parser.add_argument(
        "--gains",
        choices=("measured", "table"),
        default="measured",
        help="MTF gains for methods that need them, and for --consistent: measured on the scene (the default), where "
        "that is reliable, or those of the sensor's table",
    )
    parser.add_argument(
        "--sensor",
        metavar="NAME|FILE",
        help=f"names the bands, and its MTF gains serve where none are measured ({', '.join(SENSORS)}, or a YAML file "
        "with the fields of a manifest's sensor block); a network knows its own",
    )
    parser.add_argument(
        "--bands",
        type=bands,
        metavar="B,B,...",
        help="bands of the MS file and their order, as numbers from 1 or as names (default: those of the sensor that "
        "the file has, or all)",
    )
    parser.add_argument(
        "--nodata",
        type=nodata,
        metavar="V|none",
        help="the value of pixels without data in both files, beside what these declare (default: one is looked for); "
        "none: there is no such value",
    )


def _add_compare(commands: Any) -> None:
    comparing = commands.add_parser(
        "compare",
        help="find the best method for a scene of your own",
        description="Fuses the scene one scale down, where its own bands are the truth, and at full resolution, with "
        "every method, and writes DIR/index.html and DIR/scores.csv. The same command again goes on where a stopped "
        "one was.",
    )
    _add_scene(comparing)
    comparing.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write into")
    comparing.add_argument(
        "--methods",
        type=lambda text: text.split(","),
        metavar="A,B,...",
        help="classical methods, bandwise or stack (default: all)",
    )
    comparing.add_argument(
        "--networks", type=Path, nargs="+", default=[], metavar="FILE", help="files of a run's networks/"
    )
    comparing.add_argument(
        "--adapt",
        nargs="?",
        const="demo",
        metavar="PRESET",
        help="train on the scene, too, without its truth, as sharpen --adapt does: smoke or demo (default)",
    )
    comparing.add_argument("--seed", type=int, default=0, metavar="S", help="of the training")


def _add_score(commands: Any) -> None:
    scoring = commands.add_parser(
        "score",
        help="score a fused image that any program wrote",
        description="Prints every score as CSV: those without a reference, and those with one if it is given.",
    )
    scoring.add_argument("--fused", required=True, metavar="FILE", help="the image, on the pixels of PAN")
    _add_scene(scoring)
    scoring.add_argument("--reference", metavar="FILE", help="the truth, on the same pixels")


def _add_judge(commands: Any) -> None:
    judging = commands.add_parser(
        "judge",
        help="put the supervisor of a run through its gates",
        description="Measures on drawn scenes, whose truth is known, whether the language term of a run ranks fused "
        "images, whether its gradient points at the truth, and whether steps along it gain, beside the same CLIP with "
        "random weights. Prints CSV, a gate a row.",
    )
    judging.add_argument("run", type=Path, metavar="RUN", help="folder of a run whose Stage I is done")
    judging.add_argument(
        "--guidance",
        choices=("global", "dense"),
        default="global",
        help="the language term of whole images (default), or of every place of the image tower",
    )
    judging.add_argument("--deliveries", type=int, default=8, metavar="N", help="scenes drawn (default: 8)")
    judging.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
