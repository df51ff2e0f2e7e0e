"""The one training loop: Adam, a schedule, a history, and a checkpoint from which a run goes on exactly."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path

import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from clippan_lib.errors import CheckpointError, TrainingError, on_one_line
from clippan_lib.files import misfit, read_tensors, throw_away, write_json, write_tensors
from clippan_lib.shapes import Progress

Row = dict[str, int | float]
State = dict[str, Tensor]
Step = Callable[[int], State]
_ROWS = TypeAdapter(list[Row])
_ANEW = "it is thrown away, and the training starts anew"


@dataclass(frozen=True)
class History:
    """What each iteration measured: iteration, lr, the terms before weighting, total, grad_norm."""

    rows: list[Row] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows)

    def save(self, path: Path | str) -> None:
        """Write the rows as JSON."""
        write_json(Path(path), self.rows)

    @classmethod
    def load(cls, path: Path | str) -> "History":
        """What `save` wrote.

        Raises: ValueError on a file that holds none.
        """
        return cls.of_text(Path(path).read_text(encoding="utf-8"))

    @classmethod
    def of_text(cls, text: str) -> "History":
        """A history from its rows as JSON.

        Raises: ValueError on other JSON, or none, and on rows that are not those of the iterations from 0 on.
        """
        try:
            rows = _ROWS.validate_json(text)
        except ValidationError as error:
            raise ValueError(on_one_line(error)) from None
        if [row.get("iteration") for row in rows] != [*range(len(rows))]:
            raise ValueError("iterations are missing")
        return cls(rows)


def mix(*parts: object) -> int:
    """A seed for torch that differs with every part and depends on nothing else."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def weigh(losses: Mapping[str, tuple[float, Callable[..., Tensor]]], *images: object) -> dict[str, Tensor]:
    """The terms of a loss and their weighted sum, named "total"; a term of weight 0 is not computed.

    Args:
        losses: name to weight and function.
        images: what each function is called with.
    Raises: ValueError if no term is left.
    """
    terms = {name: loss(*images) for name, (weight, loss) in losses.items() if weight > 0}
    if not terms:
        raise ValueError(f"nothing to train on: the weights of {', '.join(losses)} are all 0")
    return terms | {"total": reduce(add, (losses[name][0] * term for name, term in terms.items()))}


def rate(lr: float, schedule: str, iteration: int, iterations: int) -> float:
    """The learning rate of an iteration.

    "constant" is `lr` throughout. "cosine" is half a cosine down to 0, times a linear rise over the first
    tenth: Adam's first steps [kingma2015adam] have the size of the learning rate whatever the gradient, and in
    a filter of 9 x 9 x 9 positive inputs they add up; without the rise PNN's filters died before they had
    learned anything.

    Raises: ValueError on another schedule.
    """
    if schedule not in ("constant", "cosine"):
        raise ValueError(f"unknown schedule {schedule!r}; choose constant or cosine")
    if schedule == "constant":
        return lr
    rise = min(1.0, (iteration + 1) / max(1, iterations // 10))
    return lr * rise * (1 + math.cos(math.pi * iteration / iterations)) / 2


def checkpoint_path(checkpoint: Path | str, key: str) -> Path:
    """The file of one run: the key is part of its name, so runs of other settings never share a file."""
    checkpoint = Path(checkpoint)
    return checkpoint.with_name(f"{checkpoint.stem}-{key[:12]}{checkpoint.suffix}")


def fit(
    modules: dict[str, nn.Module],
    step: Step,
    *,
    iterations: int,
    lr: float,
    schedule: str = "constant",
    clip_norm: float | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    key: str = "",
    every: int = 100,
    label: str = "training",
    progress: Progress | None = None,
) -> History:
    """Train what requires a gradient in `modules`, going on from the checkpoint of the same key, if any.

    A checkpoint that is damaged is thrown away, which is logged, and the training starts anew.

    The result is the same bit by bit however often the run was stopped: torch's generators are seeded by
    (seed, iteration) at every step, and `step` must draw from nowhere else. A finished run takes no step.
    On KeyboardInterrupt the state is written before it is passed on.

    Args:
        modules: by name; all their state goes into the checkpoint.
        step: iteration → named scalar terms with "total", which is minimised.
        iterations: at least 1.
        lr: Adam's learning rate, see `rate`.
        schedule: "constant" or "cosine".
        clip_norm: largest gradient norm; None for no limit.
        seed: seed of whatever `step` draws from torch's generators.
        checkpoint: its file is `checkpoint_path(checkpoint, key)`; None writes nothing.
        key: what the result depends on besides the arguments here, such as `RunConfig.key`.
        every: iterations between checkpoints; the last one is always written.
        label: first argument of `progress`.
        progress: called after each iteration with (label, iterations done, iterations, terms).
    Returns: the history, including what was done before a restart.
    Raises: TrainingError naming the iteration and the term that is not finite, the last checkpoint kept;
        CheckpointError on a file that is of another key or cannot be written; Refusal on a damaged one that cannot
        be removed; ValueError if nothing is trainable.
    """
    path = None if checkpoint is None else checkpoint_path(checkpoint, key)
    run = _Run(modules, lr, path, key)
    run.resume()
    try:
        for iteration in range(len(run.rows), iterations):
            row = {"iteration": iteration, "lr": rate(lr, schedule, iteration, iterations)}
            row |= run.gradients(step, iteration, mix(seed, "step", iteration), clip_norm)
            run.update(row)
            if len(run.rows) % every == 0 or len(run.rows) == iterations:
                run.save()
            if progress is not None:
                progress(label, len(run.rows), iterations, row)
    except KeyboardInterrupt:
        run.save()
        raise
    return History(run.rows)


class _Damaged(CheckpointError):
    """A checkpoint that nothing can go on from."""


class _Run:
    """The state of a run, in memory and on disk."""

    def __init__(self, modules: dict[str, nn.Module], lr: float, path: Path | None, key: str) -> None:
        self.modules, self.path, self.key = modules, path, key
        self.parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"nothing to train: no parameter of {', '.join(modules)} requires a gradient")
        self.adam = torch.optim.Adam(self.parameters, lr=lr)
        self.rows: list[Row] = []
        self.whole = True

    def gradients(self, step: Step, iteration: int, seed: int, clip_norm: float | None) -> Row:
        """Fill the gradients; returns the terms and the gradient's norm before clipping."""
        devices = {p.device for p in self.parameters if p.device.type != "cpu"}
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            terms = step(iteration)
            values = {name: term.item() for name, term in terms.items()}
            refuse_non_finite(values, iteration)
            self.adam.zero_grad()
            terms["total"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, math.inf if clip_norm is None else clip_norm)
        values["grad_norm"] = norm.item()
        refuse_non_finite(values, iteration)
        return values

    def update(self, row: Row) -> None:
        """Move the parameters; half moved, as after an interrupt, they must not be saved."""
        self.whole = False
        for group in self.adam.param_groups:
            group["lr"] = row["lr"]
        self.adam.step()
        self.rows.append(row)
        self.whole = True

    def save(self) -> None:
        """Write the state between two iterations, at once or not at all."""
        if self.path is None or not self.whole:
            return
        tensors = {
            f"{name}/{k}": v for name, module in self.modules.items() for k, v in module.state_dict().items()
        }
        for i, parameter in enumerate(self.parameters):
            tensors |= {f"adam/{i}/{name}": value for name, value in self.adam.state[parameter].items()}
        write_tensors(self.path, tensors, {"key": self.key, "rows": json.dumps(self.rows)})

    @torch.no_grad()
    def resume(self) -> None:
        """Take up the state on disk, if there is any that is whole."""
        if self.path is None or not os.path.lexists(self.path):
            return
        try:
            states, adam, rows = self._read(self.path)
        except _Damaged as error:
            throw_away(self.path, error)
            return
        for name, module in self.modules.items():
            module.load_state_dict(states[name])
        for parameter, state in zip(self.parameters, adam, strict=True):
            # Adam counts its steps on the CPU; the rest lies in memory as the parameter does
            self.adam.state[parameter] = {
                k: v if k == "step" else torch.empty_like(parameter).copy_(v) for k, v in state.items()
            }
        self.rows = rows

    def _read(self, path: Path) -> tuple[dict[str, State], list[State], list[Row]]:
        """The state of each module, what Adam knows of each parameter, and the rows."""
        try:
            tensors, metadata = read_tensors(path, _ANEW, finite=True)
        except CheckpointError as error:
            raise _Damaged(str(error)) from error
        if metadata.get("key") != self.key:
            raise CheckpointError(
                f"{path} belongs to another run (key {metadata.get('key')!r}, not {self.key!r}); move it away"
            )
        states = {name: _below(f"{name}/", tensors) for name in self.modules}
        adam = [_below(f"adam/{i}/", tensors) for i in range(len(self.parameters))]
        found = [misfit(states[name], module.state_dict()) for name, module in self.modules.items()]
        for state, parameter in zip(adam, self.parameters, strict=True):
            moments = dict.fromkeys(("exp_avg", "exp_avg_sq"), parameter)
            # of a parameter that no gradient has reached there is nothing
            found.append(misfit(state, {"step": torch.zeros(())} | moments) if state else "")
        try:
            rows = History.of_text(metadata.get("rows", "")).rows
        except ValueError as error:
            rows = []
            found.append(f"its history is none: {error}")
        if faults := "; ".join(filter(None, found)):
            raise _Damaged(f"{path} does not fit this training ({faults}); {_ANEW}")
        return states, adam, rows


def _below(prefix: str, tensors: State) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def refuse_non_finite(values: Mapping[str, float], iteration: int) -> None:
    """Raise TrainingError naming the iteration and the values that are not finite."""
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"iteration {iteration}: {', '.join(broken)} is not finite ({values[broken[0]]}); "
            "lower the learning rate or set clip_norm, and look for values outside [0, 1] in the data"
        )
