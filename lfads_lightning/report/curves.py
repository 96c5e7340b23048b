"""Learning curves of a run, from its metrics.csv."""

import numpy as np
from matplotlib.axes import Axes

from lfads_lightning.report.style import (
    FAINT,
    OURS,
    PALETTE,
    SMOOTHED,
    TRUE,
    Drawing,
    new_figure,
    styled,
)

Columns = dict[str, np.ndarray]
_COLUMNS = 3
_TITLES = {
    "total": "total cost",
    "recon": "reconstruction",
    "kl_ic": "KL, initial conditions",
    "kl_co": "KL, inferred inputs",
    "l2": "L2",
    "corr": "correlation of inputs",
    "sample_recon": "reconstruction, sample validation",
    "bits_per_spike": "bits per spike, one sample",
    "co_bps": "co-smoothing",
    "fp_bps": "forward prediction",
}
_TAU = "prior/ar_tau_"
_UNITS = dict.fromkeys(("bits_per_spike", "co_bps", "fp_bps"), "bits / spike")


@styled
def learning_curves(columns: Columns, best_epoch: float | None) -> Drawing | None:
    """Draw each loss term over epochs, the ramps behind them, and the learning rate.

    Args:
        columns: columns of metrics.csv.
        best_epoch: epoch of the weights that are used; None if they are the last weights.
    """
    epochs = columns.get("epoch", np.zeros(0))
    if len(epochs) == 0:
        return None
    terms = [name for name in _TITLES if _says_something(columns, name)]
    taus = sorted(name for name in columns if name.startswith(_TAU))
    n = len(terms) + 2 + bool(taus)
    rows = -(-n // _COLUMNS)
    figure = new_figure(10, 2.15 * rows + 0.3)
    axes = figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False).ravel()
    for ax, term in zip(axes, terms, strict=False):
        _term(ax, columns, term)
    _rate(axes[len(terms)], columns)
    _ramps_and_gradient(axes[len(terms) + 1], columns)
    if taus:
        ax = axes[len(terms) + 2]
        others = PALETTE[2:]  # the first two stand for train and valid
        for i, name in enumerate(taus):
            label = f"input {name.removeprefix(_TAU)}"
            ax.plot(epochs, columns[name], color=others[i % len(others)], lw=1.2, label=label)
        if len(taus) <= len(others):
            ax.legend(loc="best")
        ax.set(title="AR(1) time constants", ylabel="bins", yscale="log")
    for ax in axes[:n]:
        _shade_ramp(ax, columns)
        if best_epoch is not None:
            ax.axvline(best_epoch, color=TRUE, lw=0.8, ls=":")
        ax.margins(x=0.01)
    for ax in axes[n:]:
        ax.set_axis_off()
    for ax in axes[max(n - _COLUMNS, 0) : n]:
        ax.set_xlabel("epoch")
        ax.tick_params(labelbottom=True)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    shown = ", ".join(_TITLES[t] for t in terms)
    return Drawing(
        "learning_curves",
        "Learning curves",
        figure,
        f"Over {len(epochs)} epochs: {shown}, learning rate, ramps and gradient norm.",
        "Grey: the KL ramp is rising; costs before its end cannot be compared with later ones. "
        "Dotted: the epoch whose weights are used. Terms include their weights, but not the ramps.",
    )


def _says_something(columns: Columns, term: str) -> bool:
    return any(
        np.nanmax(np.abs(columns[f"{split}/{term}"]), initial=0.0) > 0
        for split in ("train", "valid")
        if f"{split}/{term}" in columns and np.isfinite(columns[f"{split}/{term}"]).any()
    )


def _term(ax: Axes, columns: Columns, term: str) -> None:
    later = []
    for split, colour in (("train", SMOOTHED), ("valid", OURS)):
        values = columns.get(f"{split}/{term}")
        if values is not None and np.isfinite(values).any():
            ax.plot(columns["epoch"], values, color=colour, lw=1.3, label=split)
            rest = values[len(values) // 10 :]
            later.append(rest[np.isfinite(rest)])
    ax.set(title=_TITLES[term], ylabel=_UNITS.get(term, "nats / trial"))
    rest = np.concatenate(later)
    if len(rest) > 20:  # the first epochs are far worse, and would hide the rest
        low, high = rest.min(), rest.max()
        ax.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low) + 1e-9)


def _rate(ax: Axes, columns: Columns) -> None:
    ax.plot(columns["epoch"], columns["lr"], color=TRUE, lw=1.3)
    ax.set(title="learning rate", yscale="log")


def _ramps_and_gradient(ax: Axes, columns: Columns) -> None:
    ax.plot(columns["epoch"], columns["grad_norm"], color=PALETTE[3], lw=1.1)
    ax.set(title="gradient norm, before clipping", yscale="log")


def _shade_ramp(ax: Axes, columns: Columns) -> None:
    rising = columns["ramp/kl"] < 1
    if rising.any():
        end = columns["epoch"][rising].max()
        ax.axvspan(columns["epoch"][0], end, color=FAINT, alpha=0.25, lw=0, label="KL ramp rising")
