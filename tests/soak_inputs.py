"""The bad inputs of `make soak`: damaged and hostile scenes, networks, manifests, data, settings and outputs.

Each case takes a folder with sound files (`sound`) and gives a command of it that has to be refused, in one line and
with nothing destroyed; or, where damage cannot be told from data, that may be served, but must not end in a traceback.
"""

import os
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from layouts import save_h5, save_v5
from rasters import grid, save
from scenes import scene
from tiny import tiny_manifest

from clippan_lib.fusion import build_network
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import get_sensor

REFUSED, EITHER = "refused", "either"
TRAP = "trap.txt"  # what a payload would write
_PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@dataclass(frozen=True)
class Case:
    """One bad input.

    Args:
        name: says what is wrong, and of what.
        make: changes the files of a folder; gives the command's arguments.
        expected: REFUSED or EITHER.
    """

    name: str
    make: Callable[[Path], list[str]]
    expected: str = REFUSED

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


def sound(folder: Path) -> None:
    """Files that every command takes: a scene, a network, a manifest of arrays and its data, a sensor."""
    scene(folder)
    network(folder)
    (folder / "tiny.yaml").write_text(tiny_manifest())
    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    save_v5(data / "scene.mat", I_MS=rng.integers(1, 2048, (64, 64, 4), np.uint16),
            I_PAN=rng.integers(1, 2048, (256, 256), np.uint16))  # fmt: skip
    for name in ("train_reduced", "val_reduced", "test_reduced"):
        save_h5(data / f"{name}.h5")
    manifest(folder, "mat.yaml")
    manifest(folder, "h5.yaml", kind="pancollection", source=H5)


H5 = "files: {train_reduced: train_reduced.h5, val_reduced: val_reduced.h5, test_reduced: test_reduced.h5}"
MAT = "path: scene.mat, keys: {lrms: I_MS, pan: I_PAN}"


def manifest(folder: Path, file: str, kind: str = "mat_pair", source: str = MAT, **fields: str) -> None:
    """A manifest of arrays; `fields` in the place of its own, as YAML."""
    lines = {"name": "mine", "title": "t", "sensor": "QB", "source": f"{{kind: {kind}, {source}}}"}
    if kind != "pancollection":
        lines["split"] = "{train: 0.5, val: 0.25, test: 0.25}"
    lines |= dict.fromkeys(("licence", "citation", "homepage", "how_to_get"), "none") | fields
    (folder / file).write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))


def network(folder: Path, name: str = "pnn.safetensors", **changes) -> Path:
    made = build_network("pnn", 4, 4, 0).eval()
    facts = {"name": "pnn", "sensor": get_sensor("IKONOS"), "max_value": 2047.0, "origin": {}} | changes
    TrainedNetwork(made, **facts).save(folder / name)
    return folder / name


def sharpen(
    folder: Path, *more: str, ms: str = "ms.tif", pan: str = "pan.tif", out: str = "out.tif"
) -> list[str]:
    files = ["--ms", str(folder / ms), "--pan", str(folder / pan), "--out", str(folder / out)]
    return ["sharpen", *files, *(more or ("--method", "brovey"))]


def audit(folder: Path, name: str) -> list[str]:
    report = ["--report", str(folder / "audit.html"), "--sample", "2"]
    return ["audit", str(folder / name), "--data", str(folder / "data"), *report]


def of_files() -> Iterator[Case]:
    """Files that are damaged, and scenes that are none."""
    yield from _files()
    yield from _rasters()


# ---------------------------------------------------------------- files that are no files, or not whole


def _cut(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(share * path.stat().st_size))


def _flipped(seed: int, part: slice = slice(None)) -> Callable[[Path], None]:
    """One bit of a file, or of a part of it."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        where = random.Random(seed).choice(range(len(content))[part])
        content[where] ^= 1 << seed % 8
        path.write_bytes(content)

    return flip


def _replaced(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


class _Payload:
    def __reduce__(self):
        return os.system, (f"touch {TRAP}",)


_DAMAGES: dict[str, Callable[[Path], object]] = {
    **{f"cut to {share:.0%}": _cut(share) for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)},
    "empty": _replaced(b""),
    "one byte": _replaced(b"I"),
    "a web page": _replaced(_PAGE),
    "zeros": _replaced(bytes(4096)),
    "noise": _replaced(random.Random(0).randbytes(4096)),
    "its header and noise": lambda path: path.write_bytes(path.read_bytes()[:16] + random.Random(1).randbytes(4096)),
    "a pickle": _replaced(pickle.dumps(_Payload())),
    "missing": _instead(lambda path: None),
    "a folder": _instead(Path.mkdir),
    "a link to nothing": _instead(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
}  # fmt: skip
# A fused file, and the command that reads it
_READ_BY = {
    "ms.tif": sharpen,
    "pan.tif": sharpen,
    "pnn.safetensors": lambda folder: sharpen(folder, "--method", str(folder / "pnn.safetensors")),
    "tiny.yaml": lambda folder: ["run", str(folder / "tiny.yaml"), "--preset", "smoke"],
    "mat.yaml": lambda folder: audit(folder, "mat.yaml"),
    "data/scene.mat": lambda folder: audit(folder, "mat.yaml"),
    "data/test_reduced.h5": lambda folder: audit(folder, "h5.yaml"),
}
# A cut YAML may be a whole one
_MAY_BE_WHOLE = {("tiny.yaml", "cut to 90%"), ("mat.yaml", "cut to 90%")}


def _files() -> Iterator[Case]:
    for file, command in _READ_BY.items():
        for damage, harm in _DAMAGES.items():

            def make(folder: Path, file=file, command=command, harm=harm) -> list[str]:
                harm(folder / file)
                return command(folder)

            expected = EITHER if (file, damage) in _MAY_BE_WHOLE else REFUSED
            yield Case(f"files: {file}, {damage}", make, expected)
        for seed in range(8):

            def flip(folder: Path, file=file, command=command, seed=seed) -> list[str]:
                _flipped(seed, slice(0, 2000) if seed % 2 else slice(None))(folder / file)
                return command(folder)

            # of a network every bit counts; an image has no checksum
            expected = REFUSED if file == "pnn.safetensors" else EITHER
            yield Case(f"files: {file}, bit {seed} flipped", flip, expected)


# ---------------------------------------------------------------- scenes


def _changed(file: str, change: Callable, **options) -> Callable[[Path], list[str]]:
    """Rewrite a file with other values, and on another grid if `options` says so."""

    def make(folder: Path) -> list[str]:
        with rasterio.open(folder / file) as source:
            image, at = source.read(), source.transform
            crs, nodata = source.crs, source.nodata
        image = change(image)
        kept = {"nodata": nodata} if image.dtype == np.uint16 else {}
        save(folder / file, image, **({"transform": at, "crs": crs} | kept | options))
        return sharpen(folder)

    return make


def _filled(value: float, share: float) -> Callable:
    def fill(image: np.ndarray) -> np.ndarray:
        image = image.astype(np.float32)
        image[..., : int(share * image.shape[-1])] = value
        return image

    return fill


def _vrt(text: str, file: str = "ms.vrt") -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / file).write_text(text.replace("FOLDER", str(folder)))
        return sharpen(folder, ms=file)

    return make


_PYTHON_PIXELS = """<VRTDataset rasterXSize="84" rasterYSize="75"><VRTRasterBand dataType="UInt16" band="1"
 subClass="VRTDerivedRasterBand"><PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python
</PixelFunctionLanguage><PixelFunctionCode><![CDATA[
import os
def f(*a, **k): os.system("touch FOLDER/trap.txt")
]]></PixelFunctionCode><SimpleSource><SourceFilename>FOLDER/ms.tif</SourceFilename></SimpleSource>
</VRTRasterBand></VRTDataset>"""
_BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">'
    "]><VRTDataset rasterXSize='84' rasterYSize='75'><SRS>&c;</SRS></VRTDataset>"
)


def _vrt_of(source: str, side: str = "84") -> Callable[[Path], list[str]]:
    """The four bands of a source, on the grid of MS."""
    of_band = (
        '<VRTRasterBand dataType="UInt16" band="{0}"><SimpleSource><SourceFilename>{1}</SourceFilename>'
        "<SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"
    )
    bands = "".join(of_band.format(band, source) for band in range(1, 5))
    place = ", ".join(map(str, grid(4, 0.5, 0.5).to_gdal()))
    head = f'<VRTDataset rasterXSize="{side}" rasterYSize="75"><SRS>EPSG:32632</SRS>'
    return _vrt(f"{head}<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>")


def _rasters() -> Iterator[Case]:
    values = {
        "all NaN": _filled(np.nan, 1),
        "all infinite": _filled(np.inf, 1),
        "all one value": _filled(7, 1),
        "all zero": lambda image: image * 0,
        "half -3.4e38": _filled(-3.4e38, 0.5),
        "half infinite": _filled(np.inf, 0.5),
        "complex": lambda image: image.astype(np.complex64),
        "of one pixel": lambda image: image[:, :1, :1],
        "of one row": lambda image: image[:, :1],
        "of one column": lambda image: image[..., :1],
    }
    for file in ("ms.tif", "pan.tif"):
        for what, change in values.items():
            # one value is warned of: PAN shows none of the bands
            expected = EITHER if what.startswith(("half", "all one")) else REFUSED
            yield Case(f"scenes: {file} {what}", _changed(file, change), expected)
        places = {
            "without a place": {"transform": None},
            "of another zone": {"crs": "EPSG:32640"},
            "far away": {"transform": grid(4, 1e6, 1e6)},
            "with pixels of no size": {"transform": rasterio.Affine(0, 0, 4e5, 0, 0, 5e6)},
            "turned": {"transform": rasterio.Affine.rotation(30) @ grid(4)},
            "with pixels of a third": {"transform": grid(4 / 3)},
            "a thousand times too large": {"transform": grid(4000)},
            "at infinity": {"transform": rasterio.Affine(2, 0, 1e300, 0, -2, 1e300)},
        }
        for what, options in places.items():
            yield Case(f"scenes: {file} {what}", _changed(file, lambda image: image, **options))
    yield Case("scenes: PAN of four bands", lambda folder: sharpen(folder, pan="ms.tif"))
    yield Case("scenes: MS and PAN swapped", lambda folder: sharpen(folder, ms="pan.tif", pan="ms.tif"))
    yield Case("scenes: the sources of a VRT are missing", _vrt_of("FOLDER/none.tif"))
    yield Case("scenes: a VRT of itself", _vrt_of("FOLDER/ms.vrt"))
    yield Case("scenes: a VRT with code", _vrt(_PYTHON_PIXELS))
    yield Case("scenes: a VRT that grows", _vrt(_BOMB))
    yield Case("scenes: a VRT of the web", _vrt_of("/vsicurl/http://127.0.0.1:9/a.tif"))
    yield Case("scenes: a VRT of terabytes", _vrt_of("FOLDER/ms.tif", "2000000000"), EITHER)
    for given in (
        "/vsizip/none.zip/ms.tif",
        "GTIFF_DIR:9:ms.tif",
        "http://127.0.0.1:9/ms.tif",
        "ms.tif\n",
        "",
    ):
        yield Case(f"scenes: named {given!r}", lambda folder, given=given: ["sharpen", "--ms", given, "--pan",
                   str(folder / "pan.tif"), "--out", str(folder / "out.tif")])  # fmt: skip
