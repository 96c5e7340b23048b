"""``lfads align``: alignment matrices for sessions, into their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option
from lfads_lightning.config import SMOOTHING_BINS
from lfads_lightning.runs.names import ALIGNMENT

if TYPE_CHECKING:
    from lfads_lightning.data.alignment import Alignment

DESCRIPTION = (
    "Align the neurons of several sessions by principal-components regression of their condition "
    "averages (train_condition), and write alignment_matrix_cxf and alignment_bias_c into the "
    "files: all of them, or none."
)


def _ridge(text: str) -> float | str:
    return text if text == "cv" else float(text)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of :func:`lfads_lightning.align`."""

    files: tuple[str | Path, ...] = option(
        doc="HDF5 file of a session", metavar="FILE", positional=True
    )
    factors_dim: int = option(doc="as model.factors_dim")
    out: str | Path | None = option(None, "folder for copies (default: the files are changed)")
    smoothing_bins: float = option(
        SMOOTHING_BINS, "sd of the Gaussian over the averages' time, bins; 0: none"
    )
    ridge: float | str = option(
        0.0,
        "weight of |W|^2, or cv: chosen by leaving conditions out; 0: least squares",
        read=(_ridge, "a number or cv"),
    )
    same_neurons: bool = option(
        False, "the sessions have the same neurons: one matrix for all, no conditions needed"
    )
    to: tuple[str | Path, ...] = option((), "aligned files that stay as they are", metavar="FILE")
    figure: str | Path | None = option(None, f"PNG (default: {ALIGNMENT} beside the files)")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lfads align ...``; a user's mistake ends with one line."""
    options = Options(**Parser("align", DESCRIPTION, Options).given(argv))
    # numpy, scipy and h5py are imported once the command line is known to be right
    from lfads_lightning.runs.remote import beside, expanded, within
    from lfads_lightning.stitching import align, target_of

    files = expanded(options.files)
    near = beside(files[0], ALIGNMENT) if options.out is None else within(options.out, ALIGNMENT)
    figure = options.figure or near
    found = align(
        files,
        factors_dim=options.factors_dim,
        smoothing_bins=options.smoothing_bins,
        ridge=options.ridge,
        same_neurons=options.same_neurons,
        to=options.to,
        out=options.out,
        figure=figure,
    )
    print(table(found))
    for path in files:
        print(f"  {target_of(path, options.out)}")
    print(f"Figure: {figure}\nTrain with model.factors_dim={options.factors_dim}")


def table(found: "Alignment") -> str:
    """Return the alignment as lines for the terminal."""
    dim = found.components.shape[2]
    width = max(len("session"), *map(len, found.n_trials))
    lines = [
        f"{dim} components hold {found.variance[:dim].sum():.1%} of the variance of all neurons.",
        f"{'session':<{width}} {'trials':>7} {'neurons':>8} {'R2 of components':>17} "
        f"{'R2 of averages':>15}",
    ]
    for name, n in found.n_trials.items():
        lines.append(
            f"{name:<{width}} {n:>7} {len(found.alignment_bias_c[name]):>8} "
            f"{found.components_r2[name]:>17.3f} {found.averages_r2[name]:>15.3f}"
        )
    return "\n".join(lines)
