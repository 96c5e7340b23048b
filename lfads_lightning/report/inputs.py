"""Figures of the inferred inputs: in single trials, around an event, and their correlation."""

import numpy as np
from matplotlib.axes import Axes

from lfads_lightning.metrics import has_missing, mean_of
from lfads_lightning.report.style import (
    FAINT,
    OURS,
    PALETTE,
    SMOOTHED,
    SPIKES,
    TRUE,
    Drawing,
    colours_of,
    condition_legend,
    mark_times,
    new_figure,
    short,
    styled,
)
from lfads_lightning.report.trials import Trials

N_INPUTS = 4


@styled
def inferred_inputs(trials: Trials) -> Drawing | None:
    """Draw inferred inputs: all trials, a few with the posterior's spread, autocorrelations."""
    inputs, spread = trials.posterior.controller_outputs, trials.spread
    if inputs is None or spread is None or trials.ar_tau is None:
        return None
    strongest = _strongest(inputs)
    inferred = inputs[:, : inputs.shape[1] - trials.n_forward]  # later ones come from the prior
    order = np.arange(len(inputs))
    if trials.condition is not None:
        order = np.argsort(trials.condition, kind="stable")
    figure = new_figure(10, 0.4 + 2.1 * len(strongest))
    axes = figure.subplots(len(strongest), 3, squeeze=False, width_ratios=[1.2, 1.4, 1])
    limit = max(np.nanpercentile(np.abs(inputs[..., strongest]), 99.5), 1e-6)
    extent = (*trials.ends, len(order) - 0.5, -0.5)
    for row, u in zip(axes, strongest, strict=True):
        image = row[0].imshow(
            inputs[order, :, u],
            aspect="auto",
            interpolation="none",
            cmap="PuOr",
            vmin=-limit,
            vmax=limit,
            extent=extent,
        )
        row[0].set_ylabel(f"input {u}\ntrial" + ("" if trials.condition is None else ", sorted"))
        figure.colorbar(image, ax=row[0], shrink=0.8)
        _with_spread(row[1], trials, inputs, spread, int(u))
        _correlation(row[2], inferred[..., u], float(trials.ar_tau[u]))
    axes[0, 0].set_title("posterior averages, all trials shown")
    axes[0, 1].set_title("some trials, ±2 sd; dashed: mean of all")
    for ax in axes[:, :2].flat:
        mark_times(ax, trials.event, trials.forward)
    for ax in axes[-1, :2]:
        ax.set_xlabel(trials.narrow_time_label)
    axes[-1, 2].set_xlabel("lag (bins)")
    return Drawing(
        "inferred_inputs",
        "Inferred inputs",
        figure,
        f"Inferred inputs of {trials.title}: a map of trials by time, a few trials with the "
        "spread of their posterior, and autocorrelations.",
        "If a band contains 0 throughout, nothing is inferred. Right: autocorrelation of the "
        "inputs and of their prior; inputs that follow noise have no correlation beyond one bin."
        f"{trials.time_note}",
    )


def _strongest(inputs: np.ndarray) -> np.ndarray:
    sd = np.nanstd(inputs, (0, 1)) if has_missing(inputs) else inputs.std((0, 1))
    return np.argsort(-sd, kind="stable")[:N_INPUTS]


def _with_spread(ax: Axes, trials: Trials, inputs: np.ndarray, spread: np.ndarray, u: int) -> None:
    for i in range(min(3, len(spread))):
        mean, sd = inputs[i, :, u], spread[i, :, u]
        colour = PALETTE[i]
        ax.fill_between(trials.time, mean - 2 * sd, mean + 2 * sd, color=colour, alpha=0.2, lw=0)
        ax.plot(trials.time, mean, color=colour, lw=1.2)
    ax.plot(
        trials.time,
        mean_of(inputs[..., u], 0, empty=np.nan),
        color=TRUE,
        lw=1,
        ls="--",
    )
    ax.axhline(0, color=FAINT, lw=0.8, zorder=0)
    ax.margins(x=0)


def _correlation(ax: Axes, values: np.ndarray, tau: float) -> None:
    """Draw the autocorrelation of (E, T), and that of the AR(1) prior."""
    n_lags = min(values.shape[1], max(int(3 * min(tau, 1e6)), 10), 60)
    centred = values - mean_of(values, (0, 1))
    variance = max(mean_of(np.square(centred), (0, 1)), 1e-300)
    found = [
        float(mean_of(centred[:, lag:] * centred[:, : values.shape[1] - lag], (0, 1)) / variance)
        for lag in range(n_lags)
    ]
    lags = np.arange(n_lags)
    ax.plot(lags, found, color=OURS, lw=1.5, label="inferred")
    ax.plot(lags, np.exp(-lags / tau), color=SPIKES, ls="--", label=f"prior, tau {tau:.3g} bins")
    ax.set(ylabel="autocorrelation", ylim=(min(-0.1, *found), 1.45))  # room for the legend
    ax.set_yticks([0, 0.5, 1])
    ax.legend(loc="upper right")


@styled
def inputs_at_event(trials: Trials) -> Drawing | None:
    """Draw the averages of inferred inputs around the event, by condition, and their spread.

    Returns:
        None without inputs, or with neither an event nor conditions: averages over trials that are
        not aligned mean nothing.
    """
    inputs, sd = trials.posterior.controller_outputs, trials.posterior.controller_outputs_sd
    if inputs is None or (trials.begin_s is None and trials.condition is None):
        return None
    groups = np.zeros(len(inputs), int) if trials.condition is None else trials.condition
    colours = colours_of(groups) if trials.condition is not None else {0: OURS}
    strongest = _strongest(inputs)
    figure = new_figure(10, 0.8 + 2.1 * len(strongest))
    axes = figure.subplots(len(strongest), 2, squeeze=False, sharex=True, width_ratios=[1.4, 1])
    for (left, right), u in zip(axes, strongest, strict=True):
        for name, colour in colours.items():
            values = inputs[groups == name, :, u]
            label = "all trials" if trials.condition is None else short(name)
            _mean_with_error(left, trials.time, values, colour, label)
        left.axhline(0, color=FAINT, lw=0.8, zorder=0)
        left.set_ylabel(f"input {u}")
        over_trials = np.sqrt(within_variance(inputs[..., u], groups))
        right.plot(trials.time, over_trials, color=OURS, lw=1.5, label="over trials")
        if sd is not None:
            posterior = np.sqrt(mean_of(np.square(sd[..., u]), 0, empty=np.nan))
            right.plot(trials.time, posterior, color=SMOOTHED, ls="--", label="of the posterior")
        right.set_ylim(0, 1.3 * max(right.get_ylim()[1], 1e-6))  # room for the legend
        for ax in (left, right):
            mark_times(ax, trials.event, trials.forward)
            ax.margins(x=0)
    by = "all trials" if trials.condition is None else "each condition"
    axes[0, 0].set_title(f"mean of {by}, ±2 standard errors")
    axes[0, 1].set_title("standard deviation")
    axes[0, 1].legend(loc="upper right")
    for ax in axes[-1]:
        ax.set_xlabel(trials.time_label)
    if trials.condition is not None:
        condition_legend(figure, colours)
    what = "around the event" if trials.event is not None else "over time"
    answers = (
        ""
        if trials.event is None
        else "An input that is related to the event leaves 0 at the event, or slightly before, "
        "because the encoders see whole trials. "
    )
    within = "" if trials.condition is None else " around the means of their conditions"
    return Drawing(
        "inputs_at_event",
        f"Inferred inputs {what}, averaged",
        figure,
        f"Inferred inputs of {trials.title} {what}: means of {by} with their standard "
        "errors; on the right, standard deviations over trials and of the posterior.",
        f"{answers}Right: how much the inputs of single trials differ{within}, and how "
        "uncertain they are. If the first is far below the second, little is known about single "
        f"trials.{trials.time_note}",
    )


def _mean_with_error(
    ax: Axes, time: np.ndarray, values: np.ndarray, colour: str, label: str
) -> None:
    """Draw the mean of (E, T) with a band of two standard errors, for more than one trial."""
    mean = mean_of(values, 0, empty=np.nan)
    ax.plot(time, mean, color=colour, lw=1.6, label=label)
    if len(values) > 1:
        n = (~np.isnan(values)).sum(0)
        squares = mean_of(np.square(values - mean), 0, empty=np.nan) * n
        with np.errstate(divide="ignore", invalid="ignore"):  # in bins of one trial only
            error = 2 * np.sqrt(squares / (n - 1) / n)
        ax.fill_between(time, mean - error, mean + error, color=colour, alpha=0.18, lw=0)


def within_variance(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the variance (T,) of (E, T) around the means of groups (E,), unbiased.

    NaN if every group has only one trial.
    """
    names, at = np.unique(groups, return_inverse=True)
    means = np.stack([mean_of(values[at == i], 0, empty=np.nan) for i in range(len(names))])
    there = ~np.isnan(values)
    groups_there = sum(there[at == i].any(0).astype(int) for i in range(len(names)))
    free = np.asarray(there.sum(0) - groups_there, float)
    free[free < 1] = np.nan
    return np.nansum(np.square(values - means[at]), 0) / free
