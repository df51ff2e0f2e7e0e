"""Stage II on real scenes, judged by a truth: from its start, with language and with what should not help.

    python benchmarks/one_scale_down_trained.py --shared ../shared --out docs/recipe/one_scale_down_trained.json

The demo preset one scale down, on the judged scene itself (`scale=reduced`, `patches_from=judged`): networks and
losses see degraded LRMS and PAN alone, the pseudo-supervisor is trained one scale lower still, and the scene's MS
judges. Five Stage II trainings per variant from one start, with seeds (the order of patches) that all variants share.
"start" is the pseudo-supervisor; "start, with PAN" is that network with the last layer that Stage II gives it.
The band-wise network starts from the weights that come with the package and is trained as `clippan sharpen --adapt`
does it. PNN (`--networks pnn`) starts as in the demo; a truth made sharp leaves too few pixels to train its start.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import nn

from clippan_lib.clip import shuffled
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.data import load_manifest, open_dataset
from clippan_lib.data.stacks import Scene, is_soft
from clippan_lib.files import write_json
from clippan_lib.fusion.consistency import Consistent
from clippan_lib.fusion.registry import BANDWISE, load_bandwise
from clippan_lib.metrics import reduced_scores
from clippan_lib.runs.run import Run
from clippan_lib.runs.settings import as_configured, measured_optics
from clippan_lib.sharpening.adapt import FROM_BANDWISE
from clippan_lib.training.config import make_config

MANIFESTS = Path(__file__).resolve().parents[1] / "data_manifests"
SCENES = ("imgWV2", "imgIK", "qb_fields", "phr_urban", "spot6_cropland")
OWN = {"imgWV2": "wv2_grip_whole", "imgIK": "ikonos_grip_whole"}
TRUTHS = ("delivered", "sharp")
METRICS = ("MPSNR", "SAM", "Q2n")
PATCH = 12  # LRMS px, 48 of PAN: what the smallest scene leaves two scales down
CHANGES: dict[str, dict[str, Any]] = {
    "pnn": {},
    BANDWISE: {"network": BANDWISE, **FROM_BANDWISE},
}


def manifest_of(shared: Path, scene: str, folder: Path) -> tuple[Path, Path]:
    """A manifest for which all of the scene is judged, and the folder of its data."""
    if scene in OWN:
        return MANIFESTS / f"{OWN[scene]}.yaml", shared / "data"
    content = yaml.safe_load((shared / "scenes" / scene / "manifest.yaml").read_text())
    file = folder / f"{scene}.yaml"
    file.write_text(yaml.safe_dump(content | {"split": {"train": 0, "val": 0, "test": 1}}))
    return file, shared / "scenes" / scene


def variants(run: Run) -> dict[str, Supervisor | None]:
    """Without language, with it, with the same recipe on a CLIP that has learned nothing, and with wrong texts."""
    adapted, control = run.new_supervisor(), run.new_supervisor(clip_weights=f"random:{run.seed}")
    run.stage1(adapted, "supervisor")
    run.stage1(control, "supervisor_control")
    wrong = adapted.with_prompts(shuffled(adapted.prompts, run.seed))
    return {"without language": None, "language": adapted, "random CLIP": control, "shuffled prompts": wrong}


@torch.no_grad()
def judged(network: nn.Module, run: Run) -> dict[str, float]:
    """The scores of the whole scene."""
    stack = run.patches("test", "full").stack
    whole = Scene(stack, 0).read()
    hrms = network.eval()(whole.lrms, whole.pan).clamp(0, 1).double()
    scores = reduced_scores(hrms, whole.gt.double(), run.dataset.ratio, stack.dn_max)
    return {name: scores[name].item() for name in METRICS}


def opened(shared: Path, scene: str, changes: dict[str, Any], folder: Path) -> Run:
    """A run as `open_run` makes it, but of scenes that are too small for the notebooks."""
    file, root = manifest_of(shared, scene, folder)
    config = make_config(
        "demo", scale="reduced", patches_from="judged", patch=PATCH, stride_full=PATCH, **changes
    )
    dataset = open_dataset(load_manifest(file), root)
    optics = measured_optics(dataset, config)
    dataset = as_configured(dataset, config, optics)
    return Run(dataset, config, 0, torch.device("cpu"), folder, optics)


def rows(run: Run, seeds: int) -> Iterator[dict[str, Any]]:
    """One row per variant and seed."""
    given = run.config.pseudo == BANDWISE
    pseudo = load_bandwise(run.dataset.sensor, run.dataset.ratio) if given else run.pseudo_supervisor()
    assert isinstance(pseudo, Consistent)
    patches = run.patches("train", "full")
    layered = run.new_network(patches, run.seed)
    layered.network.load_state_dict(pseudo.network.state_dict())
    yield {"variant": "start", "seed": run.seed, **judged(pseudo, run)}
    yield {"variant": "start, with PAN", "seed": run.seed, **judged(layered, run)}
    for name, supervisor in variants(run).items():
        start = time.perf_counter()
        for number, trained in enumerate(run.stage2({name: supervisor}, pseudo, "full", seeds)[name]):
            yield {"variant": name, "seed": run.seed + number, **judged(trained.network, run)}
        print(f"    {name}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Train, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and scenes/")
    parser.add_argument("--scenes", nargs="+", default=[*SCENES])
    parser.add_argument("--networks", nargs="+", choices=[*CHANGES], default=[BANDWISE])
    parser.add_argument("--truths", nargs="+", choices=TRUTHS, default=[*TRUTHS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for scene in options.scenes:
        for truth in options.truths:
            for network in options.networks:
                with tempfile.TemporaryDirectory() as folder:
                    run = opened(options.shared, scene, CHANGES[network] | {"truth": truth}, Path(folder))
                    if truth == "sharp" and (network == "pnn" or not is_soft(run.dataset.sensor)):
                        continue
                    about = {"scene": scene, "truth": truth, "network": network}
                    these = [about | row for row in rows(run, options.seeds)]
                found += these
                table = pd.DataFrame(these).groupby("variant", sort=False)[[*METRICS]].agg(["mean", "std"])
                print(f"\n{scene}, truth {truth}, {network}\n{table.round(4).to_string()}", flush=True)
                if options.out:
                    write_json(options.out, found)


if __name__ == "__main__":
    main()
