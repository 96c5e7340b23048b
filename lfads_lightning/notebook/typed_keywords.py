"""The keywords of `fit` and `prepare`, for editors and type checkers.

Written by ``python -m lfads_lightning.interface.signatures``; do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from numpy.typing import ArrayLike


class FitKeywords(TypedDict, total=False):
    """Parameters, and keys of sessions."""

    seed: int
    """Random seed of initial weights, data order, noise and masks."""
    recipe: Literal["original", "auto"]
    """How parameters that are not set are chosen. auto: from the size and the statistics of the
    data (printed, and written to config.yaml; a search starts from them); original: the defaults
    below. With a params_file the default is original.
    """
    params_file: str | None
    """Flat YAML or JSON file of parameters; the command line overrides it."""
    batch_size: int
    """Trials per batch (at most the session's trials); also the default number of samples."""
    ext_input_dim: int
    """Number of external inputs; 0: external inputs in the files are ignored."""
    temporal_spike_jitter_width: int
    """Spike jitter in training, in bins: each spike moves by a uniform integer from [-w, w-1]. Only
    for counts.
    """
    coordinated_dropout_rate: float
    """Fraction of the entries of each training batch that are hidden from the encoders; the loss
    counts only these, so that copying spikes gains nothing. 0: all are shown and counted.
    """
    sample_validation_rate: float
    """Fraction of all entries that are hidden from encoders and loss, and only used for a score,
    valid/sample_recon.
    """
    sample_validation_seed: int
    """Chooses these entries, whatever the seed of the run."""
    held_out_neurons: float | Literal["file", "none"] | ArrayLike
    """Neurons that are predicted and scored, but never shown to the encoders: columns, counted from
    0, or a fraction, drawn at random; file: the file's key held_out_neurons, if any.
    """
    held_out_seed: int
    """Chooses the held-out neurons if a fraction is given, whatever the seed of the run."""
    forward_steps: int
    """Number of bins at the end of each trial that are predicted and scored, but never shown to the
    encoders; inferred inputs follow their prior there.
    """
    output_dist: Literal["poisson", "gaussian", "negative_binomial", "gamma", "zero_inflated_gamma"]
    """Noise model: for counts, poisson, or negative_binomial if they are overdispersed; for real
    values, gaussian; for values above 0, gamma, or zero_inflated_gamma if some are 0.
    """
    spread_per: Literal["bin", "neuron"]
    """Parameters of the noise model besides the mean (variance, shape, event size), for data other
    than counts: read out of the factors in every bin, or one number per neuron.
    """
    ic_dim: int
    """Dimensions of the initial-condition code; 0: one trained initial state, no KL."""
    factors_dim: int
    """Number of factors."""
    ic_enc_dim: int
    """Units of the initial-condition encoder, per direction."""
    gen_dim: int
    """Units of the generator."""
    ci_enc_dim: int
    """Units of the controller-input encoder, per direction."""
    con_dim: int
    """Units of the controller."""
    co_dim: int
    """Number of inferred inputs (controller outputs); 0: no controller."""
    keep_prob: float
    """Dropout in training: probability that a value is kept."""
    cell_clip_value: float
    """Recurrent states are clamped to +- this."""
    cell_weight_scale: float
    """Scale of the initial encoder gate weights and of all controller weights."""
    gen_cell_input_weight_scale: float
    """Initial standard deviation of the generator's input weights = this / sqrt(inputs)."""
    gen_cell_rec_weight_scale: float
    """Initial standard deviation of the generator's recurrent weights = this / sqrt(gen_dim)."""
    inject_ext_input_to_gen: bool
    """Feed external inputs to the generator instead of the encoders."""
    num_steps_for_gen_ic: int
    """The initial-condition encoder sees only this many bins at the start of the trial, in both
    directions.
    """
    do_causal_controller: bool
    """Leave out the controller's backward encoder, which sees the future."""
    controller_input_lag: int
    """Lag of the controller's input, in bins: at bin t it sees the data up to bin t - lag and from
    bin t + lag on.
    """
    do_feed_factors_to_controller: bool
    """Feed the factors (or rates) of the previous bin back to the controller."""
    feedback_factors_or_rates: Literal["factors", "rates"]
    """What is fed back; rates needs a single session."""
    ic_prior_var_min: float
    """Lower bound of the variance of the initial-condition prior."""
    ic_prior_var_scale: float
    """Starting value of that variance."""
    ic_prior_var_max: float
    """Its upper bound; the variance is trained if this is above the lower bound."""
    ic_post_var_min: float
    """Added to the variance of the initial-condition posterior."""
    co_prior_var_scale: float
    """Has no effect, as in the original; other values are warned about."""
    prior_ar_atau: float
    """Initial time constant of the AR(1) prior over inferred inputs, in bins."""
    prior_ar_nvar: float
    """Initial variance of the AR(1) innovations."""
    do_train_prior_ar_atau: bool
    """Train the AR(1) time constants."""
    do_train_prior_ar_nvar: bool
    """Train the AR(1) innovation variances."""
    do_train_readin: bool
    """Train the read-in matrix of each session."""
    do_log_readout_bias: bool
    """Initialise the Poisson read-out at the logarithm of alignment_bias_c, that is, at the mean
    rates. The original uses these counts per bin as log-rates.
    """
    do_start_at_mean_rates: bool
    """Initialise read-outs at the mean rates of the training trials (for data other than counts: at
    their means, variances and shapes), for every noise model and alignment.
    """
    do_standardise_input: bool
    """Standardise the input of the encoders: subtract each neuron's mean and divide by its standard
    deviation in the training trials. Hidden entries are then set to the mean.
    """
    encoder_bin_size: int
    """Number of bins that the initial-condition encoder reads in one step, as their sum divided by
    the square root of their number. Inferred inputs keep the bins of the data.
    """
    do_legacy_ic_prior_var: bool
    """Bound the prior variance by sigmoid(exp(p)), as the original did."""
    _clip_value: float
    """Log-rates and log-variances are clamped to +- this."""
    kl_ic_weight: float
    """Weight of the initial-condition KL."""
    kl_co_weight: float
    """Weight of the inferred-input KL."""
    kl_start_step: int
    """Update at which the KL ramp starts."""
    kl_increase_steps: int
    """Length of the KL ramp, from 0 to 1, in updates; 0: no ramp."""
    l2_gen_scale: float
    """L2 penalty on the generator's recurrent weights and biases."""
    l2_con_scale: float
    """L2 penalty on the controller's recurrent weights and biases."""
    l2_readout_scale: float
    """L2 penalty on the weights of the read-outs, not divided by their number: a Gaussian prior on
    each weight with variance 1 / (scale x training trials of the session).
    """
    l2_start_step: int
    """Update at which the L2 ramp starts."""
    l2_increase_steps: int
    """Length of the L2 ramp, from 0 to 1, in updates; 0: no ramp."""
    co_mean_corr_scale: float
    """Penalty on correlated inferred inputs (posterior means)."""
    do_analytic_kl_co: bool
    """Compute the inferred-input KL in closed form instead of from one sample."""
    optimizer: Literal["original", "adamw"]
    """original: Adam with epsilon 0.1 before the bias correction, as in TensorFlow 1; adamw: AdamW
    (Loshchilov & Hutter 2019), with the four parameters below.
    """
    adamw_eps: float
    """Epsilon of AdamW."""
    adamw_beta1: float
    """AdamW: decay of the mean gradient."""
    adamw_beta2: float
    """AdamW: decay of the mean squared gradient."""
    weight_decay: float
    """AdamW: weight decay. Each update shrinks every weight by this fraction times the learning
    rate.
    """
    schedule: Literal["original", "cosine"]
    """original: the learning rate falls when the training cost rises, and training ends when it is
    low; cosine: it falls along half a cosine over all updates (trainer.max_steps).
    """
    warmup_steps: int
    """Cosine: updates in which the rate first rises to learning_rate_init."""
    cosine_end: float
    """Cosine: final rate, as a fraction of learning_rate_init."""
    average_weights: bool
    """Validate, keep and score averages of the weights over the last tenth of the updates, 50 at
    most. Training continues with the weights themselves.
    """
    learning_rate_init: float
    """Learning rate at the start; with cosine, the highest one."""
    learning_rate_decay_factor: float
    """The learning rate is multiplied by this when it decays."""
    learning_rate_stop: float
    """Training ends when the learning rate falls below this."""
    learning_rate_n_to_compare: int
    """The learning rate decays when the training cost exceeds that of the last n epochs."""
    max_grad_norm: float
    """The global gradient norm is clipped to this."""
    do_reset_learning_rate: bool
    """When a run is continued, set the learning rate to learning_rate_init again."""
    start_from: str | None
    """Folder of a run to start from: training begins with its weights and uses its model
    parameters. Sessions that it does not know get a new read-in and read-out.
    """
    do_train_io_only: bool
    """Train only the read-ins and read-outs."""
    do_train_encoder_only: bool
    """Train only the initial-condition encoder."""
    lfads_save_dir: str | None
    """The run's folder; None: outputs/DATE/TIME. If it holds a run, that run is continued or used.
    """
    checkpoint_name: str
    """Stem of the names of checkpoint files."""
    checkpoint_pb_load_name: str
    """Which checkpoint to load: checkpoint (latest) or checkpoint_lve (lowest validation error)."""
    output_filename_stem: str
    """Prefix of the files that the four other kinds write."""
    max_ckpt_to_keep: int
    """Number of periodic checkpoints to keep."""
    max_ckpt_to_keep_lve: int
    """Number of lowest-validation-error checkpoints to keep."""
    csv_log: str
    """Name of the log in the original's format; empty: none."""
    include_optimizer: bool
    """write_model_params also writes the optimiser's moments."""
    report: bool
    """Write report.html and all figures at the end of training, a search or a sweep."""
    ps_nexamples_to_process: int
    """Process only the first n trials of each split."""
    num_posterior_samples: int | None
    """Posterior samples averaged per trial; None: batch_size."""
    num_score_samples: int
    """Posterior samples averaged per trial for scores, figures and the report; 0: use the posterior
    means.
    """
    refine_steps: int
    """Refine the posterior of each trial by at most this many gradient steps on its own bound,
    using only what the encoders see. The number of steps is the one that best predicts entries
    held back for this purpose. 100 is a good value; 0: no refinement.
    """
    num_prior_samples: int | None
    """Number of trials drawn by prior_sample; None: batch_size."""
    num_validation_samples: int
    """Posterior samples per trial in the validation cost."""
    memory_mb: int
    """Memory of one forward pass, in MB; limits how many samples are drawn together."""
    session: str | None
    """Session whose read-out prior_sample uses; None: the first by name."""
    device: str
    """gpu:N, cuda:N, mps or cpu:0; without such a device, the CPU is used, with a warning."""
    num_devices: int
    """Number of GPUs, or of processes on the CPU, that share each batch (DDP)."""
    max_epochs: int | None
    """Stop after this many epochs; None: when the learning rate is low enough."""
    max_steps: int | None
    """Stop after this many updates."""
    max_minutes: float | None
    """Train for this many minutes. In the first tenth of that time the speed is measured, and
    max_steps set accordingly (in config.yaml too). A continued run keeps that number.
    """
    criterion: Literal["total", "recon_smoothed", "sample_recon_smoothed", "hidden_recon"]
    """What the lowest-validation-error checkpoint, sweeps and early stopping go by. total: the
    total cost; recon_smoothed: the smoothed reconstruction cost; sample_recon_smoothed: the same
    for the entries of sample_validation_rate; hidden_recon: that of entries hidden from the
    encoders, a fifth at a time, measured every 20 updates or less often (15 % of the time),
    whatever the ramps. With hidden_recon and do_start_at_mean_rates, a constant rate is kept if
    no epoch is better.
    """
    criterion_smoothing: float
    """Weight of the past in the smoothed criterion, per epoch (hidden_recon: per measurement)."""
    early_stopping_epochs: int | None
    """Stop after this many epochs without a new lowest criterion, counted from the end of both
    ramps.
    """
    max_recoveries: int
    """After three non-finite updates in a row, training goes back to its latest checkpoint with
    half the learning rate. After this many times it ends with an error.
    """
    deterministic: bool
    """Use only deterministic algorithms (cuDNN, cuBLAS, scatter); an operation without one is an
    error. On the CPU, training is always bit-reproducible.
    """
    precision: Literal["float32", "float64", "bf16"]
    """float32; float64; or bf16: the native kernels round the factors of matrix products to bf16 in
    updates, everything else is in float32. Faster, on processors with avx512_bf16.
    """
    recurrence: Literal["auto", "reference", "native", "triton"]
    """Implementation of the recurrent networks. reference: a PyTorch loop; native: C++ kernels,
    built on first use (CPU, float32); triton: CUDA kernels (float32); auto: native or triton if
    available.
    """
    num_threads: int | None
    """CPU threads of torch. None: one, but the native kernels share the directions of the encoders,
    and batches of 64 trials or more, among all cores, with the same numbers on any number of
    cores.
    """
    logger: Literal["tensorboard", "csv", "wandb", "mlflow"] | Sequence[str]
    """Where costs, settings and scores are logged, besides the files of the run. Several are a
    list, such as [wandb, mlflow]; csv: only metrics.csv, which every run writes.
    """
    plot_every_n_epochs: int | None
    """Epochs between sets of figures in TensorBoard; 0: never; None: one figure at a time, as often
    as possible in 2 % of the time.
    """
    algorithm: Literal["none", "pbt"]
    """none: train one model; pbt: train a population (search=pbt)."""
    draw: int | None
    """Use the n-th random draw from search.space as settings (sweep=random); None: none."""
    candidates: Sequence[str] | None
    """Model structures to try first, each for 15 % of the updates: one_input, no_inputs,
    fast_inputs. Training continues with the one of the lowest criterion. None: none; recipe=auto
    tries all.
    """
    candidate_learning_rates: Sequence[float] | None
    """Learning rates to try, each in a training of its own; the model with the lowest criterion is
    kept. None: optim.learning_rate_init alone; recipe=auto tries two on up to 50 trials.
    """
    space: str
    """Search space: a preset of conf/space, or a YAML file. With recipe=auto the default is recipe,
    which starts from the settings that the recipe chooses.
    """
    engine: Literal["local", "ray"]
    """local: processes on this machine; ray: a Ray cluster."""
    population: int
    """Number of members of the population."""
    generation_epochs: int
    """Length of a generation, after which members are compared, in epochs."""
    burn_in_epochs: int | None
    """Length of the first generation, in epochs; None: until both ramps are complete, plus one
    generation.
    """
    max_generations: int
    """Maximum number of generations."""
    stop_gain: float
    """The search ends when the best criterion improves by less than this fraction ..."""
    stop_generations: int
    """... over this many generations."""
    num_workers: int | None
    """Number of members that train at the same time; None: one per CPU core, or 1 on a GPU."""
    ray_address: str | None
    """Ray cluster to join: auto or ray://HOST:PORT; None: only this machine."""
    train_ext_input: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, I) real numbers; external inputs, used if `data.ext_input_dim` > 0."""
    train_truth: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) real numbers; true rates, in units of `conversion_factor`; for scores and figures.
    """
    train_inds: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; which trials of the recording these are, counted from 0."""
    train_condition: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers or text; condition of each trial; negative or empty: none."""
    train_behaviour: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, K) real numbers; behaviour in each bin."""
    train_event_times_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) seconds; time of the event that each trial is aligned to, on the recording's clock."""
    train_lengths: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; number of bins of each trial, if trials differ in length."""
    train_mask: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) 0 or 1; 1 where an entry of the data is present, 0 where it is missing."""
    valid_data: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) counts or real numbers; spike counts per bin, or real values with
    `model.output_dist=gaussian`; without `valid_data` the best epoch is not chosen.
    """
    valid_ext_input: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, I) real numbers; external inputs, used if `data.ext_input_dim` > 0."""
    valid_truth: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) real numbers; true rates, in units of `conversion_factor`; for scores and figures.
    """
    valid_inds: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; which trials of the recording these are, counted from 0."""
    valid_condition: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers or text; condition of each trial; negative or empty: none."""
    valid_behaviour: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, K) real numbers; behaviour in each bin."""
    valid_event_times_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) seconds; time of the event that each trial is aligned to, on the recording's clock."""
    valid_lengths: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; number of bins of each trial, if trials differ in length."""
    valid_mask: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) 0 or 1; 1 where an entry of the data is present, 0 where it is missing."""
    alignment_matrix_cxf: ArrayLike | Mapping[str, ArrayLike] | None
    """(D, F) real numbers; initial read-in weights, to stitch several sessions."""
    alignment_bias_c: ArrayLike | Mapping[str, ArrayLike] | None
    """(D) real numbers; subtracted from the data by the initial read-in; also the initial read-out
    bias.
    """
    conversion_factor: float | Mapping[str, float] | None
    """one number; units of the truth per (count/bin); 1 if absent."""
    bin_width_s: float | Mapping[str, float] | None
    """one number; bin width, seconds."""
    neuron_ids: ArrayLike | Mapping[str, ArrayLike] | None
    """(D) whole numbers or text; names of the neurons."""
    window_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(2) seconds; start and end of a trial, in seconds from its event."""
    event: str | Mapping[str, str] | None
    """one text; name of the event that trials are aligned to, for figures."""
    ext_input: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, I) real numbers; external inputs, used if `data.ext_input_dim` > 0."""
    truth: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) real numbers; true rates, in units of `conversion_factor`; for scores and figures.
    """
    inds: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; which trials of the recording these are, counted from 0."""
    condition: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers or text; condition of each trial; negative or empty: none."""
    behaviour: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, K) real numbers; behaviour in each bin."""
    event_times_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) seconds; time of the event that each trial is aligned to, on the recording's clock."""
    lengths: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; number of bins of each trial, if trials differ in length."""
    mask: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) 0 or 1; 1 where an entry of the data is present, 0 where it is missing."""


class EstimatorKeywords(TypedDict, total=False):
    """Parameters; None: not set."""

    valid_fraction: float | None
    """Share of the trials of fit, evenly spaced, that choose the best epoch; None: .2."""
    seed: int | None
    """Random seed of initial weights, data order, noise and masks."""
    recipe: Literal["original", "auto"] | None
    """How parameters that are not set are chosen. auto: from the size and the statistics of the
    data (printed, and written to config.yaml; a search starts from them); original: the defaults
    below. With a params_file the default is original.
    """
    batch_size: int | None
    """Trials per batch (at most the session's trials); also the default number of samples."""
    temporal_spike_jitter_width: int | None
    """Spike jitter in training, in bins: each spike moves by a uniform integer from [-w, w-1]. Only
    for counts.
    """
    coordinated_dropout_rate: float | None
    """Fraction of the entries of each training batch that are hidden from the encoders; the loss
    counts only these, so that copying spikes gains nothing. 0: all are shown and counted.
    """
    sample_validation_rate: float | None
    """Fraction of all entries that are hidden from encoders and loss, and only used for a score,
    valid/sample_recon.
    """
    sample_validation_seed: int | None
    """Chooses these entries, whatever the seed of the run."""
    held_out_neurons: float | Literal["file", "none"] | ArrayLike | None
    """Neurons that are predicted and scored, but never shown to the encoders: columns, counted from
    0, or a fraction, drawn at random; file: the file's key held_out_neurons, if any.
    """
    held_out_seed: int | None
    """Chooses the held-out neurons if a fraction is given, whatever the seed of the run."""
    forward_steps: int | None
    """Number of bins at the end of each trial that are predicted and scored, but never shown to the
    encoders; inferred inputs follow their prior there.
    """
    output_dist: (
        Literal[
            "poisson",
            "gaussian",
            "negative_binomial",
            "gamma",
            "zero_inflated_gamma",
        ]
        | None
    )
    """Noise model: for counts, poisson, or negative_binomial if they are overdispersed; for real
    values, gaussian; for values above 0, gamma, or zero_inflated_gamma if some are 0.
    """
    spread_per: Literal["bin", "neuron"] | None
    """Parameters of the noise model besides the mean (variance, shape, event size), for data other
    than counts: read out of the factors in every bin, or one number per neuron.
    """
    ic_dim: int | None
    """Dimensions of the initial-condition code; 0: one trained initial state, no KL."""
    factors_dim: int | None
    """Number of factors."""
    ic_enc_dim: int | None
    """Units of the initial-condition encoder, per direction."""
    gen_dim: int | None
    """Units of the generator."""
    ci_enc_dim: int | None
    """Units of the controller-input encoder, per direction."""
    con_dim: int | None
    """Units of the controller."""
    co_dim: int | None
    """Number of inferred inputs (controller outputs); 0: no controller."""
    keep_prob: float | None
    """Dropout in training: probability that a value is kept."""
    cell_clip_value: float | None
    """Recurrent states are clamped to +- this."""
    cell_weight_scale: float | None
    """Scale of the initial encoder gate weights and of all controller weights."""
    gen_cell_input_weight_scale: float | None
    """Initial standard deviation of the generator's input weights = this / sqrt(inputs)."""
    gen_cell_rec_weight_scale: float | None
    """Initial standard deviation of the generator's recurrent weights = this / sqrt(gen_dim)."""
    inject_ext_input_to_gen: bool | None
    """Feed external inputs to the generator instead of the encoders."""
    num_steps_for_gen_ic: int | None
    """The initial-condition encoder sees only this many bins at the start of the trial, in both
    directions.
    """
    do_causal_controller: bool | None
    """Leave out the controller's backward encoder, which sees the future."""
    controller_input_lag: int | None
    """Lag of the controller's input, in bins: at bin t it sees the data up to bin t - lag and from
    bin t + lag on.
    """
    do_feed_factors_to_controller: bool | None
    """Feed the factors (or rates) of the previous bin back to the controller."""
    feedback_factors_or_rates: Literal["factors", "rates"] | None
    """What is fed back; rates needs a single session."""
    ic_prior_var_min: float | None
    """Lower bound of the variance of the initial-condition prior."""
    ic_prior_var_scale: float | None
    """Starting value of that variance."""
    ic_prior_var_max: float | None
    """Its upper bound; the variance is trained if this is above the lower bound."""
    ic_post_var_min: float | None
    """Added to the variance of the initial-condition posterior."""
    co_prior_var_scale: float | None
    """Has no effect, as in the original; other values are warned about."""
    prior_ar_atau: float | None
    """Initial time constant of the AR(1) prior over inferred inputs, in bins."""
    prior_ar_nvar: float | None
    """Initial variance of the AR(1) innovations."""
    do_train_prior_ar_atau: bool | None
    """Train the AR(1) time constants."""
    do_train_prior_ar_nvar: bool | None
    """Train the AR(1) innovation variances."""
    do_train_readin: bool | None
    """Train the read-in matrix of each session."""
    do_log_readout_bias: bool | None
    """Initialise the Poisson read-out at the logarithm of alignment_bias_c, that is, at the mean
    rates. The original uses these counts per bin as log-rates.
    """
    do_start_at_mean_rates: bool | None
    """Initialise read-outs at the mean rates of the training trials (for data other than counts: at
    their means, variances and shapes), for every noise model and alignment.
    """
    do_standardise_input: bool | None
    """Standardise the input of the encoders: subtract each neuron's mean and divide by its standard
    deviation in the training trials. Hidden entries are then set to the mean.
    """
    encoder_bin_size: int | None
    """Number of bins that the initial-condition encoder reads in one step, as their sum divided by
    the square root of their number. Inferred inputs keep the bins of the data.
    """
    do_legacy_ic_prior_var: bool | None
    """Bound the prior variance by sigmoid(exp(p)), as the original did."""
    _clip_value: float | None
    """Log-rates and log-variances are clamped to +- this."""
    kl_ic_weight: float | None
    """Weight of the initial-condition KL."""
    kl_co_weight: float | None
    """Weight of the inferred-input KL."""
    kl_start_step: int | None
    """Update at which the KL ramp starts."""
    kl_increase_steps: int | None
    """Length of the KL ramp, from 0 to 1, in updates; 0: no ramp."""
    l2_gen_scale: float | None
    """L2 penalty on the generator's recurrent weights and biases."""
    l2_con_scale: float | None
    """L2 penalty on the controller's recurrent weights and biases."""
    l2_readout_scale: float | None
    """L2 penalty on the weights of the read-outs, not divided by their number: a Gaussian prior on
    each weight with variance 1 / (scale x training trials of the session).
    """
    l2_start_step: int | None
    """Update at which the L2 ramp starts."""
    l2_increase_steps: int | None
    """Length of the L2 ramp, from 0 to 1, in updates; 0: no ramp."""
    co_mean_corr_scale: float | None
    """Penalty on correlated inferred inputs (posterior means)."""
    do_analytic_kl_co: bool | None
    """Compute the inferred-input KL in closed form instead of from one sample."""
    optimizer: Literal["original", "adamw"] | None
    """original: Adam with epsilon 0.1 before the bias correction, as in TensorFlow 1; adamw: AdamW
    (Loshchilov & Hutter 2019), with the four parameters below.
    """
    adamw_eps: float | None
    """Epsilon of AdamW."""
    adamw_beta1: float | None
    """AdamW: decay of the mean gradient."""
    adamw_beta2: float | None
    """AdamW: decay of the mean squared gradient."""
    weight_decay: float | None
    """AdamW: weight decay. Each update shrinks every weight by this fraction times the learning
    rate.
    """
    schedule: Literal["original", "cosine"] | None
    """original: the learning rate falls when the training cost rises, and training ends when it is
    low; cosine: it falls along half a cosine over all updates (trainer.max_steps).
    """
    warmup_steps: int | None
    """Cosine: updates in which the rate first rises to learning_rate_init."""
    cosine_end: float | None
    """Cosine: final rate, as a fraction of learning_rate_init."""
    average_weights: bool | None
    """Validate, keep and score averages of the weights over the last tenth of the updates, 50 at
    most. Training continues with the weights themselves.
    """
    learning_rate_init: float | None
    """Learning rate at the start; with cosine, the highest one."""
    learning_rate_decay_factor: float | None
    """The learning rate is multiplied by this when it decays."""
    learning_rate_stop: float | None
    """Training ends when the learning rate falls below this."""
    learning_rate_n_to_compare: int | None
    """The learning rate decays when the training cost exceeds that of the last n epochs."""
    max_grad_norm: float | None
    """The global gradient norm is clipped to this."""
    do_reset_learning_rate: bool | None
    """When a run is continued, set the learning rate to learning_rate_init again."""
    start_from: str | None
    """Folder of a run to start from: training begins with its weights and uses its model
    parameters. Sessions that it does not know get a new read-in and read-out.
    """
    do_train_io_only: bool | None
    """Train only the read-ins and read-outs."""
    do_train_encoder_only: bool | None
    """Train only the initial-condition encoder."""
    ps_nexamples_to_process: int | None
    """Process only the first n trials of each split."""
    num_posterior_samples: int | None
    """Posterior samples averaged per trial; None: batch_size."""
    num_score_samples: int | None
    """Posterior samples averaged per trial for scores, figures and the report; 0: use the posterior
    means.
    """
    refine_steps: int | None
    """Refine the posterior of each trial by at most this many gradient steps on its own bound,
    using only what the encoders see. The number of steps is the one that best predicts entries
    held back for this purpose. 100 is a good value; 0: no refinement.
    """
    num_prior_samples: int | None
    """Number of trials drawn by prior_sample; None: batch_size."""
    num_validation_samples: int | None
    """Posterior samples per trial in the validation cost."""
    memory_mb: int | None
    """Memory of one forward pass, in MB; limits how many samples are drawn together."""
    session: str | None
    """Session whose read-out prior_sample uses; None: the first by name."""
    device: str | None
    """gpu:N, cuda:N, mps or cpu:0; without such a device, the CPU is used, with a warning."""
    num_devices: int | None
    """Number of GPUs, or of processes on the CPU, that share each batch (DDP)."""
    max_epochs: int | None
    """Stop after this many epochs; None: when the learning rate is low enough."""
    max_steps: int | None
    """Stop after this many updates."""
    max_minutes: float | None
    """Train for this many minutes. In the first tenth of that time the speed is measured, and
    max_steps set accordingly (in config.yaml too). A continued run keeps that number.
    """
    criterion: Literal["total", "recon_smoothed", "sample_recon_smoothed", "hidden_recon"] | None
    """What the lowest-validation-error checkpoint, sweeps and early stopping go by. total: the
    total cost; recon_smoothed: the smoothed reconstruction cost; sample_recon_smoothed: the same
    for the entries of sample_validation_rate; hidden_recon: that of entries hidden from the
    encoders, a fifth at a time, measured every 20 updates or less often (15 % of the time),
    whatever the ramps. With hidden_recon and do_start_at_mean_rates, a constant rate is kept if
    no epoch is better.
    """
    criterion_smoothing: float | None
    """Weight of the past in the smoothed criterion, per epoch (hidden_recon: per measurement)."""
    early_stopping_epochs: int | None
    """Stop after this many epochs without a new lowest criterion, counted from the end of both
    ramps.
    """
    max_recoveries: int | None
    """After three non-finite updates in a row, training goes back to its latest checkpoint with
    half the learning rate. After this many times it ends with an error.
    """
    deterministic: bool | None
    """Use only deterministic algorithms (cuDNN, cuBLAS, scatter); an operation without one is an
    error. On the CPU, training is always bit-reproducible.
    """
    precision: Literal["float32", "float64", "bf16"] | None
    """float32; float64; or bf16: the native kernels round the factors of matrix products to bf16 in
    updates, everything else is in float32. Faster, on processors with avx512_bf16.
    """
    recurrence: Literal["auto", "reference", "native", "triton"] | None
    """Implementation of the recurrent networks. reference: a PyTorch loop; native: C++ kernels,
    built on first use (CPU, float32); triton: CUDA kernels (float32); auto: native or triton if
    available.
    """
    num_threads: int | None
    """CPU threads of torch. None: one, but the native kernels share the directions of the encoders,
    and batches of 64 trials or more, among all cores, with the same numbers on any number of
    cores.
    """
    logger: Literal["tensorboard", "csv", "wandb", "mlflow"] | Sequence[str] | None
    """Where costs, settings and scores are logged, besides the files of the run. Several are a
    list, such as [wandb, mlflow]; csv: only metrics.csv, which every run writes.
    """
    plot_every_n_epochs: int | None
    """Epochs between sets of figures in TensorBoard; 0: never; None: one figure at a time, as often
    as possible in 2 % of the time.
    """


class PrepareKeywords(TypedDict, total=False):
    """Options of `lfads prepare`."""

    bin_width_s: float | None
    """Bin width; for binned counts, a multiple of the file's (default: the file's)."""
    source_bin_width_s: float | None
    """Bin width of the counts in the file, if the file does not say."""
    counts_key: str | None
    """Array of a .npz or .mat file that holds the counts; for a field of a structure, write D.data.
    """
    axes: Sequence[Literal["trials", "bins", "neurons"]] | None
    """Order of the axes of the counts in the file (default: trials bins neurons, or bins neurons
    for one continuous recording).
    """
    rows: Literal["spikes", "bins"] | None
    """What a row of a table is: one spike, or one bin with a column per neuron (default: a spike,
    if there is a column of neurons).
    """
    columns: Sequence[str]
    """Column names for a table without a header, in order, such as unit time."""
    unit_column: str | None
    """Column (or key) with the neuron of each spike."""
    time_column: str | None
    """Column (or key) with the time of each spike."""
    trial_column: str | None
    """Column (or key) with the trial of each spike."""
    time_unit: Literal["s", "ms", "us", "samples"] | None
    """Unit of all times in the file (default: s; times that look like another unit are refused);
    for sorters' folders, whose spikes are in samples: of the other tables.
    """
    sampling_rate_hz: float | None
    """Samples per second, for time_unit samples and sorters' folders."""
    trials: str | None
    """Trial table: a CSV or parquet file ({name} is replaced by the recording's name), or the name
    of an NWB interval table (default: trials).
    """
    align_to: str | None
    """Event (column of the trial table) to which trials are aligned."""
    window_s: tuple[float, float] | None
    """Start and end of each trial, relative to the event."""
    recording_s: tuple[float, float] | None
    """Start and end of the recording."""
    chop_bins: int | None
    """Cut a continuous recording into chops (pieces) of this length."""
    overlap_bins: int
    """Overlap of neighbouring chops."""
    min_rate_hz: float | None
    """Leave out neurons below this rate; for real values that are 0 between events, the rate is
    that of bins other than 0. Constant neurons are left out too. 0 keeps silent neurons
    (default: they are an error).
    """
    leave_out: Sequence[str]
    """Ids of neurons to leave out."""
    unit_quality: Sequence[str]
    """Units to use, by the label that a sorter or a person gave them: good, or good,mua, or all
    (default: good for sorters' folders and ALF, all for others).
    """
    units: str | None
    """Units to use, as a condition on their columns, such as "quality == 'good' and depth < 500";
    id is the number or name of a unit.
    """
    where: str | None
    """Trials to use, as a condition on their columns, such as "success and rt < 600"; it can
    contain comparisons, and, or, not, in ['a', 'b'], parentheses.
    """
    held_out: str | None
    """Column (or key) that marks held-out neurons (default: held_out or heldout, if present)."""
    condition: Sequence[str]
    """Column (or key) with the condition of each trial (default: condition, if present); if several
    are given, each combination is a condition.
    """
    behaviour: Sequence[str]
    """Behaviour: NWB time series, or keys, or columns of the behaviour file."""
    behaviour_file: str | None
    """CSV or parquet file with a column time ({name} is replaced by the recording's name)."""
    behaviour_lag_s: float
    """Lag of the behaviour: each bin of spikes gets the behaviour of so many seconds later (below
    0: earlier); only for spike times.
    """
    drop_nan_behaviour: bool
    """Drop trials with gaps in their behaviour, instead of stopping with an error."""
    valid_fraction: float
    """Fraction of the trials of each condition for validation."""
    test_fraction: float
    """Fraction of the trials of each condition for a test split."""
    split_column: str | None
    """Column with the split of each trial: train, val (valid, validation) or test; trials with
    other labels are left out.
    """
    split: Literal["even", "random"]
    """How validation and test trials are chosen: evenly spaced in time, or at random."""
    seed: int
    """Seed of the random split."""
    nlb: (
        Literal[
            "mc_maze",
            "mc_rtt",
            "area2_bump",
            "dmfc_rsg",
            "mc_maze_large",
            "mc_maze_medium",
            "mc_maze_small",
        ]
        | None
    )
    """The data set of the Neural Latents Benchmark that this NWB file is from. Sets the event, the
    window with 200 ms of forward bins, bin width, behaviour, lag, conditions, held-out neurons
    and splits of the benchmark; other options that you give override these.
    """
