"""The bad inputs of `make soak` that are text: manifests, layouts of arrays, settings and names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from layouts import save_h5, save_v5
from soak_inputs import EITHER, Case, audit, manifest, sharpen


def of_settings() -> Iterator[Case]:
    """Manifests, arrays and settings."""
    yield from _manifests()
    yield from _arrays()
    yield from _settings()


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines) + "\n"


_ELSEWHERE = {
    "above": "../scene.mat",
    "absolute": "/etc/hostname",
    "above, hidden": "a/../../scene.mat",
    "of a drive": "C:/scene.mat",
    "with a backslash": r"..\\scene.mat",
    "of a share": "//host/scene.mat",
    "of GDAL": "/vsicurl/http://127.0.0.1:9/scene.mat",
    "of an address": "http://127.0.0.1:9/scene.mat",
    "of the home folder": "~/scene.mat",
    "through a link": "away/scene.mat",
    "empty": '""',
    "with a zero byte": '"scene\\0.mat"',
}


def _manifests() -> Iterator[Case]:
    texts = {
        "an alias that grows": _bomb(),
        "an alias of itself": "a: &a [*a]\n",
        "ten thousand brackets": "a: " + "[" * 10_000,
        "ten thousand levels": "".join(f"{' ' * n}a:\n" for n in range(10_000)),
        "code": "name: !!python/object/apply:os.system ['touch trap.txt']\n",
        "a tag": "name: !thing x\n",
        "a list": "- a\n- b\n",
        "a word": "synthetic\n",
        "a number": "3\n",
        "null": "null\n",
        "two documents": "a: 1\n---\nb: 2\n",
        "a tab": "name:\n\tx: 1\n",
        "keys twice": "name: a\nname: b\n",
        "a date as a key": "2020-01-01: x\n",
        "a list as a key": "[a, b]: x\n",
        "a word of ten million letters": "name: " + "x" * 10_000_000 + "\n",
    }
    for what, text in texts.items():

        def make(folder: Path, text=text) -> list[str]:
            (folder / "mat.yaml").write_text(text)
            return audit(folder, "mat.yaml")

        yield Case(f"manifests: {what}", make)

        def as_sensor(folder: Path, text=text) -> list[str]:
            (folder / "own.yaml").write_text(text)
            return sharpen(folder, "--method", "brovey", "--sensor", str(folder / "own.yaml"))

        yield Case(f"sensors: {what}", as_sensor)
    wrong = {
        "name": ["Upper", "a b", "../x", "''", "7", "null", "[a]", "x/y", "'a\n'"],
        "sensor": ["NONE", "7", "null", "[]", "{name: X}", "''"],
        "max_value": ["0", "-1", ".nan", ".inf", "many", "[1]"],
        "split": ["{}", "{train: 2, val: 0, test: 0}", "{train: -1, val: 1, test: 1}", "half"],
        "source": ["{}", "{kind: none}", "7", "[]", "{kind: mat_pair}", "{kind: mat_pair, path: a, keys: {lrms: a}}"],
        "downloads": ["7", "{scene.mat: x}", "{scene.mat: {url: 'file:///etc/passwd'}}", "{../a: {url: 'http://a'}}"],
        "more": ["1"],
        "title": ["[1]", "{a: 1}"],
    }  # fmt: skip
    for field, values in wrong.items():
        for value in values:

            def change(folder: Path, field=field, value=value) -> list[str]:
                manifest(folder, "mat.yaml", **{field: value})
                return audit(folder, "mat.yaml")

            yield Case(f"manifests: {field} {value}", change)
    kinds = {
        "mat_pair": "path: {}, keys: {{lrms: I_MS, pan: I_PAN}}",
        "geotiff": "ms: {}, pan: pan.tif",
        "nbu": "lrms_dir: {}, pan_dir: PAN, keys: {{lrms: imgMS, pan: imgPAN}}",
        "pancollection": "files: {{test_reduced: {}}}",
    }
    for kind, source in kinds.items():
        for what, path in _ELSEWHERE.items():

            def lead(folder: Path, kind=kind, source=source, path=path) -> list[str]:
                (folder / "scene.mat").write_bytes((folder / "data" / "scene.mat").read_bytes())
                (folder / "data" / "away").symlink_to("..")
                manifest(folder, "mat.yaml", kind, source.format(path))
                return audit(folder, "mat.yaml")

            yield Case(f"paths: {kind}, {what}", lead)


# ---------------------------------------------------------------- arrays


def _arrays() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    ms, pan = rng.integers(1, 2048, (64, 64, 4), np.uint16), rng.integers(1, 2048, (256, 256), np.uint16)
    pairs: dict[str, tuple[object, object]] = {
        "no rows": (ms[:0], pan[:0]),
        "no bands": (ms[..., :0], pan),
        "one dimension": (ms[0, 0], pan),
        "five dimensions": (ms[None, None], pan),
        "bands first": (ms.transpose(2, 0, 1).copy(), pan),
        "three bands": (ms[..., :3].copy(), pan),
        "PAN of another ratio": (ms, pan[:200, :200].copy()),
        "PAN with bands": (ms, ms),
        "text": ("text", pan),
        "a struct": ({"a": 1}, pan),
        "a cell": (np.array([1, "a"], object), pan),
        "complex": (ms * 1j, pan),
        "NaN": (ms * np.nan, pan),
        "infinite": (ms * np.inf, pan),
        "negative": (-ms.astype(float), pan),
        "beyond the sensor": (ms * 1e6, pan),
        "constant": (ms * 0 + 7, pan),
        "tiny": (ms[:2, :2].copy(), pan[:8, :8].copy()),
    }
    for what, (lrms, high) in pairs.items():

        def write(folder: Path, lrms=lrms, high=high) -> list[str]:
            save_v5(folder / "data" / "scene.mat", I_MS=lrms, I_PAN=high)
            return audit(folder, "mat.yaml")

        # values are what an audit is for: it says so on its page, and ends with 1
        served = {"negative", "constant", "NaN", "infinite", "beyond the sensor"}
        yield Case(f"arrays: mat, {what}", write, EITHER if what in served else "refused")

    def h5(change: Callable[[h5py.File, Path], object]) -> Callable[[Path], list[str]]:
        def make(folder: Path) -> list[str]:
            with h5py.File(folder / "data" / "test_reduced.h5", "a") as file:
                change(file, folder)
            return audit(folder, "h5.yaml")

        return make

    def replaced(key: str, made: Callable[[h5py.File, Path], object]) -> Callable[[h5py.File, Path], None]:
        def change(file: h5py.File, folder: Path) -> None:
            del file[key]
            value = made(file, folder)
            if value is not None:
                file[key] = value

        return change

    def huge(file: h5py.File, folder: Path) -> None:
        file.create_dataset("ms", (10**9, 4, 10**4, 10**4), "f8", chunks=(1, 4, 100, 100))

    def virtual(file: h5py.File, folder: Path) -> None:
        layout = h5py.VirtualLayout((6, 4, 8, 8), "f8")
        layout[:] = h5py.VirtualSource(str(folder / "data" / "train_reduced.h5"), "ms", (6, 4, 8, 8))
        file.create_virtual_dataset("ms", layout)

    def raw(file: h5py.File, folder: Path) -> None:
        (folder / "outside.raw").write_bytes(bytes(6 * 4 * 64 * 8))
        file.create_dataset(
            "ms", (6, 4, 8, 8), "f8", external=[(str(folder / "outside.raw"), 0, 6 * 4 * 64 * 8)]
        )

    made: dict[str, Callable[[h5py.File, Path], object]] = {
        "missing": lambda file, folder: None,
        "an external link": lambda file, folder: h5py.ExternalLink(str(folder / "data" / "train_reduced.h5"), "/ms"),
        "an external link to nothing": lambda file, folder: h5py.ExternalLink("none.h5", "/ms"),
        "a soft link to nothing": lambda file, folder: h5py.SoftLink("/none"),
        "a soft link to itself": lambda file, folder: h5py.SoftLink("/ms"),
        "a group": lambda file, folder: file.create_group("ms") and None,
        "text": lambda file, folder: "text",
        "of no images": lambda file, folder: np.zeros((0, 4, 8, 8)),
        "of no rows": lambda file, folder: np.zeros((6, 4, 0, 8)),
        "of one image less": lambda file, folder: np.ones((5, 4, 8, 8)),
        "of another size": lambda file, folder: np.ones((6, 4, 9, 9)),
        "of three bands": lambda file, folder: np.ones((6, 3, 8, 8)),
        "of two dimensions": lambda file, folder: np.ones((6, 4)),
        "complex": lambda file, folder: np.ones((6, 4, 8, 8), complex),
        "of terabytes": huge,
        "virtual": virtual,
        "stored in another file": raw,
    }  # fmt: skip
    for what, change in made.items():
        yield Case(f"arrays: h5, ms {what}", h5(replaced("ms", change)))
    for bad in (np.nan, np.inf, -1.0, 1e300):

        def value(file: h5py.File, folder: Path, bad=bad) -> None:
            file["ms"][0, 0, 0, 0] = bad

        yield Case(f"arrays: h5, a value {bad}", h5(value), EITHER)

    def fewer(folder: Path) -> list[str]:
        save_h5(folder / "data" / "test_reduced.h5", count=1, side=1)
        return audit(folder, "h5.yaml")

    yield Case("arrays: h5, of one pixel", fewer)


# ---------------------------------------------------------------- settings and names


_FIELDS = """
    patch=100000 patch=0 patch=-4 stage2_batch=1000000000 stage1_batch=0 stage2_iterations=-1
    stage2_iterations=1e9 clip_weights=none.pt clip_model=none clip_model=local-dir:none network=none
    pseudo=none.safetensors stage2_lr=nan stage2_lr=inf w_qnr=-1 w_qnr=nan prompts={} none=1 =1 preset
    n_seeds=0 tau_inter=0 consistency=-1 w_language=[1] overrides={} compared=[none] seed=1
    run_dir=/tmp scale=none n_seeds=999999999999999999999999999999
"""


_OPTIONS = """
    --tile=0 --tile=-1 --tile=x --consistent=0 --consistent=-1 --shift=1 --shift=nan,0 --shift=1e9,0
    --shift=0,0,0 --bands=0 --bands=9 --bands=1,1 --bands=a,2 --bands= --nodata=x --sensor=none
    --dtype=int --dtype=complex64 --method=none --method=bt_h+-1 --method=bt_h+x --method=../x --refine=
    --scheduler=none --device=none --driver=PNG --clip-model=none --gains=none
    --method=bt_h+999999999999999999999999999999
"""


def _settings() -> Iterator[Case]:
    def run(*more: str) -> Callable[[Path], list[str]]:
        return lambda folder: ["run", str(folder / "tiny.yaml"), "--preset", "smoke", *more]

    def table(*more: str) -> Callable[[Path], list[str]]:
        return lambda folder: ["table", "2", str(folder / "tiny.yaml"), "--preset", "smoke", *more]

    names = [
        "{seed}",
        "a{b",
        "../x",
        "/x",
        ".hidden",
        "a/b",
        "",
        " ",
        "x" * 300,
        "a\nb",
        "a\0b",
        "<b>",
        "a b",
        "..",
    ]
    for name in names:
        yield Case(f"names: run {name[:20]!r}", run(f"--name={name}"))
        yield Case(f"names: table {name[:20]!r}", table(f"--name={name}"))
    for seed in ("-1", str(2**63), str(2**200), "1.5", "x"):
        yield Case(f"seeds: run {seed[:20]}", run(f"--seed={seed}"))
        yield Case(f"seeds: table {seed[:20]}", table(f"--seeds={seed}"))
        yield Case(
            f"seeds: audit {seed[:20]}", lambda f, seed=seed: [*audit(f, "mat.yaml"), f"--seed={seed}"]
        )
    fields = [*_FIELDS.split(), *["prompts={lrms: 1}", "prompts=" + "[" * 5000]]
    for field in fields:
        yield Case(f"settings: {field[:40]}", run("-p", field))
    for more in (["--preset", "none"], ["--device", "none"], ["--network", "none"], ["--data", "none"]):
        yield Case(f"settings: {' '.join(more)}", run(*more), EITHER if more[0] == "--data" else "refused")
    options = [*_OPTIONS.split(), *["--refine=" + "word " * 500]]
    for option in options:
        yield Case(f"settings: sharpen {option[:40]}", lambda folder, option=option: sharpen(folder, option))
    for option in ("--sample=0", "--sample=-1", "--sample=x"):
        yield Case(f"settings: audit {option}", lambda folder, o=option: [*audit(folder, "mat.yaml"), o])
