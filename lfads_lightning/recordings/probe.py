"""Whether the HDF5 library comes through a file at all, tried out in a process of its own.

One damaged byte can send libhdf5 round for ever, or into memory that is not its own, and nothing
within the same process can stop it. The trial reads every attribute and every short text.
"""

import subprocess
import sys
from pathlib import Path

from lfads_lightning.config import LFADSError

CPU_SECONDS = 2  # that a trial may compute, and more by the size of the file
CPU_SECONDS_PER_GB = 100
WALL_SECONDS = 600  # where the system knows no limit of computing

_TRIAL = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
except ImportError:
    pass
import h5py

def read(name, item):
    try:
        for key in item.attrs:
            try:
                item.attrs[key]
            except Exception:
                pass
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "O" and item.size < 10**5:
            item[()]
    except Exception:
        pass

try:
    with h5py.File(sys.argv[1], "r") as file:
        read("", file)
        file.visititems(read)
except Exception:
    pass
"""


def try_out(path: Path) -> None:
    """Read an HDF5 file for trial; what is merely wrong in it is left to its reader.

    Raises:
        LFADSError: the library hangs or crashes.
    """
    seconds = round(CPU_SECONDS + CPU_SECONDS_PER_GB * path.stat().st_size / 1e9)
    command = [sys.executable, "-I", "-c", _TRIAL, str(path.absolute()), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=WALL_SECONDS, check=False)
        failed = done.returncode < 0  # ended by a signal
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        raise LFADSError(
            f"{path}: the HDF5 library hangs or crashes on it; the file is damaged; copy or write "
            "it again"
        )
