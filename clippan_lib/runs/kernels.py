"""The kernels that run notebooks: this interpreter's, with settings that suit training."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

KERNEL = "python3"  # the name that all notebooks ask for
# What kernels get unless it is set already. Idle OpenMP threads spin for some 10 us and then sleep: libgomp's default,
# a hundred times that, slows a step by two thirds where another process wants the core, and no spinning at all slows
# the classical methods by a fifth on cores that are free. glibc keeps what images leave: asking the kernel for fresh
# pages took a fifth of those methods' time.
SETTINGS = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "3000",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the most that mallopt(3) allows
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
_PATH = "JUPYTER_PATH"


@contextlib.contextmanager
def kernel_environment() -> Iterator[None]:
    """Kernels that are started inside, here or by a process started here, are of this interpreter.

    Jupyter takes the first kernel of a name that it finds, and a user's own settings (JUPYTER_PATH, kernels installed
    for the user) come before those of the interpreter that asks. What lies in JUPYTER_PATH comes first of all: there a
    kernel is written for as long as the context lasts.
    """
    with tempfile.TemporaryDirectory(prefix="clippan-kernel-") as folder:
        spec = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Python 3 (CLIPPan)",
            "language": "python",
        }
        place = Path(folder) / "kernels" / KERNEL / "kernel.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(spec), encoding="utf-8")
        path = os.pathsep.join(filter(None, (folder, os.environ.get(_PATH))))
        with _environment(SETTINGS | os.environ | {_PATH: path}):
            yield


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    changed = {name: value for name, value in wanted.items() if before[name] != value}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            if (value := before[name]) is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
