"""``lfads align``: write alignment matrices into session files."""

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
    "Align the neurons of several sessions by principal component regression of their condition "
    "averages (train_condition). Writes alignment_matrix_cxf and alignment_bias_c into all of the "
    "files, or, if anything fails, into none."
)


def _ridge(text: str) -> float | str:
    return text if text == "cv" else float(text)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of :func:`lfads_lightning.align`."""

    files: tuple[str | Path, ...] = option(
        doc="HDF5 file of a session", metavar="FILE", positional=True
    )
    factors_dim: int = option(doc="number of factors, the same as model.factors_dim in training")
    out: str | Path | None = option(
        None, "folder for aligned copies (default: the files themselves are changed)"
    )
    smoothing_bins: float = option(
        SMOOTHING_BINS,
        "standard deviation, in bins, of the Gaussian that smooths the averages; 0: no smoothing",
    )
    ridge: float | str = option(
        0.0,
        "ridge penalty of the regression, or cv: chosen by cross-validation over conditions; 0: "
        "least squares",
        read=(_ridge, "a number or cv"),
    )
    same_neurons: bool = option(
        False, "the sessions have the same neurons: one matrix for all, no conditions needed"
    )
    to: tuple[str | Path, ...] = option(
        (), "files that are aligned already, to align to; they are not changed", metavar="FILE"
    )
    figure: str | Path | None = option(
        None, f"PNG file for the figure (default: {ALIGNMENT} in the folder of the files)"
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lfads align ...``; a user's mistake ends with one line."""
    options = Options(**Parser("align", DESCRIPTION, Options).given(argv))
    # numpy, scipy and h5py are imported once the command line is known to be right
    from lfads_lightning.runs.remote import expanded, sibling, within
    from lfads_lightning.stitching import align, target_of

    files = expanded(options.files)
    near = sibling(files[0], ALIGNMENT) if options.out is None else within(options.out, ALIGNMENT)
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
        f"{dim} components explain {found.variance[:dim].sum():.1%} of the variance of all "
        "neurons.",
        f"{'session':<{width}} {'trials':>7} {'neurons':>8} {'R2 of components':>17} "
        f"{'R2 of averages':>15}",
    ]
    for name, n in found.n_trials.items():
        lines.append(
            f"{name:<{width}} {n:>7} {len(found.alignment_bias_c[name]):>8} "
            f"{found.components_r2[name]:>17.3f} {found.averages_r2[name]:>15.3f}"
        )
    return "\n".join(lines)
