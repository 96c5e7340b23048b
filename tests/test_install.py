"""What has to be installed can be: for every Python and system, with the pinned versions or not."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="Python 3.10 reads no TOML of its own")

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# a platform of uv, and what markers are asked there
PLATFORMS = {
    "x86_64-manylinux_2_28": ("linux", "x86_64"),
    "aarch64-manylinux_2_28": ("linux", "aarch64"),
    "aarch64-apple-darwin": ("darwin", "arm64"),
    "x86_64-pc-windows-msvc": ("win32", "AMD64"),
}
INDEX = "https://pypi.org/simple"
# what people install together; dev has all others
EXTRAS = ("", "ray", "dev")
CASES = list(itertools.product(PYTHONS, PLATFORMS, EXTRAS, (True, False)))
# has no wheel; pure Python, of Hydra and OmegaConf
BUILT_HERE = "antlr4-python3-runtime"


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="session")
def uv():
    """The program uv, where it can reach the index."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        pytest.skip("needs uv (extra [dev])")
    asked = ["pip", "compile", "-", "--no-config", "--default-index", INDEX, "-q"]
    answer = subprocess.run(
        [found, *asked],
        input="typing-extensions",
        capture_output=True,
        text=True,
        env=environment(),
    )
    if answer.returncode:
        pytest.skip(f"{INDEX} cannot be reached")
    return found


def environment():
    """What pip and uv are told on this machine is not what they are told on others."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    return settings | {"UV_HTTP_TIMEOUT": "120", "UV_HTTP_RETRIES": "5"}


def resolve(uv, python, platform, extra, is_pinned):
    """Return what would be installed, as {name: version}."""
    words = ["--extra", extra] if extra else []
    words += ["-c", "constraints.txt"] if is_pinned else []
    process = subprocess.run(
        [uv, "pip", "compile", "pyproject.toml", *words, "--python-version", python]
        + ["--python-platform", platform, "--no-config", "--default-index", INDEX, "--quiet"]
        + ["--only-binary", ":all:", "--no-binary", BUILT_HERE, "--no-header", "--no-annotate"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return dict(line.split("==") for line in process.stdout.split())


@pytest.mark.resolve
@pytest.mark.parametrize(("python", "platform", "extra", "is_pinned"), CASES)
def test_versions_fit_together(uv, python, platform, extra, is_pinned):
    found = resolve(uv, python, platform, extra, is_pinned)
    assert Version(found["hydra-core"]) >= Version("1.3.8")
    if is_pinned:
        pinned = {name: v for name, v in pins(python, platform).items() if name in found}
        assert {name: found[name] for name in pinned} == pinned


# --- without an index ---


def markers(python, platform):
    system, machine = PLATFORMS[platform]
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_machine": machine,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "os_name": "nt" if system == "win32" else "posix",
    }


def applies(requirement, python, platform):
    where = markers(python, platform)
    return requirement.marker is None or requirement.marker.evaluate(where | {"extra": ""})


def pins(python, platform):
    """Return {name: version} of constraints.txt; two pins of one name in one place are an error."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        line = re.sub(r"\s*#.*", "", line)
        if line and applies(requirement := Requirement(line), python, platform):
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            assert requirement.name not in found, f"{requirement.name} is pinned twice"
            found[requirement.name] = pin.version
    return found


def asked_for(python, platform):
    """Return our requirements, of the core and of all extras."""
    extras = project()["optional-dependencies"].values()
    words = [*project()["dependencies"], *itertools.chain(*extras)]
    found = [r for r in map(Requirement, words) if r.name != project()["name"]]
    return [r for r in found if applies(r, python, platform)]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_one_pin_within_its_bounds(python, platform):
    pinned = pins(python, platform)
    for requirement in asked_for(python, platform):
        assert requirement.name in pinned, f"{requirement.name} has no pin"
        assert pinned[requirement.name] in requirement.specifier


def test_pythons_of_the_project_are_those_that_are_tried():
    said = {c for c in project()["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert said == {f"Programming Language :: Python :: {python}" for python in PYTHONS}
    assert project()["requires-python"] == f">={PYTHONS[0]}"
