"""The options of the commands that take a scene as delivered: sharpen, compare, score."""

import argparse
from pathlib import Path
from typing import Any

from clippan_lib.assets import EMBEDDED
from clippan_lib.commands.given import bands, nodata, plugin, positive, shift
from clippan_lib.commands.parsers import methods_and_sensors, sensors
from clippan_lib.commands.run_options import add_device

_PAIR = "--ms MS.tif --pan PAN.tif"


def add_sharpen(commands: Any) -> None:
    sharpening = commands.add_parser(
        "sharpen",
        help="sharpen a scene of your own",
        description="Fuses two GeoTIFFs as delivered into one, tile by tile. The output appears under its name when it "
        "is complete. The same command again continues a stopped one.",
        lists=methods_and_sensors,
        examples=[
            f"clippan sharpen {_PAIR} --out OUT.tif",
            f"clippan sharpen {_PAIR} --out OUT.tif --method stack",
            f"clippan sharpen {_PAIR} --out OUT.tif --method auto --sensor WV3",
            f"clippan sharpen {_PAIR} --out OUT.tif --method bt_h --consistent 3 --register",
            f"clippan sharpen {_PAIR} --out OUT.tif --sensor WV3 --adapt",
        ],
    )
    _add_scene(sharpening)
    sharpening.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the GeoTIFF to write (required)"
    )
    sharpening.add_argument(
        "--method",
        metavar="NAME|RUN",
        help="a method of the list below; auto: the best of them on this scene, one scale down; or a trained network: "
        "the folder of a run, or a file of its networks/ (default: gsa)",
    )
    plugin(sharpening)
    sharpening.add_argument(
        "--consistent",
        type=positive,
        default=0,
        metavar="N",
        help="number of steps of consistency behind the method, such as 3: the output, seen through the MTF, then "
        "nearly equals MS; refused where PAN lies more than half a PAN pixel off MS (default: none)",
    )
    sharpening.add_argument(
        "--refine",
        metavar="WORDS",
        help='what the image shall be, such as "a sharper image": the fused image is moved a little in that direction, '
        "in what MS does not see; refused like --consistent (default: no words)",
    )
    sharpening.add_argument(
        "--clip-model",
        default=EMBEDDED,
        metavar="NAME",
        help=f"the CLIP that reads the words of --refine (default: {EMBEDDED}, the package's own)",
    )
    sharpening.add_argument(
        "--clip-weights",
        metavar="W",
        help="weights of --clip-model: a tag or a file (default: those of the package's own CLIP)",
    )
    sharpening.add_argument(
        "--adapt",
        nargs="?",
        const="demo",
        metavar="PRESET",
        help="train on this scene first, without ground truth, and leave a report in runs/. PRESET is smoke, demo or "
        "paper (demo if left out). Training begins with the network of --method if that is given (default: no "
        "training)",
    )
    sharpening.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of the training (default: 0)"
    )
    sharpening.add_argument(
        "--tile",
        type=int,
        default=1024,
        metavar="PX",
        help="side of a tile in PAN pixels; memory grows with its square (default: 1024)",
    )
    sharpening.add_argument(
        "--driver",
        choices=("GTiff", "COG"),
        default="GTiff",
        help="format of the output; COG is a cloud optimised GeoTIFF, which needs room for one more copy, "
        "uncompressed, while it is written (default: GTiff)",
    )
    sharpening.add_argument(
        "--dtype",
        metavar="TYPE",
        help="type of the output's values, such as uint16 or float32; values that it cannot hold are clipped (default: "
        "a type that holds the chosen bands of MS)",
    )
    add_device(sharpening)
    sharpening.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a Dask cluster whose workers see the same files, such as tcp://host:8786 (default: this "
        "machine)",
    )


def add_compare(commands: Any) -> None:
    comparing = commands.add_parser(
        "compare",
        help="find the best method for a scene of your own",
        description="Fuses the scene with every method, one scale down, where MS itself is the truth, and at full "
        "resolution. Writes DIR/index.html and DIR/scores.csv. The same command again continues a stopped one.",
        lists=methods_and_sensors,
        examples=[
            f"clippan compare {_PAIR} --out FOLDER --sensor WV3",
            f"clippan compare {_PAIR} --out FOLDER --sensor WV3 --methods gsa,bt_h,stack",
            f"clippan compare {_PAIR} --out FOLDER --sensor WV3 --adapt",
        ],
    )
    _add_scene(comparing)
    comparing.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder to write into (required)"
    )
    comparing.add_argument(
        "--methods",
        type=lambda text: text.split(","),
        metavar="A,B,...",
        help="methods of the list below (default: all)",
    )
    comparing.add_argument(
        "--networks",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="trained networks to compare as well: files of the networks/ of runs (default: none)",
    )
    comparing.add_argument(
        "--adapt",
        nargs="?",
        const="demo",
        metavar="PRESET",
        help="train on the scene as well, without its truth, as `sharpen --adapt` does. PRESET is smoke or demo (demo "
        "if left out; default: no training)",
    )
    comparing.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of the training (default: 0)"
    )


def add_score(commands: Any) -> None:
    scoring = commands.add_parser(
        "score",
        help="score a fused image that any program wrote",
        description="Prints every score as CSV: those without a reference, and with --reference those against it.",
        lists=sensors,
        examples=[
            f"clippan score --fused OTHER.tif {_PAIR} --sensor WV3",
            f"clippan score --fused OTHER.tif {_PAIR} --sensor WV3 --reference TRUTH.tif",
        ],
    )
    scoring.add_argument(
        "--fused", required=True, metavar="FILE", help="the fused image, on the pixels of PAN (required)"
    )
    _add_scene(scoring)
    scoring.add_argument(
        "--reference", metavar="FILE", help="the truth, on the same pixels (default: there is none)"
    )


def _add_scene(parser: argparse.ArgumentParser) -> None:
    """The options that say what a scene is."""
    parser.add_argument(
        "--ms",
        action="append",
        required=True,
        metavar="FILE",
        help="the multispectral image, MS; may be repeated if each band is a file on the same grid (required). --ms "
        "and --pan take GDAL's own names too, such as /vsizip/A.zip/MS.tif",
    )
    parser.add_argument(
        "--pan", required=True, metavar="FILE", help="the sharp image of one band, PAN (required)"
    )
    placing = parser.add_mutually_exclusive_group()
    placing.add_argument(
        "--register",
        action="store_true",
        help="measure by how much PAN lies off MS, and move MS by that first (default: MS stays; more than half a PAN "
        "pixel gives a warning, and more than one MS pixel is refused)",
    )
    placing.add_argument(
        "--shift",
        type=shift,
        metavar="ROWS,COLUMNS",
        help="move MS first by this many PAN pixels down and right; up and left are negative: --shift=-2.4,1. 0,0 "
        "takes the two as they lie (default: no shift)",
    )
    parser.add_argument(
        "--no-georeference",
        dest="georeference",
        action="store_false",
        help="lay upper left corner on upper left corner, whatever place the files name; for files that have only RPCs "
        "or GCPs, which go into the output (default: the place that the files name)",
    )
    parser.add_argument(
        "--gains",
        choices=("measured", "table"),
        default="measured",
        help="MTF gains for methods that need them, and for --consistent. measured: on the scene, where that is "
        "reliable; table: those of the sensor (default: measured)",
    )
    parser.add_argument(
        "--sensor",
        metavar="NAME|FILE",
        help="a sensor of the list below, or a YAML file with the fields of a manifest's sensor block: its band names, "
        "and its MTF gains where none are measured. A trained network knows its own. Some methods, see below, and "
        "--adapt need it (default: unknown)",
    )
    parser.add_argument(
        "--bands",
        type=bands,
        metavar="B,B,...",
        help="bands of the MS file and their order: numbers from 1, or names (default: the bands of the sensor that "
        "the file has, or all)",
    )
    parser.add_argument(
        "--nodata",
        type=nodata,
        metavar="V|none",
        help="value of pixels without data in both files, beside what the files declare; none: there is no such value "
        "(default: one is looked for)",
    )
