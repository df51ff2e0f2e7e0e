"""The options of the commands that take a manifest or a run: run, table, fetch, audit, judge."""

import argparse
from pathlib import Path
from typing import Any

from clippan_lib.commands.given import plugin, positive
from clippan_lib.commands.parsers import networks_and_presets


def add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run the notebooks for one data set",
        description="Runs the notebooks in order and writes them, their numbers, figures and networks into "
        "runs/DATASET/NAME/. The last file is index.html, the report. The same command again continues a stopped run.",
        lists=networks_and_presets,
        examples=[
            "clippan run data_manifests/synthetic_wv3.yaml",
            "clippan run data_manifests/synthetic_wv3.yaml --preset smoke --network fusionnet",
            "clippan run data_manifests/wv2_grip.yaml --data DIR --seed 1 -p stage2_iterations=60",
        ],
    )
    _add_manifest(run)
    run.add_argument(
        "--network",
        metavar="NAME",
        help="the fusion network that Stage II trains, a name of the list below (default: the preset's, pnn)",
    )
    run.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of everything random (default: 0)"
    )
    run.add_argument(
        "--name", help="name of the run's folder (default: made of preset, network, seed and changes)"
    )
    plugin(run)
    _add_settings(
        run, "a field of the configuration or a parameter of a notebook, such as stage2_iterations=60"
    )


def add_table(commands: Any) -> None:
    table = commands.add_parser(
        "table",
        help="repeat a table of the paper",
        description="Trains and judges every row of a table of the paper, on each data set and with each seed. Writes "
        "tables with means, spreads and paired differences into runs/campaigns/NAME/. The same command again runs what "
        "is missing or failed.",
        lists=networks_and_presets,
        examples=[
            "clippan table 1 data_manifests/synthetic_wv3.yaml --seeds 0 1 2",
            "clippan table 2 data_manifests/synthetic_wv3_large.yaml -p network=fusionnet --jobs 2",
        ],
    )
    table.add_argument(
        "table",
        type=int,
        choices=range(1, 6),
        help="1: networks without and with CLIPPan; 2: losses of Stage II; 3: losses of Stage I; 4: stems; 5: prompts",
    )
    table.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="files of data_manifests/")
    table.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        metavar="S",
        help="seeds; each row is run with each of them (default: 0 1 2)",
    )
    table.add_argument(
        "--name", help="name of the folder (default: made of table, preset, data sets and changes)"
    )
    table.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="number of runs side by side, one thread each (default: one per processor, one on a GPU)",
    )
    table.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a Dask cluster whose workers see the same files, such as tcp://host:8786 (default: this "
        "machine)",
    )
    _add_settings(table, "a field of the configuration of all runs, such as clip_model=ViT-B-32")


def add_fetch(commands: Any) -> None:
    fetching = commands.add_parser(
        "fetch",
        help="get the files of a data set",
        description="Shows licence and citation, downloads the files whose address the manifest knows, and says which "
        "files to get by hand. A stopped download is continued. A file of another SHA-256 is refused.",
        examples=["clippan fetch data_manifests/wv2_grip.yaml --data DIR"],
    )
    _add_manifest(fetching)
    fetching.add_argument(
        "--data", type=Path, metavar="DIR", required=True, help="folder to put the data in (required)"
    )


def add_audit(commands: Any) -> None:
    auditing = commands.add_parser(
        "audit",
        help="measure a data set before training",
        description="Measures phase, registration, leakage between splits, values, truncation, simulation and band "
        "order, and writes a page with pictures. The exit status is 0 if there is no fault (warnings do not count), 1 "
        "if there is one, and 2 if the manifest cannot be used.",
        examples=[
            "clippan audit data_manifests/synthetic_wv3.yaml",
            "clippan audit data_manifests/wv2_grip.yaml --data DIR --report audit.html",
        ],
    )
    _add_manifest(auditing)
    _add_data(auditing)
    auditing.add_argument(
        "--report", type=Path, metavar="FILE", help="the page to write (default: runs/DATASET/audit.html)"
    )
    auditing.add_argument(
        "--sample",
        type=int,
        default=100,
        metavar="N",
        help="number of windows per split that are measured in detail (default: 100)",
    )
    auditing.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed that chooses these windows (default: 0)"
    )


def add_judge(commands: Any) -> None:
    judging = commands.add_parser(
        "judge",
        help="test whether the CLIP of a run can supervise fusion",
        description="Measures three things on synthetic scenes, whose truth is known: whether the language loss ranks "
        "fused images as the truth does, whether its gradient points at the truth, and whether steps along the "
        "gradient improve an image. The same CLIP with random weights is measured beside it. Prints CSV, a test a row.",
        examples=[
            "clippan judge runs/synthetic_wv3/demo_pnn_seed0",
            "clippan judge runs/synthetic_wv3/demo_pnn_seed0 --guidance dense --deliveries 16",
        ],
    )
    judging.add_argument("run", type=Path, metavar="RUN", help="folder of a run whose Stage I is done")
    judging.add_argument(
        "--guidance",
        choices=("global", "dense"),
        default="global",
        help="global: the language loss of whole images; dense: that of every place of the image tower (default: "
        "global)",
    )
    judging.add_argument(
        "--deliveries", type=int, default=8, metavar="N", help="number of synthetic scenes (default: 8)"
    )
    add_device(judging)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute; auto takes a GPU if there is one (default: auto)",
    )


def _add_manifest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "manifest", type=Path, metavar="MANIFEST", help="the data set's file in data_manifests/"
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data (default: the manifest's)"
    )


def _add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """The options of all commands that run notebooks."""
    _add_data(parser)
    parser.add_argument(
        "--preset",
        default="demo",
        metavar="NAME",
        help="smoke: a quick test whose results mean nothing; demo: minutes on a laptop; paper: the paper's numbers "
        "(default: demo)",
    )
    add_device(parser)
    parser.add_argument(
        "-p",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"sets {what}; may be repeated (default: the preset's values)",
    )
