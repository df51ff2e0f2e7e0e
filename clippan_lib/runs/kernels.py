"""The kernels that run notebooks: this interpreter's, with settings that suit training, started before they are needed.

Half of a short notebook's time is the start of its kernel and the import of torch. So the next notebook's kernel starts
while one runs, and imports what that notebook imports.
"""

import ast
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.client import KernelClient
from jupyter_client.manager import KernelManager

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
_ASKS_FOR_CLIP = ("supervisor", "load_clip")
# A kernel's own log has nothing for the reader of the progress; errors of cells come as exceptions.
_QUIET = "--IPKernelApp.log_level=CRITICAL"


class _Kernel(KernelManager):
    """A kernel process. Of the client that papermill makes and leaves open, the channels are closed with the kernel."""

    _client: KernelClient | None = None

    def client(self, **options: Any) -> Any:
        self._client = super().client(**options)
        return self._client

    def end(self) -> None:
        """Shut it down at once: what notebooks write is on the disk before their last cell ends."""
        if self._client is not None:
            self._client.stop_channels()
        self.shutdown_kernel(now=True)


class Kernels:
    """Context manager around notebooks that run one after the other: gives each a kernel of its own.

    At the end all kernels are shut down, those that no notebook took as well.
    """

    def __init__(self) -> None:
        self._ahead: dict[Path, _Kernel] = {}

    def __enter__(self) -> "Kernels":
        return self

    def __exit__(self, *_: object) -> None:
        while self._ahead:
            self._ahead.popitem()[1].end()

    def prepare(self, notebook: Path) -> None:
        """Start a kernel for a notebook that runs later; nobody waits for it."""
        self._ahead[notebook] = _start(notebook)

    @contextlib.contextmanager
    def kernel(self, notebook: Path) -> Iterator[_Kernel]:
        """The kernel that was prepared for a notebook, or a new one; shut down in the end."""
        kernel = self._ahead.pop(notebook, None)
        if kernel is None or not kernel.is_alive():
            kernel = _start(notebook)
        try:
            yield kernel
        finally:
            kernel.end()


def _start(notebook: Path) -> _Kernel:
    imports = f"--IPKernelApp.exec_lines=exec({_imports(notebook)!r}, {{}})"
    with kernel_environment():
        kernel = _Kernel(kernel_name=KERNEL)
        kernel.client_class = "jupyter_client.asynchronous.AsyncKernelClient"  # which papermill expects
        kernel.start_kernel(extra_arguments=[_QUIET, imports], cwd=str(notebook.parent))
    return kernel


def _imports(notebook: Path) -> str:
    """The imports of a notebook, as code; of cells that are not plain Python none.

    Also open_clip, where the library will import it: it takes as long as all the rest.
    """
    found: list[str] = []
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type != "code":
            continue
        lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
        with contextlib.suppress(SyntaxError):
            body = ast.parse("\n".join(lines)).body
            found += [ast.unparse(line) for line in body if isinstance(line, ast.Import | ast.ImportFrom)]
        found += ["import clippan_lib.clip.source"] * any(word in cell.source for word in _ASKS_FOR_CLIP)
    return "\n".join(found)


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
