"""``recipe=auto``: what the user did not set, from the size and the statistics of the data.

The rule is one function, :func:`settings_for`. It was found by trying on recordings of 36 to 1012
trials, 20 to 160 bins and 15 to 61 neurons; ``python -m benchmarks.first_run`` measures it.
"""

import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning import params
from lfads_lightning.config import Algorithm, Config, OutputDist, Recipe
from lfads_lightning.data.arrays import as_counts
from lfads_lightning.data.fields import Session, arrays_of
from lfads_lightning.data.suggested import statistics_of, suggested
from lfads_lightning.data.values import could_be_real, step_between
from lfads_lightning.runs.names import CONFIG

# What search.candidates tries; each sets all that any of them sets. Fast inputs see the bin that
# they act on, and the weak KL lets them leave the prior: on a simulated recording of 24 trials that
# pulses drive it made .31 bits per spike of held-out neurons of .10, which smoothing has too.
_SLOW = {"prior_ar_atau": 10.0, "controller_input_lag": 1, "kl_co_weight": 0.3}
CANDIDATES: dict[str, dict[str, Any]] = {
    "one_input": {"co_dim": 1, **_SLOW},
    "no_inputs": {"co_dim": 0, **_SLOW},
    "fast_inputs": {
        "co_dim": 4, "prior_ar_atau": 2.0, "controller_input_lag": 0, "kl_co_weight": 0.1,
    },
}  # fmt: skip
MEANINGS = {
    "one_input": "one slow inferred input",
    "no_inputs": "no inferred inputs",
    "fast_inputs": "four fast inferred inputs",
}
# What the line of a training tells; the other settings are the same for most data.
TOLD = ("output_dist", "ext_input_dim", "batch_size", "factors_dim", "max_steps")
SIZES = {
    "ic_dim": 64, "ic_enc_dim": 100, "gen_dim": 100, "ci_enc_dim": 100, "con_dim": 64,
    "learning_rate_init": 0.004,
}  # fmt: skip
# In little time, more updates of a smaller network: on the canonical Lorenz set 800 of either came
# to .92 bits per spike, in 60 and in 100 seconds.
SMALLER = {
    "ic_dim": 32, "ic_enc_dim": 64, "gen_dim": 64, "ci_enc_dim": 64, "con_dim": 32,
    "learning_rate_init": 0.006,
}  # fmt: skip
FEW_MINUTES = 3
# Of the Gaussian prior on the weights of read-outs: on neurons of 20 spikes it is the difference
# between worse and better than a constant rate; 300 is too much (docs/benchmarks/first-run.md).
READOUT_PRECISION = 100.0
FEW_TRIALS = 50
# On few trials, some networks rest at the mean rates for long, and overfit before they leave. Four
# times the rate brings them up to .28 bits per spike of held-out neurons, and costs others up to
# .08. So there both are trained to the end (docs/benchmarks/first-run.md).
RATE_FACTORS = (1, 4)
# Encoders that have seen few trials are poor judges of new ones: refining each trial's posterior
# brings .02 to .09 bits per spike of held-out neurons there, or a check says that it does not. Of
# more trials there is less to gain, and it takes as long as the training.
REFINE_STEPS = 20
UPDATES = 1200  # of a recording of up to MANY_TRIALS trials
MANY_TRIALS, MOST_UPDATES = 500, 6000
RAMP = 400
LEAST_TO_TRY = 400  # updates: with fewer, candidates are not told apart
# A population trains one structure, and its learning rate moves with it, by no schedule. Of the
# structures it has the one that was ahead on most recordings.
OF_SEARCH = {
    **CANDIDATES["fast_inputs"], "space": "recipe",
    "learning_rate_decay_factor": 1.0, "learning_rate_stop": 0.0,
}  # fmt: skip
NOT_OF_SEARCH = ("candidates", "candidate_learning_rates", "schedule", "warmup_steps", "max_steps")


class Facts(NamedTuple):
    """What the rule looks at.

    Attributes:
        trials: training trials of the smallest session.
        all_trials: of all sessions.
        bins: T.
        neurons: D; of several sessions the middle one's.
        mean: of the data: counts per bin and neuron, where they are counts.
        sessions: how many.
        is_counts: the data are counts, not real values.
        of_reals: the noise model that real values suggest.
        has_valid: there are validation trials.
        ext_inputs: I, external inputs, where all sessions have as many.
        aligned_factors: F of the alignment matrices, where there are such.
        updates: that the user asks for, by trainer.max_steps or max_epochs.
        minutes: the same, by trainer.max_minutes.
        is_search: a population is to be trained, not one model.
    """

    trials: int
    all_trials: int
    bins: int
    neurons: int
    mean: float
    sessions: int = 1
    is_counts: bool = True
    of_reals: str = OutputDist.gaussian.name
    has_valid: bool = True
    ext_inputs: int = 0
    aligned_factors: int | None = None
    updates: int | None = None
    minutes: float | None = None
    is_search: bool = False

    def __str__(self) -> str:
        """Return them as they are told."""
        trials = f"{self.trials} training trials"
        if self.sessions > 1:
            trials = f"{self.sessions} sessions of {self.trials} training trials or more"
        values = f"{self.mean:.3g} counts a bin" if self.is_counts else "real values"
        ext = f", {self.ext_inputs} external inputs" if self.ext_inputs else ""
        return f"{trials} x {self.bins} bins x {self.neurons} neurons, {values}{ext}"


def settings_for(facts: Facts) -> dict[str, Any]:
    """Return the parameters that suit data, by flat name; what is not named keeps its default.

    >>> settings = settings_for(Facts(169, 169, 35, 24, 0.35))
    >>> settings["batch_size"], settings["factors_dim"], settings["max_steps"]
    (32, 12, 1200)
    """
    updates = facts.updates or _updates(facts)
    ramp = min(RAMP, updates // 3)
    settings: dict[str, Any] = {
        "batch_size": batch_size(facts),
        "coordinated_dropout_rate": 0.3,
        "output_dist": OutputDist.poisson.name if facts.is_counts else facts.of_reals,
        # half as many as neurons at most, so that they cannot pass every neuron on
        "factors_dim": facts.aligned_factors or max(min(16, facts.neurons // 2), 1),
        **(SMALLER if facts.minutes is not None and facts.minutes <= FEW_MINUTES else SIZES),
        "encoder_bin_size": min(max(facts.bins // 10, 1), 5),
        "co_dim": 1,
        "keep_prob": 0.9,
        "kl_ic_weight": 0.3,
        "kl_co_weight": 0.3,
        "kl_increase_steps": ramp,
        "l2_gen_scale": 500.0,
        "l2_increase_steps": ramp,
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup_steps": min(30, updates // 10),
        "average_weights": True,
        "max_steps": updates,
        "num_threads": None,
    }
    are_few_counts = facts.is_counts and facts.all_trials <= FEW_TRIALS
    if facts.is_counts:  # real values are in units of their own
        settings["l2_readout_scale"] = round(READOUT_PRECISION / facts.trials, 4)
    if are_few_counts:
        settings["refine_steps"] = REFINE_STEPS
    if facts.neurons > 1:  # of one neuron the factor is the log-rate: there is no read-out
        settings["do_start_at_mean_rates"] = True
    if facts.ext_inputs:
        settings |= {"ext_input_dim": facts.ext_inputs, "inject_ext_input_to_gen": True}
    if facts.has_valid:
        settings["criterion"] = "hidden_recon"
        if facts.updates is None or facts.updates >= LEAST_TO_TRY:
            settings["candidates"] = list(CANDIDATES)
            if are_few_counts and facts.minutes is None:
                rate = settings["learning_rate_init"]
                settings["candidate_learning_rates"] = [rate * factor for factor in RATE_FACTORS]
    if facts.is_search:
        kept = {name: value for name, value in settings.items() if name not in NOT_OF_SEARCH}
        return kept | OF_SEARCH
    return settings


def batch_size(facts: Facts) -> int:
    """Return the trials of a batch: a power of two, five batches an epoch or more; 8 to 128.

    In a given time at most 32: on two Lorenz sets a minute of these came to .587 and .857 bits per
    spike, of 128 to .498 and .833.
    """
    most = 7 if facts.minutes is None else 5
    return int(2 ** min(max(math.floor(math.log2(max(facts.trials / 5, 1))), 3), most))


def _updates(facts: Facts) -> int:
    """Return the number of updates: with the root of the trials, and of the sessions."""
    more = math.sqrt(max(facts.all_trials / facts.sessions / MANY_TRIALS, 1) * facts.sessions)
    return min(round(UPDATES * more / 100) * 100, MOST_UPDATES)


def facts_of(sessions: Iterable[Mapping[str, Any]]) -> Facts | None:
    """Return the facts of sessions, each given as its arrays by key; they may be read one by one.

    None where what is there is no data: who reads them for training says what is wrong.
    """
    trials, neurons, ext_inputs, aligned = [], [], set[int](), set[int]()
    of_reals = set[OutputDist]()
    bins, total, n_entries, is_counts, has_valid = 0, 0.0, 0, True, False
    for arrays in sessions:
        data = {k: np.asarray(arrays[k]) for k in ("train_data", "valid_data") if k in arrays}
        train = data.get("train_data", np.empty(0))
        are_numbers = all(d.dtype.kind in "biuf" and d.size for d in data.values())
        if train.ndim != 3 or not are_numbers:
            return None
        trials.append(len(train))
        bins = train.shape[1]
        neurons.append(train.shape[2])
        total, n_entries = total + float(train.sum(dtype=np.float64)), n_entries + train.size
        are_whole = all(as_counts(d) is not None for d in data.values())
        are_steps = any(step_between(d) is not None for d in data.values())  # spikes per second
        if not are_whole and not are_steps and could_be_real(data):
            is_counts = False
            of_reals.add(suggested(statistics_of(data)).output_dist)
        has_valid |= "valid_data" in data
        ext = np.asarray(arrays.get("train_ext_input", np.empty(0)))
        ext_inputs.add(ext.shape[2] if ext.ndim == 3 else 0)
        matrix = np.asarray(arrays.get("alignment_matrix_cxf", np.empty(0)))
        aligned.add(matrix.shape[1] if matrix.ndim == 2 else 0)
    if not trials:
        return None
    return Facts(
        trials=min(trials),
        all_trials=sum(trials),
        bins=bins,
        neurons=sorted(neurons)[len(neurons) // 2],
        mean=total / n_entries,
        sessions=len(trials),
        is_counts=is_counts,
        of_reals=_for_all(of_reals),
        has_valid=has_valid,
        ext_inputs=min(ext_inputs) if len(ext_inputs) == 1 else 0,
        aligned_factors=max(aligned) or None,
    )


def _for_all(suggestions: Collection[OutputDist]) -> str:
    """Return the noise model that takes the values of every session."""
    by_range = (OutputDist.gaussian, OutputDist.zero_inflated_gamma, OutputDist.gamma)
    return next((dist.name for dist in by_range if dist in suggestions), OutputDist.gaussian.name)


def filled(
    config: Config,
    given: Collection[str],
    sessions: Iterable[Mapping[str, Any]],
    begun: Config | None = None,
) -> Config:
    """Return a config with what the recipe fills, and tell it in a line.

    A run that has begun keeps what it began with. A run that starts from another has that one's
    model: nothing is filled for it, ``recipe`` is `original`. Of a search, what is filled is where
    its population begins.

    Args:
        config: of the run.
        given: flat names of what the user has set, which stays.
        sessions: arrays by key; they are looked at only if the recipe is to fill something.
        begun: config of the run in the same folder, if one has begun.
    """
    if config.recipe is not Recipe.auto:
        return config
    if config.optim.start_from is not None:
        if "recipe" in given:
            print(
                "recipe=auto fills nothing for a run that starts from another: recipe=original",
                file=sys.stderr,
            )
        config.recipe = Recipe.original
        return config
    if begun is not None:
        if "recipe" not in given:
            config.recipe = begun.recipe
        names = _NAMES if begun.recipe is Recipe.auto else frozenset()
        kept = {n: params.flat_value(begun, n) for n in names if n not in given}
        return params.from_flat(kept, base=config)
    facts = facts_of(sessions)
    if facts is None:
        return config
    chosen = _chosen(config, given, facts)
    print(line(chosen, facts, TOLD), file=sys.stderr, flush=True)
    return params.from_flat(chosen, "recipe", base=config)


class Chosen(NamedTuple):
    """What the rule chose for a run, and from what; report.json keeps it."""

    facts: str
    settings: dict[str, Any]  # by flat name


def chosen_in(config: Config, sessions: Sequence[Session]) -> Chosen | None:
    """Return what of a config that was filled is the rule's; None where the rule did not fill it.

    Args:
        config: of a run that has not begun to train.
        sessions: the run's.
    """
    if config.recipe is not Recipe.auto:
        return None
    facts = facts_of(map(arrays_of, sessions))
    if facts is None:
        return None
    facts = facts._replace(
        is_counts=config.model.output_dist.is_counts,
        updates=config.trainer.max_steps,
        minutes=config.trainer.max_minutes,
    )
    values = {name: params.flat_value(config, name) for name in _NAMES}
    held = {name: getattr(value, "name", value) for name, value in values.items()}
    rule = settings_for(facts)
    return Chosen(str(facts), {name: value for name, value in rule.items() if held[name] == value})


def line(chosen: Mapping[str, Any], facts: Facts, names: Collection[str] | None = None) -> str:
    """Return what was chosen, and from what.

    >>> chosen = {"batch_size": 32, "keep_prob": 0.9}
    >>> line(chosen, Facts(169, 169, 35, 24, 0.35), TOLD).split(": ")[1]
    'batch_size 32 and 1 more, in config.yaml'

    Args:
        chosen: settings by flat name.
        facts: of the data.
        names: of the settings that are told; how many there are beside them is told, too. None:
            all.
    """
    told = [n for n in chosen if n in names] if names is not None else list(chosen)
    words = [", ".join(f"{name} {str(chosen[name]).lower()}" for name in told)]
    if len(told) < len(chosen):
        words.append(f"{len(chosen) - len(told)} more, in {CONFIG}")
    return f"recipe=auto, for {facts}: {' and '.join(filter(None, words))}"


def _chosen(config: Config, given: Collection[str], facts: Facts) -> dict[str, Any]:
    """Return what the rule says of all that is not given, and goes with what is."""
    if "output_dist" in given:
        facts = facts._replace(is_counts=config.model.output_dist.is_counts)
    trainer = config.trainer
    is_search = config.search.algorithm is not Algorithm.none
    facts = facts._replace(minutes=trainer.max_minutes, is_search=is_search)
    size = batch_size(facts)
    if "max_steps" in given:
        facts = facts._replace(updates=trainer.max_steps)
    elif "max_epochs" in given and trainer.max_epochs is not None:
        size = config.data.batch_size if "batch_size" in given else size
        per_epoch = facts.sessions * math.ceil(facts.all_trials / facts.sessions / size)
        facts = facts._replace(updates=trainer.max_epochs * per_epoch)
    chosen = settings_for(facts)
    leave = set(given)
    tried = {name for settings in CANDIDATES.values() for name in settings}
    cannot_try = trainer.num_devices > 1 or "criterion" in leave
    if tried & leave or cannot_try:
        leave.add("candidates")
    if {"learning_rate_init", "optimizer", "schedule"} & leave or cannot_try:
        leave.add("candidate_learning_rates")
    if "optimizer" in given:
        leave.add("learning_rate_init")
    if "schedule" in given:
        leave |= {"warmup_steps", "max_steps"}
    if trainer.max_minutes is not None:
        leave.add("max_steps")  # it is measured
    if "factors_dim" in given and config.model.factors_dim == facts.neurons:
        leave.add("do_start_at_mean_rates")
    return {name: value for name, value in chosen.items() if name not in leave}


_NAMES = frozenset(settings_for(Facts(8, 8, 8, 8, 1.0, ext_inputs=1))).union(
    OF_SEARCH, *CANDIDATES.values()
)
