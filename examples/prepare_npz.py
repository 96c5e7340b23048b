"""Turn a .npz of binned counts into the HDF5 session file that training reads.

    python examples/prepare_npz.py RECORDING.npz [MORE.npz ...] --out FOLDER

Each .npz holds ``counts`` (trials x bins x neurons). Every fifth trial (0, 5, 10, ...) becomes
validation data. Other arrays with one row per trial are stored beside the counts, split the same
way, as train_<name> and valid_<name>; single values (``bin_s``) as they are.
"""

import argparse
from pathlib import Path

import numpy as np

import lfads_lightning as lfads

VALID_EVERY = 5


def convert(source: Path, target: Path) -> Path:
    """Write one session file."""
    with np.load(source, allow_pickle=False) as file:
        arrays = dict(file)
    counts = arrays.pop("counts")
    valid = np.arange(len(counts)) % VALID_EVERY == 0
    extra = {}
    for name, array in arrays.items():
        if array.shape[:1] == counts.shape[:1]:
            extra |= {f"train_{name}": array[~valid], f"valid_{name}": array[valid]}
        else:
            extra[name] = array
    return lfads.write_session(
        target, train_data=counts[~valid], valid_data=counts[valid], source=source.name, **extra
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the session files")
    arguments = parser.parse_args()
    for source in arguments.recordings:
        target = arguments.out / f"{source.stem}.h5"
        try:
            print(convert(source, target))
        except (lfads.LFADSError, OSError, KeyError, ValueError) as error:
            parser.exit(2, f"error: {source}: {error}\n")


if __name__ == "__main__":
    main()
