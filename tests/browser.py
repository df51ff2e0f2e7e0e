"""Notebooks in JupyterLab in a browser without a window: opened, run, their explorers moved and looked at."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

# The explorers of 09_explore, each by the label of a control that no other has
EXPLORERS = {
    "degrade": "phase (px)",
    "compare": "swipe (%)",
    "embedding": "patch",
    "prompts": "the aim",
    "words": "words",
    "history": "beside it",
}
# Seconds, of a computer that has much else to do
START, RUN, REDRAW, STOP = 120.0, 600.0, 60.0, 20.0

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Root has no sandbox, and nothing is opened but our own pages; the rest keeps it from asking other computers
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    "--IdentityProvider.token=",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
    # It ends by itself, minutes after a test that was killed
    "--MappingKernelManager.cull_idle_timeout=120",
    "--MappingKernelManager.cull_interval=30",
    "--ServerApp.shutdown_no_activity_timeout=120",
)
# Neither asks other computers nor the user
_SETTINGS = {
    "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "checkForUpdates": False,
        "fetchNews": "false",
    }
}
_OPEN = """async () => {
    await jupyterapp.restored
    window.panel = [...jupyterapp.shell.widgets('main')].find(each => each.sessionContext)
    await panel.context.ready
    jupyterapp.shell.collapseLeft()
}"""
_RUN = """() => {
    const run = async () => {
        await panel.sessionContext.ready
        await panel.sessionContext.session.kernel.info
        jupyterapp.shell.activateById(panel.id)
        return await jupyterapp.commands.execute('notebook:run-all-cells')
    }
    window.ended = null
    run().then(() => { window.ended = 'well' }, error => { window.ended = String(error) })
}"""
_OUTPUTS = "panel.context.model.toJSON().cells.flatMap(cell => cell.outputs ?? [])"
_ERRORS = f"""() => {_OUTPUTS}.filter(output => output.output_type === 'error')
    .map(output => `${{output.ename}}: ${{output.evalue}}`)"""
_BOX = ".jp-OutputArea-output .clippan-explorer"
_LOADED = "filter(image => image.complete && image.naturalWidth > 0).length"
_DRAWN = "filter(canvas => canvas.dataset.drawn).length"
# An explorer's output is a widget and a still image
_ALL_SHOWN = f"""() => {_OUTPUTS}.map(output => output.data ?? {{}})
    .filter(data => 'application/vnd.jupyter.widget-view+json' in data && 'image/png' in data).length
    === [...document.querySelectorAll('{_BOX}')]
    .filter(box => [...box.querySelectorAll('.clippan-canvas')].{_DRAWN} +
        [...box.querySelectorAll('.widget-image')].{_LOADED}).length"""
_IMAGES = f"count => [...document.querySelectorAll('.jp-OutputArea-output img')].{_LOADED} === count"
# All that is drawn or loaded; the address of an image changes with every redraw, even of the same picture
_BYTES = """async box => {
    const parts = [...box.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())
    for (const image of box.querySelectorAll('.widget-image'))
        parts.push([...new Uint8Array(await (await fetch(image.src)).arrayBuffer())].join(' '))
    const bytes = new TextEncoder().encode(parts.join(' '))
    return [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))].join(' ')
}"""
_STEPS = 8  # of a drag


def missing() -> str | None:
    """What a test in a browser lacks here; None if nothing."""
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install -e '.[test]'"
    if _executable() is None:
        return f"no browser: none of {', '.join(_NAMES)} is on the PATH"
    return None


def _executable() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Seen(NamedTuple):
    """What a user sees of an explorer: its pictures (a digest of the bytes), the numbers, an error in red."""

    picture: str
    numbers: str
    alarm: str


class Shown:
    """An explorer in a page.

    Args:
        page: of the notebook.
        box: the element that holds its controls, the alarm, the picture and the numbers.
    """

    def __init__(self, page: "Page", box: "Locator") -> None:
        self.page, self.box = page, box

    def canvas(self, number: int = 0) -> "Locator":
        """One of its canvases: frames that are moved together."""
        return self.box.locator(".clippan-canvas").nth(number)

    def frame(self, number: int = 0, canvas: int = 0) -> "Locator":
        """A picture of a canvas."""
        return self.canvas(canvas).locator("canvas").nth(number)

    def state(self, name: str, canvas: int = 0) -> list[float]:
        """Numbers of a canvas: its "view" (top, left and side), its "spot" (row and column), its "split", and
        "points": where in a map the first and the last one are, across and down, in shares."""
        return [float(each) for each in (self.canvas(canvas).get_attribute(f"data-{name}") or "").split()]

    def height(self) -> float:
        """Of all of it, px."""
        box = self.box.bounding_box()
        assert box is not None
        return box["height"]

    def point(self, across: float, down: float, frame: "Locator") -> tuple[float, float]:
        """A place in a picture, in shares of its sides, as a place in the window."""
        box = self._still(frame)
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    def _still(self, what: "Locator") -> dict[str, float]:
        """Where it is once it rests: cells are laid out when they come into view, which moves what is below them."""
        what.scroll_into_view_if_needed()
        before = None
        while (place := what.bounding_box()) != before:
            before = place
            self.page.wait_for_timeout(100)
        assert place is not None
        return dict(place)

    def drag(self, *places: tuple[float, float], frame: "Locator", keys: str = "") -> None:
        """Press the mouse at the first place of a picture, and let go at the last; with a key held down.

        Args:
            places: in shares of the picture's sides.
            frame: the picture.
            keys: such as "Shift".
        """
        start, *others = (self.point(*place, frame) for place in places)
        mouse = self.page.mouse
        mouse.move(*start)
        if keys:
            self.page.keyboard.down(keys)
        mouse.down()
        for place in others:
            mouse.move(*place, steps=_STEPS)
        mouse.up()
        if keys:
            self.page.keyboard.up(keys)

    def click(self, across: float, down: float, frame: "Locator") -> None:
        """Click on a place of a picture, in shares of its sides."""
        self.page.mouse.click(*self.point(across, down, frame))

    def wheel(self, across: float, down: float, frame: "Locator", turn: int) -> None:
        """Turn the wheel over a place of a picture: -1 looks closer."""
        self.page.mouse.move(*self.point(across, down, frame))
        self.page.mouse.wheel(0, 100 * turn)

    def control(self, label: str) -> "Locator":
        """The control with this label."""
        return self.box.get_by_text(label, exact=True).locator("..")

    def right(self, label: str) -> None:
        """One step to the right with a slider, by keyboard."""
        self.control(label).locator(".noUi-handle").press("ArrowRight")

    def left(self, label: str) -> None:
        """One step to the left with a slider, by keyboard."""
        self.control(label).locator(".noUi-handle").press("ArrowLeft")

    def type(self, label: str, text: str) -> None:
        """Another text in a text box, and Enter."""
        field = self.control(label).locator("input")
        field.fill(text)
        field.press("Enter")

    def seen(self) -> Seen:
        """What it shows now."""
        shown = self.box.locator("> .widget-vbox > .widget-html")
        _, alarm, numbers = (" ".join(text.split()) for text in shown.all_text_contents())
        return Seen(self.box.evaluate(_BYTES), numbers, alarm)

    def screenshot(self) -> bytes:
        """All of it, as PNG; what the window is too low for is cut off."""
        self._still(self.box)
        return self.box.screenshot()

    def moved(
        self, move: Callable[[], None], what: Sequence[str] = ("picture", "numbers"), patience: float = REDRAW
    ) -> Seen:
        """Do something to its controls and wait until what is seen follows.

        Args:
            move: what to do.
            what: fields of `Seen` that must change.
            patience: seconds.
        Raises: AssertionError naming what stays as it was, or the error shown above the picture.
        """
        before = self.seen()
        move()
        end = time.monotonic() + patience
        while True:
            after = self.seen()
            assert not after.alarm, f"the explorer shows an error: {after.alarm}"
            same = [name for name in what if getattr(after, name) == getattr(before, name)]
            if not same:
                return after
            assert time.monotonic() < end, f"{' and '.join(same)} as before, {patience:g} s later"
            self.page.wait_for_timeout(100)


class Notebook:
    """A notebook open in a page.

    Args:
        page: where JupyterLab shows it.
    """

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.complaints: list[str] = []  # of the browser: errors in its console and those nobody catches
        page.set_default_timeout(START * 1000)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("console", self._listen)

    def _listen(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def run(self) -> None:
        """Run all cells and wait for the picture of every explorer.

        Raises: AssertionError with the errors of the cells.
        """
        self.page.evaluate(_RUN)
        self.page.wait_for_function("() => window.ended", timeout=RUN * 1000)
        errors = self.page.evaluate(_ERRORS)
        assert not errors, f"cells ended with errors: {'; '.join(errors)}"
        ended = self.page.evaluate("() => window.ended")
        assert ended == "well", f"the cells were not run: {ended}"
        self.page.wait_for_function(_ALL_SHOWN)

    def wait_for_images(self, count: int) -> None:
        """Wait until the outputs show so many images."""
        self.page.wait_for_function(_IMAGES, arg=count)

    def room(self) -> float:
        """Height of the part of the window in which the notebook is, px."""
        return self.page.evaluate("() => panel.content.node.clientHeight")

    def explorers(self) -> list[Shown]:
        """All explorers, in the notebook's order."""
        return [Shown(self.page, box) for box in self.page.locator(_BOX).all()]

    def explorer(self, label: str) -> Shown:
        """The explorer with a control of this label.

        Raises: AssertionError if there is not exactly one.
        """
        found = [explorer for explorer in self.explorers() if explorer.control(label).count()]
        assert len(found) == 1, f"{len(found)} explorers have a control {label!r}"
        return found[0]


class Lab:
    """A JupyterLab and a browser to look at it.

    Args:
        address: of the server.
        browser: of playwright.
    """

    def __init__(self, address: str, browser: "Browser") -> None:
        self.address, self.browser = address, browser

    def open(self, name: str, width: int = 1200, height: int = 900) -> Notebook:
        """Open a notebook, without running it.

        Args:
            name: its path in the server's folder.
            width: of the browser's window, px.
            height: of the browser's window, px.
        """
        page = self.browser.new_page(viewport={"width": width, "height": height})
        notebook = Notebook(page)
        page.goto(f"{self.address}lab/tree/{name}?reset")
        page.wait_for_selector(".jp-Notebook")
        page.evaluate(_OPEN)
        return notebook


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a folder, and a browser; both end with the context. Settings of the user play no part.

    Args:
        folder: what the server shows; cells run in the notebooks' folders.
    Raises: RuntimeError if `missing` says so, or with what the server says that does not start.
    """
    if reason := missing():
        raise RuntimeError(reason)
    from playwright.sync_api import sync_playwright  # tests are skipped where there is none

    with server(folder) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=_executable(), args=_ARGUMENTS)
        try:
            yield Lab(address, browser)
        finally:
            browser.close()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab on a folder, which ends with the context; see `lab`."""
    with tempfile.TemporaryDirectory() as made:
        own = Path(made)
        process = _start(folder, own)
        try:
            yield _address(process, own)
        finally:
            _end(process)


def _start(folder: Path, own: Path) -> subprocess.Popen:
    """A JupyterLab with settings, kernels and log in a folder of its own."""
    for name, settings in _SETTINGS.items():
        path = own / "jupyter_config_dir" / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTEST"))}
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = theirs | {name: str(own / name.lower()) for name in places}
    command = [sys.executable, "-m", "jupyterlab", *_OPTIONS, f"--ServerApp.root_dir={folder}"]
    with (own / "log.txt").open("w") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )


def _address(process: subprocess.Popen, own: Path) -> str:
    """Wait for the file that tells where the server listens, which looks for a free port itself, and for an answer."""
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        for path in (own / "jupyter_runtime_dir").glob("jpserver-*.json"):
            try:
                address = json.loads(path.read_text())["url"]
                urlopen(f"{address}api/status", timeout=START).close()
                return address
            except (ValueError, URLError):  # not yet written to its end, not yet listening
                pass
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not start:\n{(own / 'log.txt').read_text()[-4000:]}")


def _end(process: subprocess.Popen) -> None:
    """Ask the server to end its kernels and itself; then end what is left of it."""
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its kernels end when they miss it
        process.wait()
