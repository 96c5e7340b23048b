"""Install the wheel as a user does, with every Python of this machine, and train two epochs.

    python tests/install.py [--pythons python3.10 python3.13] [--index URL] [--no-pins]

Pip's own configuration applies; ``--index https://pypi.org/simple`` takes packages only from there.
Needs the package ``build`` (extra [dev]). If torch comes with CUDA, each Python takes some minutes,
and 6 GB of disk space until it is done.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
EPOCHS = 2
KERNEL = """
from lfads_lightning.model import native
print(native.library()._name)
"""
CHECKS = """
import importlib.resources, lfads_lightning
assert importlib.resources.files("lfads_lightning").joinpath("py.typed").is_file(), "no py.typed"
print("lfads-lightning", lfads_lightning.__version__)
"""


class Failed(Exception):
    """A step failed; the message contains its output."""


def main() -> int:
    """Try each Python; return the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pythons", nargs="*", help="programs to try; by default all that are found"
    )
    parser.add_argument("--index", help="take packages only from this index")
    parser.add_argument("--no-pins", action="store_true", help="do not use constraints.txt")
    given = parser.parse_args()
    programs = given.pythons or found_pythons()
    if not programs:
        print("no Python 3.10 to 3.14 was found", file=sys.stderr)
        return 1
    failed = []
    with tempfile.TemporaryDirectory(prefix="lfads-install-") as scratch:
        print("building the wheel and the sdist ...", flush=True)
        carries = sys.platform == "linux" and platform.machine() == "x86_64" and which_compiler()
        hook = {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": str(bool(carries)).lower()}
        words = ["-m", "build", "--outdir", f"{scratch}/dist", ROOT]
        run([sys.executable, *words], index=given.index, **hook)
        (wheel,) = Path(scratch, "dist").glob("*.whl")
        for program in programs:
            started = time.monotonic()
            folder = Path(scratch, "try")
            try:
                try_python(program, wheel, folder, given.index, not given.no_pins)
            except Failed as error:
                failed.append(program)
                print(f"{program}: failed: {error}", flush=True)
            else:
                print(f"{program}: passed, {time.monotonic() - started:.0f} s", flush=True)
            shutil.rmtree(folder, ignore_errors=True)  # several GB, and the next needs as much
    return len(failed)


def which_compiler() -> str | None:
    """Return the compiler for the wheel's kernel."""
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")


def found_pythons() -> list[str]:
    """Return the supported Pythons of this machine, including those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = []
    for version in PYTHONS:
        candidates = [f"python{version}", *sorted(map(str, pyenv.glob(f"{version}.*/bin/python3")))]
        found += [c for c in candidates if is_python(c, version)][:1]
    return found


def is_python(program: str, version: str) -> bool:
    """Return whether a program runs and is this version: pyenv may have a name without a Python."""
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([program, "-c", asked], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == version


def try_python(program: str, wheel: Path, folder: Path, index: str | None, is_pinned: bool) -> None:
    """Make an environment, install the wheel, and train in an empty folder without a compiler.

    Raises:
        Failed: a step failed.
    """
    venv, empty = folder / "venv", folder / "empty"
    empty.mkdir(parents=True)
    run([program, "-m", "venv", venv])
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    pins = ["-c", ROOT / "constraints.txt"] if is_pinned else []
    run([programs / "python", "-m", "pip", "install", *pins, wheel], index=index)
    alone = {
        "PATH": str(programs),  # has no compiler
        "HOME": str(folder),  # has no kernels from earlier builds
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    run([programs / "python", "-c", CHECKS], cwd=empty, **alone)
    said = run([programs / "lfads", "--version"], cwd=empty, **alone)
    if said.strip() != "lfads-lightning " + wheel.name.split("-")[1]:
        raise Failed(f"--version says {said}")
    if "manylinux" in wheel.name:  # it contains the kernel
        for asked in ("", "x86-64-v3"):
            used = run([programs / "python", "-c", KERNEL], cwd=empty, LFADS_KERNEL=asked, **alone)
            if not used.strip().startswith(str(venv)):
                raise Failed(f"the kernel that was used is {used}")
    words = ["experiment=lorenz", f"trainer.max_epochs={EPOCHS}", "trainer.device=cpu:0"]
    said = run([programs / "lfads", "train", *words], cwd=empty, **alone)
    (run_folder,) = (empty / "outputs").glob("*/*")
    for name in ("config.yaml", "metrics.csv", "scores.json", "report.html"):
        if not (run_folder / name).is_file():
            raise Failed(f"{name} is missing\n{said}")


def run(command: list, cwd: Path | None = None, index: str | None = None, **variables: str) -> str:
    """Run a command and return its output; the source folder is not on its path."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    if index is not None:
        environment = {k: v for k, v in environment.items() if not k.startswith(("PIP_", "UV_"))}
        environment |= {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull}
    process = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if process.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{process.stdout[-4000:]}")
    return process.stdout


if __name__ == "__main__":
    sys.exit(main())
