"""Figures of many trials: averages, trajectories, initial conditions, inferred inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lfads_lightning.metrics import (
    bits_of_neurons,
    effective_dimensionality,
    has_missing,
    mean_of,
    psth_sd,
    smooth,
)
from lfads_lightning.report.figures import lively, one_trial
from lfads_lightning.report.inputs import inferred_inputs, inputs_at_event
from lfads_lightning.report.style import (
    FAINT,
    OURS,
    PREDICTED,
    SMOOTHED,
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

N_NEURONS, N_CONDITIONS, N_LINES = 4, 3, 12


@styled
def averages(trials: Trials) -> Drawing:
    """Draw single-trial rates of a few neurons with the average of their spikes (PSTH)."""
    rates = trials.posterior.rates
    which = lively(mean_of(rates, 0), N_NEURONS, trials.held_out)
    rows = _conditions(trials)
    sd = psth_sd(trials.bin_width_s, trials.counts.shape[1])
    figure = new_figure(10, 0.5 + 1.75 * len(rows))
    axes = figure.subplots(len(rows), len(which), squeeze=False, sharex=True, sharey="col")
    for row, (label, members) in zip(axes, rows, strict=True):
        psth = smooth(mean_of(trials.counts[members], 0, empty=np.nan)[None], sd)[0]
        for ax, n in zip(row, which, strict=True):
            for i, k in enumerate(members[:N_LINES]):
                name = "LFADS, single trials" if i == 0 else None
                line = trials.per_unit * rates[k, :, n]
                ax.plot(trials.time, line, color=OURS, lw=0.7, alpha=0.5, label=name)
            mean = trials.per_unit * mean_of(rates[members, :, n], 0, empty=np.nan)
            ax.plot(trials.time, mean, color=OURS, lw=2, label="LFADS, mean")
            ax.plot(
                trials.time,
                trials.per_unit * psth[:, n],
                color=TRUE,
                lw=1.6,
                ls="--",
                label="average of the spikes" if trials.is_counts else "average of the data",
            )
            mark_times(ax, trials.event, trials.forward)
            ax.margins(x=0)
            if ax in axes[0]:
                ax.set_title(trials.named(n))
            if ax in axes[-1]:
                ax.set_xlabel(trials.narrow_time_label)
        row[0].set_ylabel(f"{label}\n{trials.rate_label}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    by = "by condition" if trials.condition is not None else "over all trials shown"
    return Drawing(
        "averages",
        "Single trials and their average",
        figure,
        f"Rates of {len(which)} neurons in single trials of {trials.title}, with their average "
        f"response, {by}.",
        f"Rates in single trials (thin), their mean (thick), and the average of the spikes "
        f"({by}, smoothed with sd {sd:.1f} bins). The two averages should agree. Single trials "
        f"should scatter around them, and not be all the same.{trials.time_note}",
    )


def _conditions(trials: Trials) -> list[tuple[str, np.ndarray]]:
    """Return a few conditions with their trials; all trials together without conditions."""
    if trials.condition is None:
        return [(f"{len(trials.counts)} trials", np.arange(len(trials.counts)))]
    names, sizes = np.unique(trials.condition, return_counts=True)
    largest = np.sort(np.argsort(-sizes, kind="stable")[:N_CONDITIONS])
    return [(_row(names[i]), np.flatnonzero(trials.condition == names[i])) for i in largest]


def _row(condition: Any) -> str:
    """Return the label of a condition's row, which is more than a bare number."""
    name = short(condition)
    return name if any(c.isalpha() for c in name) else f"condition {name}"


def components(states: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first n principal components of (..., N): scores (..., n), axes, variance shares.

    There are fewer than n if there are fewer dimensions; the shares are of all components. Rows
    with NaN are left out, and get NaN scores.
    """
    flat = states.reshape(-1, states.shape[-1]).astype(np.float64)
    known = flat[~np.isnan(flat).any(1)] if has_missing(flat) else flat
    centred, rows = flat - known.mean(0), known - known.mean(0)
    values, axes = np.linalg.eigh(rows.T @ rows)
    values, axes = np.maximum(values[::-1], 0), axes[:, ::-1]
    shares = values / max(values.sum(), 1e-300)
    scores = (centred @ axes[:, :n]).reshape(*states.shape[:-1], -1)
    return scores, axes[:, :n], shares


def _groups(trials: Trials) -> tuple[dict, np.ndarray, str]:
    """Return the colours of the groups, each trial's group, and what the groups stand for."""
    if trials.condition is not None:
        return colours_of(trials.condition), trials.condition, "condition"
    # without conditions, colours by time show whether neurons or behaviour drift
    number = np.arange(len(trials.counts))
    return colours_of(number), number, "order of trials"


@styled
def trajectories(trials: Trials) -> Drawing | None:
    """Draw the trajectories of the factors in their first three principal components."""
    factors = trials.posterior.factors
    if factors.shape[2] < 2:
        return None
    scores, _, shares = components(factors, 3)
    colours, group, by = _groups(trials)
    n = scores.shape[2]
    figure = new_figure(10, 4.6)
    left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1])  # type: ignore[misc]
    ax = left.add_subplot(projection="3d" if n == 3 else None)
    for k in range(len(scores)):
        ax.plot(*scores[k].T, color=colours[group[k]], lw=0.5, alpha=0.35)
    if trials.condition is not None:
        for name, colour in colours.items():
            mean = mean_of(scores[group == name], 0, empty=np.nan)
            ax.plot(*mean.T, color=colour, lw=2)
    dots = [colours[g] for g in group]
    ax.scatter(*scores[:, 0].T, s=8, c=dots, edgecolors="none")
    marks = "a dot at the start of each trial"
    if trials.event_bin:  # in the first bin the dots mark it already
        ax.scatter(
            *scores[:, trials.event_bin].T, s=12, c=dots, marker="D", edgecolors="white", lw=0.4
        )
        marks += ", a diamond at the event"
    labels = [f"PC {i + 1} ({100 * shares[i]:.0f} %)" for i in range(n)]
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.set_title(f"factors; {marks}")
    ax.tick_params(labelsize=7)
    if n == 3:
        ax.set_zlabel(labels[2])
        ax.set_box_aspect(None, zoom=0.9)
    _variance(right.add_subplot(), trials)
    if trials.condition is not None:
        condition_legend(left, colours)
    what = f"coloured by {by}" + ("; thick: means" if trials.condition is not None else "")
    return Drawing(
        "factors",
        "Trajectories of the factors",
        figure,
        f"Factors of {len(scores)} trials of {trials.title} in their first {n} principal "
        f"components, coloured by {by}; on the right, the variance that the components explain.",
        f"Each line is a trial, {what}. Right: variance of factors and generator states explained "
        "by the first principal components. If few explain most of it, the dynamics are "
        "low-dimensional.",
    )


def _variance(ax: Axes, trials: Trials) -> None:
    for name, states, colour in (
        ("factors", trials.posterior.factors, OURS),
        ("generator states", trials.posterior.gen_states, SMOOTHED),
    ):
        shares = components(states, 1)[2]
        held = 100 * np.cumsum(shares)[:20]
        label = f"{name}: participation ratio {effective_dimensionality(states):.1f}"
        ax.plot(np.arange(1, len(held) + 1), held, "o-", ms=3, lw=1.2, color=colour, label=label)
    ax.set(xlabel="principal components", ylabel="variance explained (%)", ylim=(0, 104))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower right")


@styled
def initial_conditions(trials: Trials) -> Drawing | None:
    """Draw the initial conditions in their first principal components, with the posterior's sd."""
    mean, logvar = trials.posterior.post_g0_mean, trials.posterior.post_g0_logvar
    if mean is None or logvar is None:
        return None
    scores, axes, shares = components(mean, 3)
    colours, group, by = _groups(trials)
    pairs = [(0, 1), (2, 1)] if scores.shape[1] > 2 else [(0, min(1, scores.shape[1] - 1))]
    sd = np.sqrt(np.exp(logvar.astype(np.float64)) @ np.square(axes))  # along the components
    figure = new_figure(10, 3.9)
    panels = figure.subplots(1, len(pairs) + 1)
    for ax, (i, j) in zip(panels, pairs, strict=False):
        ax.errorbar(
            scores[:, i],
            scores[:, j],
            sd[:, j],
            sd[:, i],
            fmt="none",
            ecolor=FAINT,
            elinewidth=0.4,
            zorder=1,
        )
        ax.scatter(scores[:, i], scores[:, j], s=14, c=[colours[g] for g in group], zorder=2)
        ax.set_xlabel(f"PC {i + 1} ({100 * shares[i]:.0f} %)")
        ax.set_ylabel(f"PC {j + 1} ({100 * shares[j]:.0f} %)")
    panels[0].set_title(f"coloured by {by}")
    kl = _kl_per_code(trials)
    panels[-1].bar(np.arange(len(kl)), np.sort(kl)[::-1], color=SMOOTHED, width=0.9)
    panels[-1].set(xlabel="dimension of the code, sorted", ylabel="KL (nats per trial)")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if trials.condition is not None:
        condition_legend(figure, colours)
    panels[-1].set_title(f"in use: {(kl > 0.05).sum()} of {len(kl)}")
    return Drawing(
        "initial_conditions",
        "Initial conditions",
        figure,
        f"Initial-condition codes of {len(scores)} trials of {trials.title} in their first "
        f"principal components, coloured by {by}; on the right, the KL from the prior in each "
        "dimension.",
        "Each dot is the posterior mean of a trial, with its standard deviation (grey). Right: "
        "KL divergence from the prior; dimensions near 0 are not used.",
    )


def _kl_per_code(trials: Trials) -> np.ndarray:
    """Return KL(q || p) of each dimension of the code (Z,), averaged over trials."""
    p = trials.posterior
    q_mean, q_logvar, p_mean, p_logvar = (
        np.asarray(a, np.float64)
        for a in (p.post_g0_mean, p.post_g0_logvar, p.prior_g0_mean, p.prior_g0_logvar)
    )
    ratio = (np.exp(q_logvar) + np.square(q_mean - p_mean)) / np.exp(p_logvar)
    return 0.5 * (p_logvar - q_logvar + ratio - 1).mean(0)


@styled
def generator_states(trials: Trials) -> Drawing:
    """Draw the generator's units in one trial, and its principal components over time."""
    states, trial = trials.posterior.gen_states, trials.median_trial
    number = trials.numbers[trial]
    own = trials.up_to_end(trial)
    one = own.posterior.gen_states[trial].T  # (G, T)
    order = np.argsort(one.argmax(1), kind="stable")
    limit = max(np.abs(one).max(), 1e-6)
    scores, _, shares = components(states, 3)
    colours, group, by = _groups(trials)
    figure = new_figure(10, 3.8)
    axes = figure.subplots(1, 1 + scores.shape[2], width_ratios=[1.3] + [1] * scores.shape[2])
    image = axes[0].imshow(
        one[order],
        aspect="auto",
        interpolation="none",
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        extent=(*own.ends, len(order) - 0.5, -0.5),
    )
    figure.colorbar(image, ax=axes[0], shrink=0.8).ax.set_title("state", fontsize=8)
    axes[0].set(title=f"all units, trial {number}", ylabel="unit, by time of peak")
    for i, ax in enumerate(axes[1:]):
        for k in range(0, len(scores), max(len(scores) // 40, 1)):
            ax.plot(trials.time, scores[k, :, i], color=colours[group[k]], lw=0.6, alpha=0.6)
        ax.set_title(f"PC {i + 1} ({100 * shares[i]:.0f} %)")
        ax.margins(x=0)
    for ax in axes:
        mark_times(ax, trials.event, trials.forward)
        ax.set_xlabel(trials.narrow_time_label)
    if trials.condition is not None:
        condition_legend(figure, colours)
    return Drawing(
        "generator",
        "Generator states",
        figure,
        f"States of the generator's units in trial {number} of {trials.title}, and the first "
        "principal components of the states in single trials over time.",
        f"Left: all units of one trial. Right: components of all units, a line for each trial, "
        f"coloured by {by}.{trials.time_note}",
    )


@styled
def neurons(trials: Trials) -> Drawing | None:
    """Draw how well each neuron's spikes are explained, against its mean rate."""
    if not trials.is_counts:
        return None
    counts, rates = trials.counts.astype(np.float64), trials.posterior.rates
    gain = bits_of_neurons(rates, counts)
    figure = new_figure(10, 3.2)
    left, right = figure.subplots(1, 2)
    mean = trials.per_unit * mean_of(counts, (0, 1))
    left.axhline(0, color=FAINT, lw=1, zorder=0)
    apart = np.isin(np.arange(len(gain)), trials.held_out)
    left.plot(mean[~apart], gain[~apart], "o", ms=4, color=SMOOTHED, alpha=0.8, label="seen")
    if apart.any():
        left.plot(mean[apart], gain[apart], "^", ms=5, color=PREDICTED, label="held out")
        left.legend()
    left.set(xlabel=f"mean rate ({trials.rate_label})", ylabel="bits / spike")
    left.set_title("each neuron against its mean rate")
    _mean_rates(right, trials, mean)
    return Drawing(
        "neurons",
        "Neurons",
        figure,
        f"Bits per spike of each neuron of {trials.title} against its mean rate, and mean inferred "
        "rates against mean observed rates.",
        "Left: how well the rates explain each neuron; below 0 they are worse than its mean rate. "
        "Right: inferred means should be on the diagonal.",
    )


def _mean_rates(ax: Axes, trials: Trials, mean: np.ndarray) -> None:
    inferred = trials.per_unit * mean_of(trials.posterior.rates, (0, 1))
    top = 1.05 * max(mean.max(), inferred.max(), 1e-9)
    ax.plot([0, top], [0, top], color=FAINT, lw=1, zorder=0)
    ax.plot(mean, inferred, "o", ms=4, color=OURS, alpha=0.8)
    ax.set(xlabel=f"observed mean ({trials.rate_label})", ylabel="inferred mean")
    ax.set_title("mean rates")


EVERY_FIGURE: tuple[Callable[[Trials], Drawing | None], ...] = (
    one_trial,
    averages,
    trajectories,
    initial_conditions,
    inferred_inputs,
    inputs_at_event,
    generator_states,
    neurons,
)


def drawings_of(trials: Trials) -> list[Drawing]:
    """Draw all figures of trials that apply to this model."""
    drawn = [draw(trials) for draw in EVERY_FIGURE]
    return [d for d in drawn if d is not None]
