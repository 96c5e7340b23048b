"""Figure of behaviour decoded from the rates, with the true behaviour."""

import numpy as np
import torch
from matplotlib.axes import Axes

from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.posterior import Evaluation, judged_rates
from lfads_lightning.metrics import decode, mean_of, r2
from lfads_lightning.report.style import (
    FAINT,
    OURS,
    TRUE,
    Drawing,
    colours_of,
    condition_legend,
    new_figure,
    styled,
)
from lfads_lightning.report.trials import Trials, spaced

N_VARIABLES, N_IN_A_ROW, MOST_DOTS = 3, 8, 4000


def behaviour_drawing(run: Evaluation, session: Session, trials: Trials) -> Drawing | None:
    """Draw the behaviour of validation trials decoded from their rates, and the true behaviour.

    The decoder is that of the score ``behaviour_r2``: ridge regression, fitted to the rates of the
    training trials.

    Args:
        run: model and constants.
        session: the session of the trials.
        trials: trials of the validation split.

    Returns:
        None unless both splits have behaviour.
    """
    train, valid = session.train, session.valid
    if valid is None or train.behaviour is None or valid.behaviour is None:
        return None
    n = trials.counts.shape[1] - trials.n_forward
    seed = run.rng.initial_seed()  # so that the rates are exactly those of the scores
    anew = run._replace(rng=torch.Generator(run.rng.device).manual_seed(seed))
    known = judged_rates(anew, session.name, train).rates[:, :n]
    read = decode(known, train.behaviour[:, :n], trials.posterior.rates[:, :n])
    true = np.where(np.isnan(read), np.nan, valid.behaviour[trials.numbers][:, :n])
    return decoded_figure(trials, true, read)


@styled
def decoded_figure(trials: Trials, true: np.ndarray, read: np.ndarray) -> Drawing:
    """Draw decoded and true behaviour (E, T, K): over time, and in a plane or as dots."""
    known = ~np.isnan(true).any(2)
    each = r2(true[known], read[known])
    shown = range(min(true.shape[2], N_VARIABLES))
    figure = new_figure(10, max(1.5 * len(shown), 3) + 0.6)
    left, right = figure.subfigures(1, 2, width_ratios=[1.8, 1])  # type: ignore[misc]
    row = _one_of_each(trials)
    panels = left.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    for ax, k in zip(panels, shown, strict=True):
        _side_by_side(ax, true[row, :, k], read[row, :, k])
        ax.set_ylabel(f"behaviour {k + 1}")
        ax.set_title(f"R² {each[k]:.2f}", loc="right", fontsize=9)
    seconds = "" if trials.bin_width_s is None else f" of {true.shape[1] * trials.bin_width_s:g} s"
    panels[-1].set_xlabel(f"{len(row)} trials{seconds}, side by side")
    left.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    in_a_plane = trials.condition is not None and true.shape[2] > 1
    ax = right.subplots()
    if in_a_plane:
        _plane(ax, trials, true, read)
        how = "Right: averages of conditions, true (dashed) and decoded (solid)."
    else:
        _dots(ax, true[known][:, 0], read[known][:, 0])
        how = "Right: every bin of the first variable; on the line both are equal."
    return Drawing(
        "behaviour",
        "Behaviour decoded from the rates",
        figure,
        f"True behaviour in {len(true)} trials of {trials.title}, and behaviour decoded from the "
        f"inferred rates: R² {', '.join(f'{x:.2f}' for x in each)}.",
        "Ridge regression from the rates, fitted to training trials and applied to validation "
        f"trials, as for the score behaviour_r2. Left: trials side by side. {how}",
    )


def _one_of_each(trials: Trials) -> np.ndarray:
    """Return a few trials: from different conditions if there are any, else evenly spaced."""
    n = len(trials.counts)
    if trials.condition is None:
        return spaced(n, N_IN_A_ROW)
    rank = np.zeros(n, int)  # number of the trial within its condition
    for name in np.unique(trials.condition):
        members = trials.condition == name
        rank[members] = np.arange(members.sum())
    return np.argsort(rank, kind="stable")[:N_IN_A_ROW]


def _side_by_side(ax: Axes, true: np.ndarray, read: np.ndarray) -> None:
    n_bins = true.shape[1]
    step = n_bins + max(n_bins // 8, 1)
    for i, (was, found) in enumerate(zip(true, read, strict=True)):
        at = i * step + np.arange(n_bins)
        ax.plot(at, was, color=TRUE, lw=1.6, label="true" if i == 0 else None)
        ax.plot(at, found, color=OURS, lw=1.6, label="decoded" if i == 0 else None)
    ax.margins(x=0.01)
    ax.set_xticks([])


def _plane(ax: Axes, trials: Trials, true: np.ndarray, read: np.ndarray) -> None:
    assert trials.condition is not None
    colours = colours_of(trials.condition)
    for name, colour in colours.items():
        members = trials.condition == name
        for values, line in ((true, "--"), (read, "-")):
            mean = mean_of(values[members], 0, empty=np.nan)
            ax.plot(mean[:, 0], mean[:, 1], line, color=colour, lw=1.6)
    ax.set(xlabel="behaviour 1", ylabel="behaviour 2")
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_title("means of conditions")
    condition_legend(ax.figure, colours)


def _dots(ax: Axes, true: np.ndarray, read: np.ndarray) -> None:
    rows = spaced(len(true), MOST_DOTS)
    ends = [min(true.min(), read.min()), max(true.max(), read.max())]
    ax.plot(ends, ends, color=FAINT, lw=1, zorder=0)
    ax.plot(true[rows], read[rows], ".", ms=2.5, color=OURS, alpha=0.4)
    ax.set(xlabel="true behaviour 1", ylabel="decoded")
