"""``lfads check``: summarise session files, and check that a model can be trained on them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option, override, to_train
from lfads_lightning.config import LFADSError, OutputDist
from lfads_lightning.runs.remote import is_url

if TYPE_CHECKING:
    import numpy as np

    from lfads_lightning.recordings.findings import Finding

DESCRIPTION = (
    "Summarise session files, report problems that would stop training, and show the settings that "
    "recipe=auto chooses for them."
)
EPILOGUE = """\
exit status: 0 ready for training, 1 a problem was found (with --strict: or a note was printed),
2 wrong usage"""
COLUMNS = ("session", "trials", "bins", "neurons", "bin", "rate", "silent", "copies", "sharing",
           "empty")  # fmt: skip
LEGEND = """\
trials: train + valid; rate: lowest - median - highest over neurons; silent: neurons without
spikes; copies: neurons identical to another; sharing: pairs of neurons that share spikes; empty:
trials without spikes"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which files to check, and how strictly."""

    files: tuple[str | Path, ...] = option(
        doc="HDF5 file of a session", metavar="FILE", positional=True
    )
    strict: bool = option(False, "also fail on what is unusual and probably a mistake")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lfads check ...``; a user's mistake ends with one line."""
    options = Options(**Parser("check", DESCRIPTION, Options, epilog=EPILOGUE).given(argv))
    # numpy and h5py are imported once the command line is known to be right
    from lfads_lightning.runs.remote import expanded

    files = expanded(options.files)
    for path in files:
        if not is_url(path) and not Path(path).is_file():
            raise LFADSError(f"{path}: no such file; expected the HDF5 file of a session")
    from lfads_lightning.recordings.findings import check_file

    found: list[tuple[str | Path, Finding]] = []
    failed = False
    for path in files:
        try:
            found += [(path, finding) for finding in check_file(path)]
        except LFADSError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    if found:
        print(_table([_row(finding) for _, finding in found]))
        print(LEGEND)
    for path, finding in found:
        _print(path, finding)
        failed = failed or bool(finding.faults) or (options.strict and bool(finding.cautions))
    together = _together([finding for _, finding in found])
    for fault in together:
        print(f"\nproblem: {fault}")
    return int(failed or bool(together))


def _row(found: "Finding") -> list[str]:
    width = found.bin_width_s
    rates = found.rates / (width or 1)
    low, median, high = (float(q) for q in _quantiles(rates))
    unit = "/bin" if width is None else " Hz"
    equal = found.shortest == found.n_bins
    if not found.is_counts:
        low, median, high, unit = *_quantiles(found.rates), " (mean)"
    return [
        found.name,
        " + ".join(str(n) for n in found.n_trials.values()),
        f"{found.n_bins}" if equal else f"{found.shortest} - {found.n_bins}",
        str(found.n_neurons),
        "?" if width is None else f"{1000 * width:g} ms",
        f"{low:.3g} - {median:.3g} - {high:.3g}{unit}",
        str(len(found.silent)),
        str(len(found.duplicated)),
        str(len(found.correlated)),
        str(sum(found.empty_trials.values())),
    ]


def _quantiles(values: "np.ndarray") -> tuple[float, float, float]:
    ordered = sorted(values.tolist())
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]


def _table(rows: list[list[str]]) -> str:
    lines = [list(COLUMNS), *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines
    )


def _print(path: str | Path, found: "Finding") -> None:
    print(f"\n{found.source}")
    for fault in found.faults:
        print(f"  problem: {fault}")
    for caution in found.cautions:
        print(f"  note: {caution}")
    if found.noise is not None:
        print(f"  noise model: {found.noise.output_dist.name}, because {found.noise.why}")
    if not found.faults:
        from lfads_lightning.runs.remote import sibling

        # recipe=auto chooses the rest, and assumes Poisson noise for counts
        dist = OutputDist.poisson if found.noise is None else found.noise.output_dist
        is_odd = dist.is_counts and dist is not OutputDist.poisson
        words = [f"model.output_dist={dist.name}"] if is_odd else []
        folder = override("data.data_dir", str(sibling(path, "")).rstrip("/"))
        stem = override("data.data_filename_stem", Path(path).stem)
        print(f"  to train: {to_train(folder, stem, *words)}")
        print(fill(found.recipe, 98, initial_indent="  ", subsequent_indent="    "))


def _together(found: list["Finding"]) -> list[str]:
    """Return the reasons why sessions of several files cannot be trained together."""
    good = [f for f in found if not f.faults]
    # in a batch of a session with unequal trials, the longest trial of the batch decides
    same_length = [f for f in good if f.equal_trials and good[0].equal_trials]
    for what, unit, alike in (
        ("n_bins", "bins per trial", same_length),
        ("bin_width_s", "bin width in seconds", good),
    ):
        values = {getattr(f, what) for f in alike} - {None}
        if len(values) > 1:
            return [
                f"sessions differ in {unit} ({', '.join(f'{v:g}' for v in sorted(values))}), which "
                "must be the same for one model; prepare them alike, or train a model for each"
            ]
    return []
