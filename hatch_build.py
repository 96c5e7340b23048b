"""Wheels that carry the compiled kernel: ``make wheels``.

Off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM=true, so that a wheel is for every system by default.
CXX names the compiler, LFADS_WHEEL_FOR the machine (x86_64, aarch64) that it compiles for.
"""

import importlib.util
import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OLDEST_GLIBC = 17  # 2.17, manylinux2014


class CarryKernels(BuildHookInterface):
    """Compiles native.cpp for each kind of processor, and puts the libraries beside it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the libraries to the wheel, and say in its name where it runs."""
        if self.target_name != "wheel" or version == "editable":
            return
        model = Path(self.root, "lfads_lightning", "model")
        builds, source = _loaded(model / "builds.py"), model / "native.cpp"
        machine = os.environ.get("LFADS_WHEEL_FOR") or platform.machine()
        compiler = builds.compiler()
        if platform.system() != "Linux" or machine not in builds.KINDS or compiler is None:
            raise RuntimeError(
                f"no kernel can be built for {platform.system()} on {machine}; expected Linux, a "
                f"C++ compiler, and one of {', '.join(builds.KINDS)}"
            )
        self.folder = tempfile.TemporaryDirectory()
        glibc = OLDEST_GLIBC
        for kind in builds.KINDS[machine]:
            try:
                library = builds.build(kind, compiler, source, Path(self.folder.name))
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"{kind}: {error.stderr}") from error
            build_data["force_include"][str(library)] = f"lfads_lightning/model/{library.name}"
            needed = re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes())
            glibc = max(glibc, *map(int, needed))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_{glibc}_{machine}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled."""
        if hasattr(self, "folder"):
            self.folder.cleanup()


def _loaded(file: Path) -> ModuleType:
    """Load a module by its file: the package around it would import torch."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
