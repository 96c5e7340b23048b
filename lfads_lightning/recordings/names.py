"""Names that labs use for times, units and so on; the first of a row is ours. Case is ignored."""

from collections.abc import Collection, Mapping
from typing import Any

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError

COUNTS = (
    "counts",
    "spike_counts",
    "binned_spikes",
    "spikes",
    "data",
    "spikeraster",
    "spike_raster",
    "spikecounts",
    "binnedspikes",
)
UNITS = ("unit", "neuron", "units", "neurons", "unit_id", "neuron_id", "spike_units",
         "spike_neurons", "cluster", "clusters", "cluster_id", "spike_clusters")  # fmt: skip
TIMES = (
    "time",
    "spike_times",
    "times",
    "spike_time",
    "time_s",
    "spike_times_s",
    "t",
    "spiketimes",
    "spikes",
)
BARE_TIMES = ("time", "times", "time_s", "t")  # times of bins or trials, or their durations
TRIALS = ("trial", "trials", "trial_id", "spike_trials", "trial_index", "trial_number")
STARTS = ("start_time", "start", "start_s", "trial_start", "trial_starts", "start_times")
STOPS = ("stop_time", "stop", "stop_s", "end", "end_time", "trial_stop", "trial_end", "stop_times")
CONDITIONS = ("condition", "conditions", "condition_id", "condition_labels")
NEURON_IDS = ("neuron_ids", "unit_ids", "channel_ids")
HELD_OUT = ("held_out", "heldout")
QUALITIES = ("quality", "group", "kslabel", "ks_label", "ks2_label")
BIN_WIDTHS = {"bin_width_s": 1, "bin_s": 1, "bin_size_s": 1, "bin_width_ms": 1e-3, "bin_ms": 1e-3}
BEHAVIOUR = ("behaviour", "behavior")


def find(known: Mapping[str, Any], names: Collection[str]) -> str | None:
    """Return the key with one of these names, the first that exists."""
    spelled = {key.lower(): key for key in reversed(list(known))}
    return next((spelled[name] for name in names if name in spelled), None)


def meant(known: Collection[str], asked: str) -> str:
    """Return the key that was asked for: exactly, without its structure, or by our name.

    >>> meant(["rt", "start_time"], "R.rt"), meant(["rt", "start_time"], "trial_start")
    ('rt', 'start_time')
    """
    if asked in known:
        return asked
    last = asked.rpartition(".")[2]
    if last in known:
        return last
    for usual in (STARTS, STOPS):
        if last.lower() in usual and usual[0] in known:
            return usual[0]
    return asked


def require(
    known: Mapping[str, Any],
    asked: str | None,
    names: Collection[str],
    source: str,
    option: str,
    what: str,
) -> str:
    """Return the key asked for, else the one with a usual name.

    Raises:
        LFADSError: there is no such key.
    """
    if asked is not None:
        if asked not in known:
            raise LFADSError(
                f"{source}: has no {asked}{nearest(asked, known)}; found {listed(known, 20)}; "
                f"expected {option} to name {what}"
            )
        return asked
    found = find(known, names)
    if found is None:
        raise LFADSError(
            f"{source}: found {listed(known, 20)}; expected {what} under one of "
            f"{', '.join(names)}, or name it with {option}"
        )
    return found
