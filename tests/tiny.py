"""A few small patches, a supervisor with a small random CLIP, and a way to kill a run."""

import multiprocessing
import os
import signal
import time

import torch

from clippan_lib.clip.model import load_clip
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.data import Batch, PatchSet
from clippan_lib.mtf import degrade
from clippan_lib.runs.run import open_run
from clippan_lib.sensors import get_sensor

SENSOR = get_sensor("QB")


def tiny_manifest(train=2, test=1, size=256):
    """The text of a manifest of a few small synthetic scenes."""
    return f"""
name: tiny
title: A few small synthetic scenes
sensor: QB
source: {{kind: synthetic, scenes: {{train: {train}, val: 1, test: {test}}}, size: {size}, seed: 0}}
licence: Apache-2.0
citation: none
homepage: none
how_to_get: nothing to get
"""


# Fields of a run at the smoke preset that sees all scenes and patches
WHOLE = {"most_scenes": None, "most_patches": None}


def open_tiny(folder, overrides=None, **scenes):
    """A run at the smoke preset, but for the overrides, on the scenes of `tiny_manifest`."""
    (folder / "tiny.yaml").write_text(tiny_manifest(**scenes))
    return open_run(folder / "tiny.yaml", "", folder / "run", "smoke", 0, "cpu", overrides or {})


class TinyPatches(PatchSet):
    """Smooth random pictures of 16 LRMS pixels a side, their LRMS and PAN made by the sensor's own gains."""

    def __init__(self, count=6, resolution="full", has_gt=True, seed=0):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 4, 12, 12, generator=generator)
        self.gt = 0.1 + 0.8 * torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(
            0, 1
        )
        self.gt = (self.gt + 0.1 * torch.rand(self.gt.shape, generator=generator)).clamp(0, 1)
        self.lrms = degrade(self.gt, SENSOR.gnyq, 4)
        self.pan = self.gt.mean(1, keepdim=True)
        self._resolution, self._has_gt, self.size = resolution, has_gt, 16

    def __len__(self):
        return len(self.gt)

    sensor = property(lambda self: SENSOR)
    ratio = property(lambda self: 4)
    resolution = property(lambda self: self._resolution)
    has_gt = property(lambda self: self._has_gt)

    def batch(self, indices):
        index = torch.as_tensor(indices)
        return Batch(self.lrms[index], self.pan[index], self.gt[index] if self.has_gt else None, index)


def tiny_supervisor(**options):
    """An unadapted supervisor on the embedded architecture with random weights."""
    torch.manual_seed(0)
    supervisor = Supervisor(load_clip("embedded", "random:0"), SENSOR, "wald", **options)
    patches = TinyPatches()
    supervisor.fit_stretch(patches.lrms, patches.pan)
    return supervisor


def killed_after(done, train):
    """Run `train(progress)` in another process, killed without warning once `done` iterations are done."""
    context = multiprocessing.get_context("fork")
    reached = context.Event()

    def stop(label, iteration, iterations, terms):
        if iteration == done:
            reached.set()
            time.sleep(60)

    process = context.Process(target=train, args=(stop,), daemon=True)
    process.start()
    try:
        while process.is_alive() and not reached.wait(timeout=0.1):
            pass
        assert reached.is_set(), "the process ended before it could be killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()


def state(module):
    """A copy of a module's state."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    """Whether two states are equal bit by bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name].cpu(), second[name].cpu()) for name in first
    )
