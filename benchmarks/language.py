"""What the language term adds to Stage II at full resolution, where the truth of the synthetic scenes judges.

    python benchmarks/language.py --seeds 0 1 2 --out benchmarks/results/language.json

The demo preset, from one start per seed: without language; with it, by weight; with the same recipe on a CLIP of random
weights; and with shuffled prompts. The weight of the preset was chosen by `val`; `test` judges. Rows of a seed see the
same batches in the same order, so that differences are paired.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from recipe import MANIFEST, score

from clippan_lib.clip import shuffled
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.evaluation.intervals import confidence_interval, difference_text
from clippan_lib.files import write_json
from clippan_lib.runs.run import Run, open_run
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.stage2 import train_fusion

WEIGHTS = (0.001, 0.003, 0.01)
SPLITS = ("val", "test")


def supervisors(run: Run) -> dict[str, Supervisor]:
    """The adapted CLIP and both controls."""
    adapted, control = run.new_supervisor(), run.new_supervisor(clip_weights=f"random:{run.seed}")
    run.stage1(adapted, "supervisor")
    run.stage1(control, "random_clip")
    wrong = adapted.with_prompts(shuffled(adapted.prompts, run.seed))
    return {"language": adapted, "random CLIP": control, "shuffled prompts": wrong}


def rows(run: Run, weights: Sequence[float]) -> Iterator[dict[str, Any]]:
    """One row per supervisor and weight, of one seed."""
    store, pseudo = PatchStore(run.patches("train", "full"), run.device), run.pseudo_supervisor()
    given: list[tuple[str, float, Supervisor | None]] = [("without language", 0.0, None)]
    given += [(name, weight, each) for name, each in supervisors(run).items() for weight in weights]
    for name, weight, supervisor in given:
        network = run.new_network(store.patches, run.seed)
        config = run.config.model_copy(update={"w_language": weight})
        train_fusion(
            network, store, config, supervised=False, supervisor=supervisor, pseudo=pseudo, seed=run.seed
        )
        scores = {split: score(network.eval(), run, split) for split in SPLITS}
        yield {"row": name, "weight": weight, "seed": run.seed, **scores}


def differences(found: pd.DataFrame) -> pd.DataFrame:
    """Minus training without language, seed by seed: mean and half of the 95 % interval, dB."""
    by_seed = found.set_index(["row", "weight", "seed"])[[*SPLITS]]
    minus = by_seed - by_seed.loc["without language"].droplevel("weight")
    minus = minus.drop("without language")
    return minus.groupby(["row", "weight"], sort=False).agg(
        lambda values: difference_text(*confidence_interval(values.to_numpy()))
    )


def main() -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", type=float, nargs="+", default=[*WEIGHTS])
    parser.add_argument("--guidance", choices=("global", "dense"), default="dense")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = open_run(MANIFEST, "", folder, "demo", seed, "cpu", {"guidance": options.guidance})
            for row in rows(run, options.weights):
                found.append({"guidance": options.guidance} | row)
                print(row, flush=True)
    print(differences(pd.DataFrame(found)).to_string())
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
