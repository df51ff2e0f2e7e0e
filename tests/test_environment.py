"""The package's files agree: pyproject.toml, environment.yml, constraints.txt and what the code imports."""

import ast
import copy
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
IMPORT_NAMES = {"yaml": "pyyaml", "sklearn": "scikit-learn", "open_clip": "open-clip-torch", "PIL": "pillow"}
# Used where a user has it, and never needed.
OPTIONAL = {"mamba_ssm"}
# Tools that are run, or imported by others (jinja2 by the tables of pandas), and never by us.
COMMANDS = {"ipykernel", "jupyterlab", "torchvision", "ruff", "mypy", "pytest-timeout", "pytest-xdist"}
COMMANDS |= {"nbval", "beartype", "jinja2"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def wanted(project: dict) -> dict[str, str]:
    """Name to version bounds, of the package and its tests."""
    texts = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return {canonicalize_name(item.name): str(item.specifier) for item in map(Requirement, texts)}


def offered(environment: dict) -> dict[str, str]:
    """The same for environment.yml, its pip part included."""
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    pip = [text for item in environment["dependencies"] if isinstance(item, dict) for text in item["pip"]]
    found = {}
    for text in [*conda, *(text for text in pip if not text.startswith("-"))]:
        item = Requirement(text)
        found[canonicalize_name(CONDA_NAMES.get(item.name, item.name))] = str(item.specifier)
    return found


def disagreements(project: dict, environment: dict) -> list[str]:
    want, have = wanted(project), offered(environment)
    assert have.pop("python") == project["requires-python"]
    assert have.pop("pip") == ""
    return sorted(
        f"{name}: pyproject {want.get(name)}, environment {have.get(name)}"
        for name in want.keys() | have.keys()
        if want.get(name) != have.get(name)
    )


def imports(source: str) -> set[str]:
    """Top-level names a Python text imports, except its own package's."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def sources() -> Iterator[tuple[Path, str]]:
    for folder in ("clippan_lib", "docs", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, path.read_text()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        yield path, "\n".join(re.sub(r"(?m)^\s*[%!].*$", "", cell) for cell in cells)


def test_conda_and_pip_install_the_same_packages():
    assert disagreements(project(), environment()) == []


@pytest.mark.parametrize(
    "plant",
    [
        lambda packages: packages.remove("scipy >=1.13"),
        lambda packages: packages.append("dask >=2024.1"),
        lambda packages: packages.__setitem__(packages.index("numpy >=2.0"), "numpy >=1.0"),
    ],
    ids=["a package is missing", "a package is extra", "a bound differs"],
)
def test_a_planted_difference_is_found(plant):
    planted = copy.deepcopy(environment())
    plant(planted["dependencies"])
    assert len(disagreements(project(), planted)) == 1


def test_every_import_is_declared():
    declared = wanted(project())
    ours = {"clippan_lib"} | {
        path.stem for folder in ("docs", "tests", "benchmarks") for path in (ROOT / folder).glob("*.py")
    }
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, source in sources()
        for name in imports(source) - sys.stdlib_module_names - ours - OPTIONAL
        if canonicalize_name(IMPORT_NAMES.get(name, name)) not in declared
    }
    assert missing == set()


def test_every_declared_package_is_used():
    used = {IMPORT_NAMES.get(name, name) for _, source in sources() for name in imports(source)}
    assert set(wanted(project())) - {canonicalize_name(name) for name in used} - COMMANDS == set()


def test_constraints_pin_every_declared_package_within_its_bounds():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for text in [*project()["dependencies"], *project()["optional-dependencies"]["test"]]:
        item = Requirement(text)
        assert item.specifier.contains(pins[canonicalize_name(item.name)]), text


def test_no_file_names_an_index():
    for name in ("pyproject.toml", "environment.yml", "constraints.txt", "Makefile", ".ci/run"):
        assert not re.search(r"https?://|index-url|find-links", (ROOT / name).read_text()), name


WITHOUT_UNIX = """
import sys
sys.modules |= dict.fromkeys(["fcntl", "grp", "pwd", "resource", "termios"])
from importlib import import_module
from pkgutil import walk_packages
import clippan_lib
for module in walk_packages(clippan_lib.__path__, "clippan_lib."):
    import_module(module.name)
"""


def test_the_library_is_imported_without_the_modules_that_only_unix_has():
    done = subprocess.run([sys.executable, "-c", WITHOUT_UNIX], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
