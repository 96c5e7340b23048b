"""Every parameter: its group, name, default, meaning and bounds.

The dataclasses below are the schema, the defaults and the documentation. The documented LFADS names
are field names, verbatim, and each is in exactly one group. So the dotted name (``model.co_dim``)
follows from the flat one (``co_dim``), and is never written down. ``lfads_lightning.params`` reads
and checks parameters.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

MAX_INT = sys.maxsize
MAX_NAME_BYTES = 150  # of a session: its output files add some seventy, and 255 are allowed
MOST_AT_ONCE = 1024  # threads or processes: a config from somebody else must not freeze a machine


def one_line(text: str) -> str:
    """Return text on one line; names in files may contain newlines and terminal escape codes."""
    return "".join(c if c.isprintable() else " " for c in text)


def is_name(given: object) -> bool:
    """Return whether something can be part of a file's name, and leads nowhere."""
    is_text = isinstance(given, str) and given.isprintable() and not set(given) & set("/\\")
    return is_text and len(str(given).encode(errors="replace")) <= MAX_NAME_BYTES


class LFADSError(ValueError):
    """An error that the user can fix; says where, what was found, what is expected, what to do."""

    def __str__(self) -> str:
        """Return one line."""
        return one_line(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and notebooks show instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class SessionSpec(NamedTuple):
    """What the model needs to know about a session; stored in the checkpoint.

    Attributes:
        name: session name, unique within a model.
        data_dim: D, number of data channels (neurons).
        ext_input_dim: I, number of external inputs that the model uses.
        aligned: whether the session came with an ``alignment_matrix_cxf``.
        held_out: channels that are predicted but never shown to the encoders, counted from 0.
        forward_steps: number of bins at the end of a trial that are predicted but never shown to
            the encoders; the same in all sessions.
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
SMOOTHING_BINS = 2.0  # for averages that are aligned: 20 ms with the usual bins of 10 ms


class Recipe(Enum):
    """How parameters that the user did not set are chosen."""

    original = "original"
    auto = "auto"


class OutputDist(Enum):
    """Noise model: the distribution of the data, given the factors.

    Each is a line here, and a file of the same name in ``model/observations/`` with all the rest.
    The kind of data is given here, so that it is known without importing torch.
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
    """Whether the spread of real-valued data is inferred per bin, or trained per neuron."""

    bin = "bin"
    neuron = "neuron"


class Feedback(Enum):
    """What the controller sees of the previous bin."""

    factors = "factors"
    rates = "rates"


class Criterion(Enum):
    """The quantity that is lowest in the best epoch."""

    total = "total"
    recon_smoothed = "recon_smoothed"
    sample_recon_smoothed = "sample_recon_smoothed"
    hidden_recon = "hidden_recon"


class Optimizer(Enum):
    """The optimiser."""

    original = "original"
    adamw = "adamw"


class Schedule(Enum):
    """How the learning rate falls."""

    original = "original"
    cosine = "cosine"


class Algorithm(Enum):
    """How hyperparameters are searched within one run."""

    none = "none"
    pbt = "pbt"


class Engine(Enum):
    """Where the members of a search train."""

    local = "local"
    ray = "ray"


class Precision(Enum):
    """Floating-point type of weights and arithmetic; bf16: float32, but for factors of products."""

    float32 = "float32"
    float64 = "float64"
    bf16 = "bf16"


class Recurrence(Enum):
    """The implementation of the recurrences; all give the same numbers."""

    auto = "auto"
    reference = "reference"
    native = "native"
    triton = "triton"


# structures that search.candidates can name; they are defined in data/recipe.py
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

    A parameter of several types gives a text ``expected`` for error messages, its type annotation
    ``takes``, and ``accepts``, a function that returns the value to store, and raises ValueError
    for a wrong one.
    """
    metadata = {"doc": doc, "ours": ours, "bounds": bounds, "takes": takes}
    return field(default=default, metadata=metadata | {"expected": expected, "accepts": accepts})


def _candidates(value: Any) -> list[str] | None:
    return _different(value, _candidate)


def _candidate(name: Any) -> str:
    if name not in CANDIDATE_NAMES:
        raise ValueError(name)
    return name


def _learning_rates(value: Any) -> list[float] | None:
    return _different(value, _learning_rate)


def _learning_rate(value: Any) -> float:
    if isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise ValueError(value)
    return float(value)


def _different(value: Any, checked: Callable[[Any], Any]) -> list[Any] | None:
    """Return a list of two or more entries that differ; None for an empty one."""
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError(value)
    entries = [checked(entry) for entry in value or []]
    if len(entries) == 1 or len(set(entries)) < len(entries):
        raise ValueError(value)
    return entries or None


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
    """Which data are read, and how they are presented to the model."""

    data_dir: str | None = _p(
        None, "Folder of the session files; null: the embedded data set named by the stem."
    )
    data_filename_stem: str = _p(
        "chaotic_rnn_inputs_g1p5", "Every file in data_dir named STEM or STEM_SESSION is a session."
    )
    batch_size: int = _p(
        128,
        "Trials per batch (at most the session's trials); also the default number of samples.",
        ge=1,
    )
    ext_input_dim: int = _p(
        0, "Number of external inputs; 0: external inputs in the files are ignored.", ge=0
    )
    temporal_spike_jitter_width: int = _p(
        0,
        "Spike jitter in training, in bins: each spike moves by a uniform integer from [-w, w-1]. "
        "Only for counts.",
        ge=0,
    )
    coordinated_dropout_rate: float = _p(
        0.0,
        "Fraction of the entries of each training batch that are hidden from the encoders; the "
        "loss counts only these, so that copying spikes gains nothing. 0: all are shown and "
        "counted.",
        ours=True,
        ge=0,
        le=0.99,
    )
    sample_validation_rate: float = _p(
        0.0,
        "Fraction of all entries that are hidden from encoders and loss, and only used for a "
        "score, valid/sample_recon.",
        ours=True,
        ge=0,
        le=0.5,
    )
    sample_validation_seed: int = _p(
        0, "Chooses these entries, whatever the seed of the run.", ours=True, ge=0, le=2**32 - 1
    )
    held_out_neurons: Any = _p(
        "file",
        "Neurons that are predicted and scored, but never shown to the encoders: columns, counted "
        "from 0, or a fraction, drawn at random; file: the file's key held_out_neurons, if any.",
        ours=True,
        expected="file, none, a fraction < 1, or a list of columns",
        accepts=_held_out_neurons,
        takes="float | Literal['file', 'none'] | ArrayLike",
    )
    held_out_seed: int = _p(
        0,
        "Chooses the held-out neurons if a fraction is given, whatever the seed of the run.",
        ours=True,
        ge=0,
        le=2**32 - 1,
    )
    forward_steps: int = _p(
        0,
        "Number of bins at the end of each trial that are predicted and scored, but never shown to "
        "the encoders; inferred inputs follow their prior there.",
        ours=True,
        ge=0,
    )


@dataclass
class ModelConfig:
    """The network: sizes, options, priors, initial weights."""

    output_dist: OutputDist = _p(
        OutputDist.poisson,
        "Noise model: for counts, poisson, or negative_binomial if they are overdispersed; for "
        "real values, gaussian; for values above 0, gamma, or zero_inflated_gamma if some are 0.",
    )
    spread_per: Spread = _p(
        Spread.bin,
        "Parameters of the noise model besides the mean (variance, shape, event size), for data "
        "other than counts: read out of the factors in every bin, or one number per neuron.",
        ours=True,
    )
    ic_dim: int = _p(
        64, "Dimensions of the initial-condition code; 0: one trained initial state, no KL.", ge=0
    )
    factors_dim: int = _p(50, "Number of factors.", ge=1)
    ic_enc_dim: int = _p(128, "Units of the initial-condition encoder, per direction.", ge=1)
    gen_dim: int = _p(200, "Units of the generator.", ge=1)
    ci_enc_dim: int = _p(128, "Units of the controller-input encoder, per direction.", ge=1)
    con_dim: int = _p(128, "Units of the controller.", ge=1)
    co_dim: int = _p(1, "Number of inferred inputs (controller outputs); 0: no controller.", ge=0)
    keep_prob: float = _p(
        0.95, "Dropout in training: probability that a value is kept.", gt=0, le=1
    )
    cell_clip_value: float = _p(5.0, "Recurrent states are clamped to +- this.", gt=0)
    cell_weight_scale: float = _p(
        1.0, "Scale of the initial encoder gate weights and of all controller weights.", gt=0
    )
    gen_cell_input_weight_scale: float = _p(
        1.0,
        "Initial standard deviation of the generator's input weights = this / sqrt(inputs).",
        ge=0,
    )
    gen_cell_rec_weight_scale: float = _p(
        1.0,
        "Initial standard deviation of the generator's recurrent weights = this / sqrt(gen_dim).",
        ge=0,
    )
    inject_ext_input_to_gen: bool = _p(
        False, "Feed external inputs to the generator instead of the encoders."
    )
    num_steps_for_gen_ic: int = _p(
        MAX_INT,
        "The initial-condition encoder sees only this many bins at the start of the trial, in both "
        "directions.",
        ge=1,
    )
    do_causal_controller: bool = _p(
        False, "Leave out the controller's backward encoder, which sees the future."
    )
    controller_input_lag: int = _p(
        1,
        "Lag of the controller's input, in bins: at bin t it sees the data up to bin t - lag and "
        "from bin t + lag on.",
        ge=0,
    )
    do_feed_factors_to_controller: bool = _p(
        True, "Feed the factors (or rates) of the previous bin back to the controller."
    )
    feedback_factors_or_rates: Feedback = _p(
        Feedback.factors, "What is fed back; rates needs a single session."
    )
    ic_prior_var_min: float = _p(
        0.1, "Lower bound of the variance of the initial-condition prior.", gt=0
    )
    ic_prior_var_scale: float = _p(0.1, "Starting value of that variance.", gt=0)
    ic_prior_var_max: float = _p(
        0.1, "Its upper bound; the variance is trained if this is above the lower bound.", gt=0
    )
    ic_post_var_min: float = _p(
        1e-4, "Added to the variance of the initial-condition posterior.", ge=0
    )
    co_prior_var_scale: float = _p(
        0.1, "Has no effect, as in the original; other values are warned about.", gt=0
    )
    prior_ar_atau: float = _p(
        10.0,
        "Initial time constant of the AR(1) prior over inferred inputs, in bins.",
        gt=0,
    )
    prior_ar_nvar: float = _p(0.1, "Initial variance of the AR(1) innovations.", gt=0)
    do_train_prior_ar_atau: bool = _p(True, "Train the AR(1) time constants.")
    do_train_prior_ar_nvar: bool = _p(True, "Train the AR(1) innovation variances.")
    do_train_readin: bool = _p(True, "Train the read-in matrix of each session.", ours=True)
    do_log_readout_bias: bool = _p(
        False,
        "Initialise the Poisson read-out at the logarithm of alignment_bias_c, that is, at the "
        "mean rates. The original uses these counts per bin as log-rates.",
        ours=True,
    )
    do_start_at_mean_rates: bool = _p(
        False,
        "Initialise read-outs at the mean rates of the training trials (for data other than "
        "counts: at their means, variances and shapes), for every noise model and alignment.",
        ours=True,
    )
    do_standardise_input: bool = _p(
        False,
        "Standardise the input of the encoders: subtract each neuron's mean and divide by its "
        "standard deviation in the training trials. Hidden entries are then set to the mean.",
        ours=True,
    )
    encoder_bin_size: int = _p(
        1,
        "Number of bins that the initial-condition encoder reads in one step, as their sum divided "
        "by the square root of their number. Inferred inputs keep the bins of the data.",
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
    kl_increase_steps: int = _p(
        2000, "Length of the KL ramp, from 0 to 1, in updates; 0: no ramp.", ge=0
    )
    l2_gen_scale: float = _p(
        2000.0, "L2 penalty on the generator's recurrent weights and biases.", ge=0
    )
    l2_con_scale: float = _p(
        0.0, "L2 penalty on the controller's recurrent weights and biases.", ge=0
    )
    l2_readout_scale: float = _p(
        0.0,
        "L2 penalty on the weights of the read-outs, not divided by their number: a Gaussian prior "
        "on each weight with variance 1 / (scale x training trials of the session).",
        ours=True,
        ge=0,
    )
    l2_start_step: int = _p(0, "Update at which the L2 ramp starts.", ge=0)
    l2_increase_steps: int = _p(
        2000, "Length of the L2 ramp, from 0 to 1, in updates; 0: no ramp.", ge=0
    )
    co_mean_corr_scale: float = _p(
        0.0, "Penalty on correlated inferred inputs (posterior means).", ge=0
    )
    do_analytic_kl_co: bool = _p(
        False, "Compute the inferred-input KL in closed form instead of from one sample.", ours=True
    )


@dataclass
class OptimConfig:
    """The optimiser, the learning rate, and what is trained."""

    optimizer: Optimizer = _p(
        Optimizer.original,
        "original: Adam with epsilon 0.1 before the bias correction, as in TensorFlow 1; adamw: "
        "AdamW (Loshchilov & Hutter 2019), with the four parameters below.",
        ours=True,
    )
    adamw_eps: float = _p(1e-8, "Epsilon of AdamW.", ours=True, gt=0)
    adamw_beta1: float = _p(0.9, "AdamW: decay of the mean gradient.", ours=True, ge=0, le=0.9999)
    adamw_beta2: float = _p(
        0.999, "AdamW: decay of the mean squared gradient.", ours=True, ge=0, le=0.999999
    )
    weight_decay: float = _p(
        0.0,
        "AdamW: weight decay. Each update shrinks every weight by this fraction times the learning "
        "rate.",
        ours=True,
        ge=0,
    )
    schedule: Schedule = _p(
        Schedule.original,
        "original: the learning rate falls when the training cost rises, and training ends when it "
        "is low; cosine: it falls along half a cosine over all updates (trainer.max_steps).",
        ours=True,
    )
    warmup_steps: int = _p(
        0, "Cosine: updates in which the rate first rises to learning_rate_init.", ours=True, ge=0
    )
    cosine_end: float = _p(
        0.01, "Cosine: final rate, as a fraction of learning_rate_init.", ours=True, ge=0, le=1
    )
    average_weights: bool = _p(
        False,
        "Validate, keep and score averages of the weights over the last tenth of the updates, 50 "
        "at most. Training continues with the weights themselves.",
        ours=True,
    )
    learning_rate_init: float = _p(
        0.01, "Learning rate at the start; with cosine, the highest one.", gt=0
    )
    learning_rate_decay_factor: float = _p(
        0.95, "The learning rate is multiplied by this when it decays.", gt=0, le=1
    )
    learning_rate_stop: float = _p(
        1e-5, "Training ends when the learning rate falls below this.", ge=0
    )
    learning_rate_n_to_compare: int = _p(
        6,
        "The learning rate decays when the training cost exceeds that of the last n epochs.",
        ge=1,
    )
    max_grad_norm: float = _p(200.0, "The global gradient norm is clipped to this.", gt=0)
    do_reset_learning_rate: bool = _p(
        False, "When a run is continued, set the learning rate to learning_rate_init again."
    )
    start_from: str | None = _p(
        None,
        "Folder of a run to start from: training begins with its weights and uses its model "
        "parameters. Sessions that it does not know get a new read-in and read-out.",
        ours=True,
    )
    do_train_io_only: bool = _p(False, "Train only the read-ins and read-outs.")
    do_train_encoder_only: bool = _p(False, "Train only the initial-condition encoder.")


@dataclass
class OutputConfig:
    """What is written, and where."""

    lfads_save_dir: str | None = _p(
        None,
        "The run's folder; null: outputs/DATE/TIME. If it holds a run, that run is continued or "
        "used.",
    )
    checkpoint_name: str = _p("lfads_vae", "Stem of the names of checkpoint files.")
    checkpoint_pb_load_name: str = _p(
        "checkpoint",
        "Which checkpoint to load: checkpoint (latest) or checkpoint_lve (lowest validation "
        "error).",
    )
    output_filename_stem: str = _p("", "Prefix of the files that the four other kinds write.")
    max_ckpt_to_keep: int = _p(5, "Number of periodic checkpoints to keep.", ge=1)
    max_ckpt_to_keep_lve: int = _p(
        5, "Number of lowest-validation-error checkpoints to keep.", ge=1
    )
    csv_log: str = _p("fitlog", "Name of the log in the original's format; empty: none.")
    include_optimizer: bool = _p(
        False, "write_model_params also writes the optimiser's moments.", ours=True
    )
    report: bool = _p(
        True,
        "Write report.html and all figures at the end of training, a search or a sweep.",
        ours=True,
    )


@dataclass
class SamplingConfig:
    """How many trials and samples the posterior and prior kinds use."""

    ps_nexamples_to_process: int = _p(
        MAX_INT, "Process only the first n trials of each split.", ge=1
    )
    num_posterior_samples: int | None = _p(
        None, "Posterior samples averaged per trial; null: batch_size.", ours=True, ge=1
    )
    num_score_samples: int = _p(
        16,
        "Posterior samples averaged per trial for scores, figures and the report; 0: use the "
        "posterior means.",
        ours=True,
        ge=0,
    )
    refine_steps: int = _p(
        0,
        "Refine the posterior of each trial by at most this many gradient steps on its own bound, "
        "using only what the encoders see. The number of steps is the one that best predicts "
        "entries held back for this purpose. 100 is a good value; 0: no refinement.",
        ours=True,
        ge=0,
    )
    num_prior_samples: int | None = _p(
        None, "Number of trials drawn by prior_sample; null: batch_size.", ours=True, ge=1
    )
    num_validation_samples: int = _p(
        1, "Posterior samples per trial in the validation cost.", ours=True, ge=1
    )
    memory_mb: int = _p(
        256,
        "Memory of one forward pass, in MB; limits how many samples are drawn together.",
        ours=True,
        ge=1,
    )
    session: str | None = _p(
        None, "Session whose read-out prior_sample uses; null: the first by name.", ours=True
    )


@dataclass
class TrainerConfig:
    """Hardware and length of training."""

    device: str = _p(
        "gpu:0",
        "gpu:N, cuda:N, mps or cpu:0; without such a device, the CPU is used, with a warning.",
    )
    num_devices: int = _p(
        1,
        "Number of GPUs, or of processes on the CPU, that share each batch (DDP).",
        ours=True,
        ge=1,
        le=MOST_AT_ONCE,
    )
    max_epochs: int | None = _p(
        None,
        "Stop after this many epochs; null: when the learning rate is low enough.",
        ours=True,
        ge=1,
    )
    max_steps: int | None = _p(None, "Stop after this many updates.", ours=True, ge=1)
    max_minutes: float | None = _p(
        None,
        "Train for this many minutes. In the first tenth of that time the speed is measured, and "
        "max_steps set accordingly (in config.yaml too). A continued run keeps that number.",
        ours=True,
        gt=0,
    )
    criterion: Criterion = _p(
        Criterion.total,
        "What the lowest-validation-error checkpoint, sweeps and early stopping go by. total: the "
        "total cost; recon_smoothed: the smoothed reconstruction cost; sample_recon_smoothed: the "
        "same for the entries of sample_validation_rate; hidden_recon: that of entries hidden from "
        "the encoders, a fifth at a time, measured every 20 updates or less often (15 % of the "
        "time), whatever the ramps. With hidden_recon and do_start_at_mean_rates, a constant rate "
        "is kept if no epoch is better.",
        ours=True,
    )
    criterion_smoothing: float = _p(
        0.7,
        "Weight of the past in the smoothed criterion, per epoch (hidden_recon: per measurement).",
        ours=True,
        ge=0,
        le=0.99,
    )
    early_stopping_epochs: int | None = _p(
        None,
        "Stop after this many epochs without a new lowest criterion, counted from the end of both "
        "ramps.",
        ours=True,
        ge=1,
    )
    max_recoveries: int = _p(
        3,
        "After three non-finite updates in a row, training goes back to its latest checkpoint with "
        "half the learning rate. After this many times it ends with an error.",
        ours=True,
        ge=0,
    )
    deterministic: bool = _p(
        False,
        "Use only deterministic algorithms (cuDNN, cuBLAS, scatter); an operation without one is "
        "an error. On the CPU, training is always bit-reproducible.",
        ours=True,
    )
    precision: Precision = _p(
        Precision.float32,
        "float32; float64; or bf16: the native kernels round the factors of matrix products to "
        "bf16 in updates, everything else is in float32. Faster, on processors with avx512_bf16.",
        ours=True,
    )
    recurrence: Recurrence = _p(
        Recurrence.auto,
        "Implementation of the recurrent networks. reference: a PyTorch loop; native: C++ kernels, "
        "built on first use (CPU, float32); triton: CUDA kernels (float32); auto: native or triton "
        "if available.",
        ours=True,
    )
    num_threads: int | None = _p(
        1,
        "CPU threads of torch. null: one, but the native kernels share the directions of the "
        "encoders, and batches of 64 trials or more, among all cores, with the same numbers on any "
        "number of cores.",
        ours=True,
        ge=1,
        le=MOST_AT_ONCE,
    )
    logger: Any = _p(
        "tensorboard",
        "Where costs, settings and scores are logged, besides the files of the run. Several are a "
        "list, such as [wandb, mlflow]; csv: only metrics.csv, which every run writes.",
        ours=True,
        expected="any of tensorboard, csv, wandb, mlflow, or a list of them",
        accepts=_loggers,
        takes="Literal['tensorboard', 'csv', 'wandb', 'mlflow'] | Sequence[str]",
    )
    plot_every_n_epochs: int | None = _p(
        None,
        "Epochs between sets of figures in TensorBoard; 0: never; null: one figure at a time, as "
        "often as possible in 2 % of the time.",
        ours=True,
        ge=0,
    )

    @property
    def logger_names(self) -> list[str]:
        """The names in ``logger``, as a list."""
        return [self.logger] if isinstance(self.logger, str) else list(self.logger)


@dataclass
class SearchConfig:
    """Hyperparameter search: population-based training, random draws, candidate structures."""

    algorithm: Algorithm = _p(
        Algorithm.none, "none: train one model; pbt: train a population (search=pbt).", ours=True
    )
    draw: int | None = _p(
        None,
        "Use the n-th random draw from search.space as settings (sweep=random); null: none.",
        ours=True,
        ge=0,
    )
    candidates: Any = _p(
        None,
        "Model structures to try first, each for 15 % of the updates: one_input, no_inputs, "
        "fast_inputs. Training continues with the one of the lowest criterion. null: none; "
        "recipe=auto tries all.",
        ours=True,
        expected="a list of two or more of one_input, no_inputs, fast_inputs, or null",
        accepts=_candidates,
        takes="Sequence[str] | None",
    )
    candidate_learning_rates: Any = _p(
        None,
        "Learning rates to try, each in a training of its own; the model with the lowest criterion "
        "is kept. null: optim.learning_rate_init alone; recipe=auto tries two on up to 50 trials.",
        ours=True,
        expected="a list of two or more different positive numbers, or null",
        accepts=_learning_rates,
        takes="Sequence[float] | None",
    )
    space: str = _p(
        "autolfads",
        "Search space: a preset of conf/space, or a YAML file. With recipe=auto the default is "
        "recipe, which starts from the settings that the recipe chooses.",
        ours=True,
    )
    engine: Engine = _p(
        Engine.local, "local: processes on this machine; ray: a Ray cluster.", ours=True
    )
    population: int = _p(20, "Number of members of the population.", ours=True, ge=2)
    generation_epochs: int = _p(
        25, "Length of a generation, after which members are compared, in epochs.", ours=True, ge=1
    )
    burn_in_epochs: int | None = _p(
        None,
        "Length of the first generation, in epochs; null: until both ramps are complete, plus one "
        "generation.",
        ours=True,
        ge=1,
    )
    max_generations: int = _p(50, "Maximum number of generations.", ours=True, ge=1)
    stop_gain: float = _p(
        0.0005,
        "The search ends when the best criterion improves by less than this fraction ...",
        ours=True,
        ge=0,
    )
    stop_generations: int = _p(4, "... over this many generations.", ours=True, ge=1)
    num_workers: int | None = _p(
        None,
        "Number of members that train at the same time; null: one per CPU core, or 1 on a GPU.",
        ours=True,
        ge=1,
        le=MOST_AT_ONCE,
    )
    ray_address: str | None = _p(
        None, "Ray cluster to join: auto or ray://HOST:PORT; null: only this machine.", ours=True
    )


@dataclass
class Config:
    """All parameters, by group."""

    kind: Kind = _p(Kind.train, "What to do: train, or one of the four other kinds.")
    seed: int = _p(
        0,
        "Random seed of initial weights, data order, noise and masks.",
        ours=True,
        ge=0,
        le=2**32 - 1,
    )
    recipe: Recipe = _p(
        Recipe.auto,
        "How parameters that are not set are chosen. auto: from the size and the statistics of the "
        "data (printed, and written to config.yaml; a search starts from them); original: the "
        "defaults below. With a params_file the default is original.",
        ours=True,
    )
    params_file: str | None = _p(
        None, "Flat YAML or JSON file of parameters; the command line overrides it.", ours=True
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
