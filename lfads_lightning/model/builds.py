"""Builds of native.cpp in a wheel, for users without a compiler: one per kind of processor.

Their names contain a hash of the source and the flags, so that no build is used after its source
has changed. If none fits, the kernel is compiled on first use. This file needs the standard library
only, because the project's own build (``hatch_build.py``) uses it.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

FLAGS = "-O3 -fno-math-errno -fno-trapping-math -fopenmp -fPIC -std=c++17"
# per machine, best first: features in /proc/cpuinfo that a build needs (x86-64 psABI)
_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
KINDS: dict[str, dict[str, set[str]]] = {
    "x86_64": {
        "x86-64-v4": _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
        "x86-64-v3": _V3,
    },
    "aarch64": {"armv8-a": set()},
}


def compiler() -> str | None:
    """Return the C++ compiler: ``CXX``, or else c++ or g++; None if there is none."""
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")


def name(kind: str, source: Path) -> str:
    """Return the file name of the build for a kind of processor."""
    made_of = source.read_bytes() + f"{FLAGS} {kind}".encode()
    return f"native-{kind}-{hashlib.sha256(made_of).hexdigest()[:16]}.so"


def fitting(source: Path, machine: str, features: Collection[str], only: str = "") -> Path | None:
    """Return the best build beside the source that this processor can run, or None.

    Args:
        source: native.cpp.
        machine: as ``platform.machine()``.
        features: features of the processor, by their names in /proc/cpuinfo.
        only: the only kind to consider; empty: any.
    """
    for kind, needed in KINDS.get(machine, {}).items():
        path = source.with_name(name(kind, source))
        if only in ("", kind) and needed <= set(features) and path.is_file():
            return path
    return None


def build(kind: str, compiler: str, source: Path, folder: Path) -> Path:
    """Compile the source for a kind of processor; return the library.

    It is not linked against OpenMP: it uses that of torch, which is always loaded, and whose
    library has a different name in each version.

    Raises:
        subprocess.CalledProcessError: the compiler failed; ``stderr`` says why.
    """
    compiled, library = folder / f"{kind}.o", folder / name(kind, source)
    for words in (
        [*FLAGS.split(), f"-march={kind}", "-c", source.name, "-o", str(compiled)],
        ["-shared", "-s", str(compiled), "-o", str(library)],
    ):
        subprocess.run(
            [compiler, *words], cwd=source.parent, check=True, capture_output=True, text=True
        )
    compiled.unlink()
    return library
