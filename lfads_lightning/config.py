"""Every parameter: its group, name, default, meaning and bounds.

The dataclasses below are schema, defaults and documentation at once. Documented LFADS names are
field names, verbatim, each in exactly one group, so the dotted name (``model.co_dim``) follows from
the flat one (``co_dim``) and is never written down. ``lfads_lightning.params`` reads and checks
them.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

MAX_INT = sys.maxsize
MOST_AT_ONCE = 1024  # threads or processes: a config that was sent shall not take a machine down


def one_line(text: str) -> str:
    """Return a text as one line: names in files may hold line ends and terminals' commands."""
    return "".join(c if c.isprintable() else " " for c in text)


class LFADSError(ValueError):
    """A mistake the user can mend; says where, what was found, what is expected, what to do."""

    def __str__(self) -> str:
        """Return one line."""
        return one_line(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and notebooks show in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class SessionSpec(NamedTuple):
    """What the model must know of a session; stored in the checkpoint.

    Attributes:
        name: session name, unique within a model.
        data_dim: D, data channels (neurons).
        ext_input_dim: I, external inputs used by the model.
        aligned: the session came with an ``alignment_matrix_cxf``.
        held_out: channels that are reconstructed and never encoded, counted from 0.
        forward_steps: last bins that are reconstructed and never encoded; the same in all sessions.
    """

    name: str
    data_dim: int
    ext_input_dim: int = 0
    aligned: bool = False
    held_out: tuple[int, ...] = ()
    forward_steps: int = 0

    @property
    def held_in_dim(self) -> int:
        """Channels that are encoded."""
        return self.data_dim - len(self.held_out)


class Kind(Enum):
    """What a run does."""

    train = "train"
    posterior_sample_and_average = "posterior_sample_and_average"
    posterior_push_mean = "posterior_push_mean"
    prior_sample = "prior_sample"
    write_model_params = "write_model_params"


POSTERIOR_KINDS = (Kind.posterior_sample_and_average.name, Kind.posterior_push_mean.name)
EXPORT_FORMATS = ("nwb", "mat", "npz", "nlb")
SMOOTHING_BINS = 2.0  # of averages that are aligned: 20 ms at the field's usual 10 ms bins


class Recipe(Enum):
    """Who fills what the user did not set."""

    original = "original"
    auto = "auto"


class OutputDist(Enum):
    """Noise model: the distribution of the data, given the factors.

    Each is a line here and a file of the same name in ``model/observations/``, which says all else
    of it. What kind of data it takes stands here, for those who ask before torch is there.
    """

    poisson = "poisson", "counts"
    gaussian = "gaussian", "real values"
    negative_binomial = "negative_binomial", "counts"
    gamma = "gamma", "values above 0"
    zero_inflated_gamma = "zero_inflated_gamma", "values of 0 or more"

    @property
    def is_counts(self) -> bool:
        """Data are counts per bin."""
        return self.value[1] == "counts"

    @property
    def takes_negative(self) -> bool:
        """Data may be below 0."""
        return self.value[1] == "real values"

    @property
    def takes_zero(self) -> bool:
        """Data may be 0."""
        return self.value[1] != "values above 0"

    @classmethod
    def names(cls) -> list[str]:
        """Return all names."""
        return list(cls.__members__)


class Spread(Enum):
    """What has a spread of its own, in noise models of values that are no counts."""

    bin = "bin"
    neuron = "neuron"


class Feedback(Enum):
    """What the controller sees of the previous bin."""

    factors = "factors"
    rates = "rates"


class Criterion(Enum):
    """What the best epoch has least of."""

    total = "total"
    recon_smoothed = "recon_smoothed"
    sample_recon_smoothed = "sample_recon_smoothed"
    hidden_recon = "hidden_recon"


class Optimizer(Enum):
    """What turns gradients into updates."""

    original = "original"
    adamw = "adamw"


class Schedule(Enum):
    """How the learning rate falls."""

    original = "original"
    cosine = "cosine"


class Algorithm(Enum):
    """How settings are searched within one run."""

    none = "none"
    pbt = "pbt"


class Engine(Enum):
    """Where the members of a search train."""

    local = "local"
    ray = "ray"


class Precision(Enum):
    """Floating-point type of weights and arithmetic."""

    float32 = "float32"
    float64 = "float64"


class Recurrence(Enum):
    """What runs the recurrences; the numbers are the same."""

    auto = "auto"
    reference = "reference"
    native = "native"
    triton = "triton"


# structures that search.candidates may name; what they are: data/recipe.py
CANDIDATE_NAMES = ("one_input", "no_inputs", "fast_inputs")


def _p(
    default: Any,
    doc: str,
    *,
    ours: bool = False,
    expected: str = "",
    accepts: Callable[[Any], Any] | None = None,
    takes: str = "",
    **bounds: float,
) -> Any:
    """Declare a parameter; ``bounds`` are any of ge, gt, le.

    One of several types says what is ``expected``, and by ``takes`` its type as Python writes it;
    ``accepts`` returns a value as it is held, and raises ValueError for what is not expected.
    """
    metadata = {"doc": doc, "ours": ours, "bounds": bounds, "takes": takes}
    return field(default=default, metadata=metadata | {"expected": expected, "accepts": accepts})


def _candidates(value: Any) -> list[str] | None:
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError(value)
    names = list(value or [])
    if len(set(names)) < len(names) or not set(names) <= set(CANDIDATE_NAMES):
        raise ValueError(value)
    return names or None


def _held_out_neurons(value: Any) -> str | float | list[int]:
    value = getattr(value, "tolist", lambda: value)()  # NumPy's
    if value is None:
        return "none"
    if isinstance(value, str):
        if value in ("file", "none"):
            return value
    elif isinstance(value, list | tuple):
        columns = [int(v) for v in value]
        if columns == list(value) and min(columns, default=-1) >= 0:
            return columns
    elif not isinstance(value, bool) and 0 < float(value) < 1:
        return float(value)
    raise ValueError(value)


LOGGERS = ("tensorboard", "csv", "wandb", "mlflow")


def _loggers(value: Any) -> str | list[str]:
    one = [value] if isinstance(value, str) else value
    if not isinstance(one, list | tuple) or not one or len(set(one)) < len(one):
        raise ValueError(value)
    if any(name not in LOGGERS for name in one):
        raise ValueError(value)
    return value if isinstance(value, str) else list(one)


@dataclass
class DataConfig:
    """Which recordings are read, and how they are served."""

    data_dir: str | None = _p(
        None, "Folder with the session files; null: the embedded data set named by the stem."
    )
    data_filename_stem: str = _p(
        "chaotic_rnn_inputs_g1p5", "Every file in data_dir named STEM or STEM_SESSION is a session."
    )
    batch_size: int = _p(
        128, "Trials per batch, cut to the session's size; default number of samples.", ge=1
    )
    ext_input_dim: int = _p(0, "External inputs per bin; 0 ignores those in the files.", ge=0)
    temporal_spike_jitter_width: int = _p(
        0, "Bins: each training spike moves by a uniform draw from [-w, w-1] (counts only).", ge=0
    )
    coordinated_dropout_rate: float = _p(
        0.0,
        "Share of each training batch's entries that is hidden and scored; the rest is shown and "
        "not scored, so that copying gains nothing. 0: all are shown and scored.",
        ours=True,
        ge=0,
        le=0.99,
    )
    sample_validation_rate: float = _p(
        0.0,
        "Share of all entries never shown and never trained on, but scored: valid/sample_recon.",
        ours=True,
        ge=0,
        le=0.5,
    )
    sample_validation_seed: int = _p(
        0, "Which entries these are; the same for every seed.", ours=True, ge=0, le=2**32 - 1
    )
    held_out_neurons: Any = _p(
        "file",
        "Neurons that are predicted and scored, but never shown to the encoders: columns counted "
        "from 0, or a share drawn at random; file: what its key held_out_neurons says, if any.",
        ours=True,
        expected="file, none, a share < 1, or a list of columns",
        accepts=_held_out_neurons,
        takes="float | Literal['file', 'none'] | ArrayLike",
    )
    held_out_seed: int = _p(
        0,
        "Which neurons a share of them is; the same for every seed.",
        ours=True,
        ge=0,
        le=2**32 - 1,
    )
    forward_steps: int = _p(
        0,
        "Last bins that are predicted and scored, but never shown to the encoders; inferred inputs "
        "go on by their prior there.",
        ours=True,
        ge=0,
    )


@dataclass
class ModelConfig:
    """The network: sizes, switches, priors, initial weights."""

    output_dist: OutputDist = _p(
        OutputDist.poisson,
        "Noise model: of counts (poisson; negative_binomial, which scatter more), of real values "
        "(gaussian), of values above 0 (gamma), or of such with zeros (zero_inflated_gamma).",
    )
    spread_per: Spread = _p(
        Spread.bin,
        "What is trained beside the mean of values that are no counts (variance, shape, size of "
        "events): read out of the factors for every bin, or one number of each neuron.",
        ours=True,
    )
    ic_dim: int = _p(64, "Initial-condition code; 0: one learned start state, no KL.", ge=0)
    factors_dim: int = _p(50, "Factors.", ge=1)
    ic_enc_dim: int = _p(128, "Initial-condition encoder units per direction.", ge=1)
    gen_dim: int = _p(200, "Generator units.", ge=1)
    ci_enc_dim: int = _p(128, "Controller-input encoder units per direction.", ge=1)
    con_dim: int = _p(128, "Controller units.", ge=1)
    co_dim: int = _p(1, "Inferred inputs (controller outputs); 0: no controller.", ge=0)
    keep_prob: float = _p(0.95, "Probability that dropout keeps a value, in training.", gt=0, le=1)
    cell_clip_value: float = _p(5.0, "Recurrent states are clamped to +- this.", gt=0)
    cell_weight_scale: float = _p(
        1.0, "Scales the initial encoder gate weights and all controller weights.", gt=0
    )
    gen_cell_input_weight_scale: float = _p(
        1.0, "Initial std of generator input weights = this / sqrt(inputs).", ge=0
    )
    gen_cell_rec_weight_scale: float = _p(
        1.0, "Initial std of generator recurrent weights = this / sqrt(gen_dim).", ge=0
    )
    inject_ext_input_to_gen: bool = _p(
        False, "External inputs enter the generator instead of the encoders."
    )
    num_steps_for_gen_ic: int = _p(
        MAX_INT, "First bins seen by the initial-condition encoder, both directions.", ge=1
    )
    do_causal_controller: bool = _p(False, "Leave out the controller's backward encoder.")
    controller_input_lag: int = _p(
        1, "Bins by which the controller's view of the data is held back.", ge=0
    )
    do_feed_factors_to_controller: bool = _p(True, "Feed the previous bin back to the controller.")
    feedback_factors_or_rates: Feedback = _p(
        Feedback.factors, "What is fed back; rates needs a single session."
    )
    ic_prior_var_min: float = _p(0.1, "Lower bound of the initial-condition prior variance.", gt=0)
    ic_prior_var_scale: float = _p(0.1, "Starting value of that variance.", gt=0)
    ic_prior_var_max: float = _p(0.1, "Upper bound; above the minimum: variance is trained.", gt=0)
    ic_post_var_min: float = _p(
        1e-4, "Added to the variance of the initial-condition posterior.", ge=0
    )
    co_prior_var_scale: float = _p(0.1, "No effect, as in the original; kept, and warned of.", gt=0)
    prior_ar_atau: float = _p(
        10.0, "Bins: starting time constant of the AR(1) prior over inferred inputs.", gt=0
    )
    prior_ar_nvar: float = _p(0.1, "Starting variance of the AR(1) innovation.", gt=0)
    do_train_prior_ar_atau: bool = _p(True, "Train the AR(1) time constants.")
    do_train_prior_ar_nvar: bool = _p(True, "Train the AR(1) innovation variances.")
    do_train_readin: bool = _p(True, "Train the per-session read-in matrices.", ours=True)
    do_log_readout_bias: bool = _p(
        False,
        "The Poisson read-out starts at the logarithm of alignment_bias_c, so at the mean rates; "
        "the original's start takes these counts per bin for log-rates.",
        ours=True,
    )
    do_start_at_mean_rates: bool = _p(
        False,
        "Read-outs start at the mean rates of the training trials (of values that are no counts: "
        "at the means, variances, shapes), whatever the noise model and the alignment.",
        ours=True,
    )
    do_standardise_input: bool = _p(
        False,
        "Encoders see each neuron less its mean, in units of its standard deviation, both of the "
        "training trials; what is hidden from them is at the mean.",
        ours=True,
    )
    encoder_bin_size: int = _p(
        1,
        "Bins that the initial-condition encoder reads at once: their sum, by the root of their "
        "number. Inferred inputs keep the data's bins.",
        ours=True,
        ge=1,
    )
    do_legacy_ic_prior_var: bool = _p(
        False, "Bound the prior variance by sigmoid(exp(p)), as the original did.", ours=True
    )
    _clip_value: float = _p(80.0, "Log-rates and log-variances are clamped to +- this.", gt=0)


@dataclass
class LossConfig:
    """Terms of the evidence lower bound, their weights and ramps."""

    kl_ic_weight: float = _p(1.0, "Weight of the initial-condition KL.", ge=0)
    kl_co_weight: float = _p(1.0, "Weight of the inferred-input KL.", ge=0)
    kl_start_step: int = _p(0, "Update at which the KL ramp starts.", ge=0)
    kl_increase_steps: int = _p(2000, "Updates until the KL ramp is 1; 0: 1 from the start.", ge=0)
    l2_gen_scale: float = _p(2000.0, "L2 on the generator's recurrent weights and biases.", ge=0)
    l2_con_scale: float = _p(0.0, "L2 on the controller's recurrent weights and biases.", ge=0)
    l2_start_step: int = _p(0, "Update at which the L2 ramp starts.", ge=0)
    l2_increase_steps: int = _p(2000, "Updates until the L2 ramp is 1; 0: 1 from the start.", ge=0)
    co_mean_corr_scale: float = _p(
        0.0, "Penalty on inferred inputs (posterior means) that are active together.", ge=0
    )
    do_analytic_kl_co: bool = _p(
        False, "Closed-form inferred-input KL instead of the single-sample one.", ours=True
    )


@dataclass
class OptimConfig:
    """The optimiser, the learning rate, and what is trained."""

    optimizer: Optimizer = _p(
        Optimizer.original,
        "original: Adam with epsilon 0.1 before the bias correction, as in TensorFlow 1; adamw: "
        "AdamW (Loshchilov & Hutter 2019), by the four parameters below.",
        ours=True,
    )
    adamw_eps: float = _p(1e-8, "Epsilon of AdamW.", ours=True, gt=0)
    adamw_beta1: float = _p(0.9, "Decay of AdamW's mean gradient.", ours=True, ge=0, le=0.9999)
    adamw_beta2: float = _p(
        0.999, "Decay of AdamW's mean squared gradient.", ours=True, ge=0, le=0.999999
    )
    weight_decay: float = _p(
        0.0,
        "AdamW: each update takes this share, times the learning rate, off each trained value.",
        ours=True,
        ge=0,
    )
    schedule: Schedule = _p(
        Schedule.original,
        "original: the rate falls when the training cost rises, and ends training; cosine: it "
        "falls by half a cosine over all updates (trainer.max_steps), whatever the cost does.",
        ours=True,
    )
    warmup_steps: int = _p(
        0, "Cosine: updates over which the rate first rises to learning_rate_init.", ours=True, ge=0
    )
    cosine_end: float = _p(
        0.01, "Cosine: share of learning_rate_init that it ends at.", ours=True, ge=0, le=1
    )
    average_weights: bool = _p(
        False,
        "Validate, keep and score averages of the weights over the last tenth of the updates so "
        "far, 50 at most; training goes on with the weights themselves.",
        ours=True,
    )
    learning_rate_init: float = _p(
        0.01, "Learning rate at the start, or of a cosine its highest.", gt=0
    )
    learning_rate_decay_factor: float = _p(0.95, "Multiplies the rate at a decay.", gt=0, le=1)
    learning_rate_stop: float = _p(1e-5, "Training ends when the rate falls below this.", ge=0)
    learning_rate_n_to_compare: int = _p(
        6, "Epochs: decay when the training cost exceeds the last n.", ge=1
    )
    max_grad_norm: float = _p(200.0, "Global gradient norm is clipped to this.", gt=0)
    do_reset_learning_rate: bool = _p(False, "When resuming, start again at learning_rate_init.")
    start_from: str | None = _p(
        None,
        "Folder of a run whose weights training starts from; its model parameters come along, and "
        "sessions it does not know get a read-in and read-out of their own.",
        ours=True,
    )
    do_train_io_only: bool = _p(False, "Train only read-in and read-out.")
    do_train_encoder_only: bool = _p(False, "Train only the initial-condition encoder.")


@dataclass
class OutputConfig:
    """What is written, and where."""

    lfads_save_dir: str | None = _p(
        None, "The run's folder; null: outputs/DATE/TIME. A run found there is continued or used."
    )
    checkpoint_name: str = _p("lfads_vae", "Stem of the checkpoint files.")
    checkpoint_pb_load_name: str = _p(
        "checkpoint", "Index to load from: checkpoint (newest) or checkpoint_lve (lowest cost)."
    )
    output_filename_stem: str = _p("", "Prefix of the files that the four other kinds write.")
    max_ckpt_to_keep: int = _p(5, "Periodic checkpoints kept.", ge=1)
    max_ckpt_to_keep_lve: int = _p(5, "Lowest-validation-error checkpoints kept.", ge=1)
    csv_log: str = _p("fitlog", "Name of the original-format log; empty: none.")
    include_optimizer: bool = _p(
        False, "write_model_params also writes the optimiser's moments.", ours=True
    )
    report: bool = _p(
        True,
        "Write report.html and all figures when training, a search or a sweep ends.",
        ours=True,
    )


@dataclass
class SamplingConfig:
    """How many trials and samples the posterior and prior kinds use."""

    ps_nexamples_to_process: int = _p(MAX_INT, "First n trials of each split to process.", ge=1)
    num_posterior_samples: int | None = _p(
        None, "Posterior samples averaged per trial; null: batch_size.", ours=True, ge=1
    )
    num_score_samples: int = _p(
        16,
        "Posterior samples averaged per trial for scores, figures and the report; 0: posterior "
        "means.",
        ours=True,
        ge=0,
    )
    refine_steps: int = _p(
        0,
        "Gradient steps at most by which each trial's posterior is refined, on its own bound, from "
        "what the encoders see alone; as many are taken as help to predict entries that are held "
        "back. 100 is a good number.",
        ours=True,
        ge=0,
    )
    num_prior_samples: int | None = _p(
        None, "Trials drawn by prior_sample; null: batch_size.", ours=True, ge=1
    )
    num_validation_samples: int = _p(
        1, "Posterior samples per trial in the validation cost.", ours=True, ge=1
    )
    memory_mb: int = _p(
        256, "Memory of one pass: bounds how many samples are drawn together.", ours=True, ge=1
    )
    session: str | None = _p(
        None, "Session whose read-out prior_sample uses; null: the first by name.", ours=True
    )


@dataclass
class TrainerConfig:
    """Machine and length of training."""

    device: str = _p("gpu:0", "gpu:N, cuda:N, mps or cpu:0; falls back to the CPU with a warning.")
    num_devices: int = _p(
        1,
        "GPUs, or processes on the CPU, that share each batch (DDP).",
        ours=True,
        ge=1,
        le=MOST_AT_ONCE,
    )
    max_epochs: int | None = _p(
        None, "Stop after this many epochs; null: when the learning rate says so.", ours=True, ge=1
    )
    max_steps: int | None = _p(None, "Stop after this many updates.", ours=True, ge=1)
    max_minutes: float | None = _p(
        None,
        "Minutes of training: the first tenth measures how many updates these are, which become "
        "max_steps (in config.yaml too); a cosine ends there. A continued run keeps the number.",
        ours=True,
        gt=0,
    )
    criterion: Criterion = _p(
        Criterion.total,
        "What the lowest-validation-error checkpoint, a sweep and early stopping go by: total "
        "cost; smoothed reconstruction, of all entries or of those never shown; or hidden_recon, "
        "of entries hidden from the encoders, a fifth at a time, every 20 updates or more (15 % of "
        "the time), and the ramps do not matter; with do_start_at_mean_rates a constant rate is "
        "kept where no epoch is better.",
        ours=True,
    )
    criterion_smoothing: float = _p(
        0.7,
        "Weight of the past in the smoothed reconstruction, per epoch; of hidden_recon per look.",
        ours=True,
        ge=0,
        le=0.99,
    )
    early_stopping_epochs: int | None = _p(
        None,
        "Stop after this many epochs without a new lowest criterion, counted once both ramps are "
        "complete.",
        ours=True,
        ge=1,
    )
    max_recoveries: int = _p(
        3,
        "After three non-finite updates in a row, training goes back to its newest checkpoint with "
        "half the learning rate; so many times, then it ends with an error. 0: at once.",
        ours=True,
        ge=0,
    )
    deterministic: bool = _p(
        False,
        "Use deterministic algorithms alone (cuDNN, cuBLAS, scatter); an operation without one is "
        "an error. On the CPU training is bit-reproducible either way.",
        ours=True,
    )
    precision: Precision = _p(Precision.float32, "float32 or float64.", ours=True)
    recurrence: Recurrence = _p(
        Recurrence.auto,
        "reference: the PyTorch loop; native: C++ kernels, built on first use (CPU, float32); "
        "triton: CUDA kernels (float32); auto: native or triton, where it can be had.",
        ours=True,
    )
    num_threads: int | None = _p(
        1,
        "CPU threads of torch. null: one, but the native kernels share batches of 64 trials or "
        "more among all cores, with the same numbers on any number of cores.",
        ours=True,
        ge=1,
        le=MOST_AT_ONCE,
    )
    logger: Any = _p(
        "tensorboard",
        "Where costs, settings and scores go beside the run's own files; [wandb, mlflow] are "
        "several, csv is metrics.csv alone, which every run writes.",
        ours=True,
        expected="any of tensorboard, csv, wandb, mlflow, or a list of them",
        accepts=_loggers,
        takes="Literal['tensorboard', 'csv', 'wandb', 'mlflow'] | Sequence[str]",
    )
    plot_every_n_epochs: int | None = _p(
        None,
        "Epochs between sets of figures in TensorBoard; 0: never; null: one figure after the "
        "other, as often as takes less than 2 % of the time.",
        ours=True,
        ge=0,
    )


@dataclass
class SearchConfig:
    """Population-based training, in place of a single run."""

    algorithm: Algorithm = _p(
        Algorithm.none, "none: train one model; pbt: a population (search=pbt).", ours=True
    )
    draw: int | None = _p(
        None,
        "Take the settings of search.space from its n-th random draw (sweep=random); null: none.",
        ours=True,
        ge=0,
    )
    candidates: Any = _p(
        None,
        "Structures that are tried first, each for 15 % of the updates; the one of the lowest "
        "criterion goes on: one_input, no_inputs, fast_inputs; null: none. recipe=auto tries them.",
        ours=True,
        expected="a list of one_input, no_inputs, fast_inputs, or null",
        accepts=_candidates,
        takes="Sequence[str] | None",
    )
    space: str = _p(
        "autolfads",
        "What is searched: a preset of conf/space, or a YAML file. recipe=auto searches recipe, "
        "which starts from what it fills.",
        ours=True,
    )
    engine: Engine = _p(
        Engine.local, "local: processes on this machine; ray: a Ray cluster.", ours=True
    )
    population: int = _p(20, "Members.", ours=True, ge=2)
    generation_epochs: int = _p(25, "Epochs between two comparisons of members.", ours=True, ge=1)
    burn_in_epochs: int | None = _p(
        None,
        "Epochs of the first generation; null: until both ramps are complete, and one generation.",
        ours=True,
        ge=1,
    )
    max_generations: int = _p(50, "Generations at most.", ours=True, ge=1)
    stop_gain: float = _p(
        0.0005,
        "The search ends when the best criterion gains less than this share of itself ...",
        ours=True,
        ge=0,
    )
    stop_generations: int = _p(4, "... over this many generations.", ours=True, ge=1)
    num_workers: int | None = _p(
        None,
        "Members that train at once; null: as many as CPU cores, or 1 on a GPU.",
        ours=True,
        ge=1,
        le=MOST_AT_ONCE,
    )
    ray_address: str | None = _p(
        None, "Ray cluster to join, auto or ray://HOST:PORT; null: this machine alone.", ours=True
    )


@dataclass
class Config:
    """All parameters, by group."""

    kind: Kind = _p(Kind.train, "What to do: train, or one of the four other kinds.")
    seed: int = _p(
        0, "Seeds initial weights, data order, noise and masks.", ours=True, ge=0, le=2**32 - 1
    )
    recipe: Recipe = _p(
        Recipe.auto,
        "What is not set: auto: is chosen by the size and the statistics of the data, told in a "
        "line and written to config.yaml; a search starts from it; original: has the defaults "
        "below. With a params_file original, unless it is given.",
        ours=True,
    )
    params_file: str | None = _p(
        None, "Flat YAML or JSON file of parameter names; the command line beats it.", ours=True
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
