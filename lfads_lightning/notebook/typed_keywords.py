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
    """Seeds initial weights, data order, noise and masks."""
    recipe: Literal["original", "auto"]
    """What is not set: auto: is chosen by the size and the statistics of the data, told in a line
    and written to config.yaml; a search starts from it; original: has the defaults below. With a
    params_file original, unless it is given.
    """
    params_file: str | None
    """Flat YAML or JSON file of parameter names; the command line beats it."""
    batch_size: int
    """Trials per batch, cut to the session's size; default number of samples."""
    ext_input_dim: int
    """External inputs per bin; 0 ignores those in the files."""
    temporal_spike_jitter_width: int
    """Bins: each training spike moves by a uniform draw from [-w, w-1] (counts only)."""
    coordinated_dropout_rate: float
    """Share of each training batch's entries that is hidden and scored; the rest is shown and not
    scored, so that copying gains nothing. 0: all are shown and scored.
    """
    sample_validation_rate: float
    """Share of all entries never shown and never trained on, but scored: valid/sample_recon."""
    sample_validation_seed: int
    """Which entries these are; the same for every seed."""
    held_out_neurons: float | Literal["file", "none"] | ArrayLike
    """Neurons that are predicted and scored, but never shown to the encoders: columns counted from
    0, or a share drawn at random; file: what its key held_out_neurons says, if any.
    """
    held_out_seed: int
    """Which neurons a share of them is; the same for every seed."""
    forward_steps: int
    """Last bins that are predicted and scored, but never shown to the encoders; inferred inputs go
    on by their prior there.
    """
    output_dist: Literal["poisson", "gaussian", "negative_binomial", "gamma", "zero_inflated_gamma"]
    """Noise model: of counts (poisson; negative_binomial, which scatter more), of real values
    (gaussian), of values above 0 (gamma), or of such with zeros (zero_inflated_gamma).
    """
    spread_per: Literal["bin", "neuron"]
    """What is trained beside the mean of values that are no counts (variance, shape, size of
    events): read out of the factors for every bin, or one number of each neuron.
    """
    ic_dim: int
    """Initial-condition code; 0: one learned start state, no KL."""
    factors_dim: int
    """Factors."""
    ic_enc_dim: int
    """Initial-condition encoder units per direction."""
    gen_dim: int
    """Generator units."""
    ci_enc_dim: int
    """Controller-input encoder units per direction."""
    con_dim: int
    """Controller units."""
    co_dim: int
    """Inferred inputs (controller outputs); 0: no controller."""
    keep_prob: float
    """Probability that dropout keeps a value, in training."""
    cell_clip_value: float
    """Recurrent states are clamped to +- this."""
    cell_weight_scale: float
    """Scales the initial encoder gate weights and all controller weights."""
    gen_cell_input_weight_scale: float
    """Initial std of generator input weights = this / sqrt(inputs)."""
    gen_cell_rec_weight_scale: float
    """Initial std of generator recurrent weights = this / sqrt(gen_dim)."""
    inject_ext_input_to_gen: bool
    """External inputs enter the generator instead of the encoders."""
    num_steps_for_gen_ic: int
    """First bins seen by the initial-condition encoder, both directions."""
    do_causal_controller: bool
    """Leave out the controller's backward encoder."""
    controller_input_lag: int
    """Bins by which the controller's view of the data is held back."""
    do_feed_factors_to_controller: bool
    """Feed the previous bin back to the controller."""
    feedback_factors_or_rates: Literal["factors", "rates"]
    """What is fed back; rates needs a single session."""
    ic_prior_var_min: float
    """Lower bound of the initial-condition prior variance."""
    ic_prior_var_scale: float
    """Starting value of that variance."""
    ic_prior_var_max: float
    """Upper bound; above the minimum: variance is trained."""
    ic_post_var_min: float
    """Added to the variance of the initial-condition posterior."""
    co_prior_var_scale: float
    """No effect, as in the original; kept, and warned of."""
    prior_ar_atau: float
    """Bins: starting time constant of the AR(1) prior over inferred inputs."""
    prior_ar_nvar: float
    """Starting variance of the AR(1) innovation."""
    do_train_prior_ar_atau: bool
    """Train the AR(1) time constants."""
    do_train_prior_ar_nvar: bool
    """Train the AR(1) innovation variances."""
    do_train_readin: bool
    """Train the per-session read-in matrices."""
    do_log_readout_bias: bool
    """The Poisson read-out starts at the logarithm of alignment_bias_c, so at the mean rates; the
    original's start takes these counts per bin for log-rates.
    """
    do_start_at_mean_rates: bool
    """Read-outs start at the mean rates of the training trials (of values that are no counts: at
    the means, variances, shapes), whatever the noise model and the alignment.
    """
    do_standardise_input: bool
    """Encoders see each neuron less its mean, in units of its standard deviation, both of the
    training trials; what is hidden from them is at the mean.
    """
    encoder_bin_size: int
    """Bins that the initial-condition encoder reads at once: their sum, by the root of their
    number. Inferred inputs keep the data's bins.
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
    """Updates until the KL ramp is 1; 0: 1 from the start."""
    l2_gen_scale: float
    """L2 on the generator's recurrent weights and biases."""
    l2_con_scale: float
    """L2 on the controller's recurrent weights and biases."""
    l2_start_step: int
    """Update at which the L2 ramp starts."""
    l2_increase_steps: int
    """Updates until the L2 ramp is 1; 0: 1 from the start."""
    co_mean_corr_scale: float
    """Penalty on inferred inputs (posterior means) that are active together."""
    do_analytic_kl_co: bool
    """Closed-form inferred-input KL instead of the single-sample one."""
    optimizer: Literal["original", "adamw"]
    """original: Adam with epsilon 0.1 before the bias correction, as in TensorFlow 1; adamw: AdamW
    (Loshchilov & Hutter 2019), by the four parameters below.
    """
    adamw_eps: float
    """Epsilon of AdamW."""
    adamw_beta1: float
    """Decay of AdamW's mean gradient."""
    adamw_beta2: float
    """Decay of AdamW's mean squared gradient."""
    weight_decay: float
    """AdamW: each update takes this share, times the learning rate, off each trained value."""
    schedule: Literal["original", "cosine"]
    """original: the rate falls when the training cost rises, and ends training; cosine: it falls by
    half a cosine over all updates (trainer.max_steps), whatever the cost does.
    """
    warmup_steps: int
    """Cosine: updates over which the rate first rises to learning_rate_init."""
    cosine_end: float
    """Cosine: share of learning_rate_init that it ends at."""
    average_weights: bool
    """Validate, keep and score averages of the weights over the last tenth of the updates so far,
    50 at most; training goes on with the weights themselves.
    """
    learning_rate_init: float
    """Learning rate at the start, or of a cosine its highest."""
    learning_rate_decay_factor: float
    """Multiplies the rate at a decay."""
    learning_rate_stop: float
    """Training ends when the rate falls below this."""
    learning_rate_n_to_compare: int
    """Epochs: decay when the training cost exceeds the last n."""
    max_grad_norm: float
    """Global gradient norm is clipped to this."""
    do_reset_learning_rate: bool
    """When resuming, start again at learning_rate_init."""
    start_from: str | None
    """Folder of a run whose weights training starts from; its model parameters come along, and
    sessions it does not know get a read-in and read-out of their own.
    """
    do_train_io_only: bool
    """Train only read-in and read-out."""
    do_train_encoder_only: bool
    """Train only the initial-condition encoder."""
    lfads_save_dir: str | None
    """The run's folder; None: outputs/DATE/TIME. A run found there is continued or used."""
    checkpoint_name: str
    """Stem of the checkpoint files."""
    checkpoint_pb_load_name: str
    """Index to load from: checkpoint (newest) or checkpoint_lve (lowest cost)."""
    output_filename_stem: str
    """Prefix of the files that the four other kinds write."""
    max_ckpt_to_keep: int
    """Periodic checkpoints kept."""
    max_ckpt_to_keep_lve: int
    """Lowest-validation-error checkpoints kept."""
    csv_log: str
    """Name of the original-format log; empty: none."""
    include_optimizer: bool
    """write_model_params also writes the optimiser's moments."""
    report: bool
    """Write report.html and all figures when training, a search or a sweep ends."""
    ps_nexamples_to_process: int
    """First n trials of each split to process."""
    num_posterior_samples: int | None
    """Posterior samples averaged per trial; None: batch_size."""
    num_score_samples: int
    """Posterior samples averaged per trial for scores, figures and the report; 0: posterior means.
    """
    refine_steps: int
    """Gradient steps at most by which each trial's posterior is refined, on its own bound, from
    what the encoders see alone; as many are taken as help to predict entries that are held back.
    100 is a good number.
    """
    num_prior_samples: int | None
    """Trials drawn by prior_sample; None: batch_size."""
    num_validation_samples: int
    """Posterior samples per trial in the validation cost."""
    memory_mb: int
    """Memory of one pass: bounds how many samples are drawn together."""
    session: str | None
    """Session whose read-out prior_sample uses; None: the first by name."""
    device: str
    """gpu:N, cuda:N, mps or cpu:0; falls back to the CPU with a warning."""
    num_devices: int
    """GPUs, or processes on the CPU, that share each batch (DDP)."""
    max_epochs: int | None
    """Stop after this many epochs; None: when the learning rate says so."""
    max_steps: int | None
    """Stop after this many updates."""
    max_minutes: float | None
    """Minutes of training: the first tenth measures how many updates these are, which become
    max_steps (in config.yaml too); a cosine ends there. A continued run keeps the number.
    """
    criterion: Literal["total", "recon_smoothed", "sample_recon_smoothed", "hidden_recon"]
    """What the lowest-validation-error checkpoint, a sweep and early stopping go by: total cost;
    smoothed reconstruction, of all entries or of those never shown; or hidden_recon, of entries
    hidden from the encoders, a fifth at a time, every 20 updates or more (15 % of the time), and
    the ramps do not matter; with do_start_at_mean_rates a constant rate is kept where no epoch
    is better.
    """
    criterion_smoothing: float
    """Weight of the past in the smoothed reconstruction, per epoch; of hidden_recon per look."""
    early_stopping_epochs: int | None
    """Stop after this many epochs without a new lowest criterion, counted once both ramps are
    complete.
    """
    max_recoveries: int
    """After three non-finite updates in a row, training goes back to its newest checkpoint with
    half the learning rate; so many times, then it ends with an error. 0: at once.
    """
    deterministic: bool
    """Use deterministic algorithms alone (cuDNN, cuBLAS, scatter); an operation without one is an
    error. On the CPU training is bit-reproducible either way.
    """
    precision: Literal["float32", "float64"]
    """float32 or float64."""
    recurrence: Literal["auto", "reference", "native", "triton"]
    """reference: the PyTorch loop; native: C++ kernels, built on first use (CPU, float32); triton:
    CUDA kernels (float32); auto: native or triton, where it can be had.
    """
    num_threads: int
    """CPU threads; more pay only on idle cores."""
    logger: Literal["tensorboard", "csv", "wandb", "mlflow"] | Sequence[str]
    """Where costs, settings and scores go beside the run's own files; [wandb, mlflow] are several,
    csv is metrics.csv alone, which every run writes.
    """
    plot_every_n_epochs: int | None
    """Epochs between sets of figures in TensorBoard; 0: never; None: one figure after the other, as
    often as takes less than 2 % of the time.
    """
    algorithm: Literal["none", "pbt"]
    """none: train one model; pbt: a population (search=pbt)."""
    draw: int | None
    """Take the settings of search.space from its n-th random draw (sweep=random); None: none."""
    candidates: Sequence[str] | None
    """Structures that are tried first, each for 15 % of the updates; the one of the lowest
    criterion goes on: one_input, no_inputs, fast_inputs; None: none. recipe=auto tries them.
    """
    space: str
    """What is searched: a preset of conf/space, or a YAML file. recipe=auto searches recipe, which
    starts from what it fills.
    """
    engine: Literal["local", "ray"]
    """local: processes on this machine; ray: a Ray cluster."""
    population: int
    """Members."""
    generation_epochs: int
    """Epochs between two comparisons of members."""
    burn_in_epochs: int | None
    """Epochs of the first generation; None: until both ramps are complete, and one generation."""
    max_generations: int
    """Generations at most."""
    stop_gain: float
    """The search ends when the best criterion gains less than this share of itself ..."""
    stop_generations: int
    """... over this many generations."""
    num_workers: int | None
    """Members that train at once; None: as many as CPU cores, or 1 on a GPU."""
    ray_address: str | None
    """Ray cluster to join, auto or ray://HOST:PORT; None: this machine alone."""
    train_ext_input: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, I) real numbers; external inputs, used if `data.ext_input_dim` > 0."""
    train_truth: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) real numbers; true rates, in units of `conversion_factor`; for scores and figures.
    """
    train_inds: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; which trials of the recording these are, counted from 0."""
    train_condition: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers or texts; each trial's condition; negative or empty: none."""
    train_behaviour: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, K) real numbers; what the animal did, bin by bin."""
    train_event_times_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) seconds; the event that each trial is aligned to, on the recording's clock."""
    train_lengths: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; bins of each trial, where trials are of unequal length."""
    train_mask: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) 0 or 1; 1 where an entry of the data is there, 0 where it is missing."""
    valid_data: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) counts or real numbers; spike counts per bin, or real values with
    `model.output_dist=gaussian`; without `valid_data` no best model is picked.
    """
    valid_ext_input: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, I) real numbers; external inputs, used if `data.ext_input_dim` > 0."""
    valid_truth: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) real numbers; true rates, in units of `conversion_factor`; for scores and figures.
    """
    valid_inds: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; which trials of the recording these are, counted from 0."""
    valid_condition: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers or texts; each trial's condition; negative or empty: none."""
    valid_behaviour: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, K) real numbers; what the animal did, bin by bin."""
    valid_event_times_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) seconds; the event that each trial is aligned to, on the recording's clock."""
    valid_lengths: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; bins of each trial, where trials are of unequal length."""
    valid_mask: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) 0 or 1; 1 where an entry of the data is there, 0 where it is missing."""
    alignment_matrix_cxf: ArrayLike | Mapping[str, ArrayLike] | None
    """(D, F) real numbers; start of the read-in: how to stitch several sessions."""
    alignment_bias_c: ArrayLike | Mapping[str, ArrayLike] | None
    """(D) real numbers; what the read-in subtracts; start of the read-out's bias."""
    conversion_factor: float | Mapping[str, float] | None
    """one number; units of the truth per (count/bin); 1 if absent."""
    bin_width_s: float | Mapping[str, float] | None
    """one number; bin width, seconds."""
    neuron_ids: ArrayLike | Mapping[str, ArrayLike] | None
    """(D) whole numbers or texts; names of the neurons."""
    window_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(2) seconds; first and last moment of a trial, in seconds from its event."""
    event: str | Mapping[str, str] | None
    """one text; what trials are aligned to, for figures."""
    ext_input: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, I) real numbers; external inputs, used if `data.ext_input_dim` > 0."""
    truth: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) real numbers; true rates, in units of `conversion_factor`; for scores and figures.
    """
    inds: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; which trials of the recording these are, counted from 0."""
    condition: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers or texts; each trial's condition; negative or empty: none."""
    behaviour: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, K) real numbers; what the animal did, bin by bin."""
    event_times_s: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) seconds; the event that each trial is aligned to, on the recording's clock."""
    lengths: ArrayLike | Mapping[str, ArrayLike] | None
    """(E) whole numbers; bins of each trial, where trials are of unequal length."""
    mask: ArrayLike | Mapping[str, ArrayLike] | None
    """(E, T, D) 0 or 1; 1 where an entry of the data is there, 0 where it is missing."""


class EstimatorKeywords(TypedDict, total=False):
    """Parameters; None: not set."""

    valid_fraction: float | None
    """Share of the trials of fit, evenly spaced, that choose the best epoch; None: .2."""
    seed: int | None
    """Seeds initial weights, data order, noise and masks."""
    recipe: Literal["original", "auto"] | None
    """What is not set: auto: is chosen by the size and the statistics of the data, told in a line
    and written to config.yaml; a search starts from it; original: has the defaults below. With a
    params_file original, unless it is given.
    """
    batch_size: int | None
    """Trials per batch, cut to the session's size; default number of samples."""
    temporal_spike_jitter_width: int | None
    """Bins: each training spike moves by a uniform draw from [-w, w-1] (counts only)."""
    coordinated_dropout_rate: float | None
    """Share of each training batch's entries that is hidden and scored; the rest is shown and not
    scored, so that copying gains nothing. 0: all are shown and scored.
    """
    sample_validation_rate: float | None
    """Share of all entries never shown and never trained on, but scored: valid/sample_recon."""
    sample_validation_seed: int | None
    """Which entries these are; the same for every seed."""
    held_out_neurons: float | Literal["file", "none"] | ArrayLike | None
    """Neurons that are predicted and scored, but never shown to the encoders: columns counted from
    0, or a share drawn at random; file: what its key held_out_neurons says, if any.
    """
    held_out_seed: int | None
    """Which neurons a share of them is; the same for every seed."""
    forward_steps: int | None
    """Last bins that are predicted and scored, but never shown to the encoders; inferred inputs go
    on by their prior there.
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
    """Noise model: of counts (poisson; negative_binomial, which scatter more), of real values
    (gaussian), of values above 0 (gamma), or of such with zeros (zero_inflated_gamma).
    """
    spread_per: Literal["bin", "neuron"] | None
    """What is trained beside the mean of values that are no counts (variance, shape, size of
    events): read out of the factors for every bin, or one number of each neuron.
    """
    ic_dim: int | None
    """Initial-condition code; 0: one learned start state, no KL."""
    factors_dim: int | None
    """Factors."""
    ic_enc_dim: int | None
    """Initial-condition encoder units per direction."""
    gen_dim: int | None
    """Generator units."""
    ci_enc_dim: int | None
    """Controller-input encoder units per direction."""
    con_dim: int | None
    """Controller units."""
    co_dim: int | None
    """Inferred inputs (controller outputs); 0: no controller."""
    keep_prob: float | None
    """Probability that dropout keeps a value, in training."""
    cell_clip_value: float | None
    """Recurrent states are clamped to +- this."""
    cell_weight_scale: float | None
    """Scales the initial encoder gate weights and all controller weights."""
    gen_cell_input_weight_scale: float | None
    """Initial std of generator input weights = this / sqrt(inputs)."""
    gen_cell_rec_weight_scale: float | None
    """Initial std of generator recurrent weights = this / sqrt(gen_dim)."""
    inject_ext_input_to_gen: bool | None
    """External inputs enter the generator instead of the encoders."""
    num_steps_for_gen_ic: int | None
    """First bins seen by the initial-condition encoder, both directions."""
    do_causal_controller: bool | None
    """Leave out the controller's backward encoder."""
    controller_input_lag: int | None
    """Bins by which the controller's view of the data is held back."""
    do_feed_factors_to_controller: bool | None
    """Feed the previous bin back to the controller."""
    feedback_factors_or_rates: Literal["factors", "rates"] | None
    """What is fed back; rates needs a single session."""
    ic_prior_var_min: float | None
    """Lower bound of the initial-condition prior variance."""
    ic_prior_var_scale: float | None
    """Starting value of that variance."""
    ic_prior_var_max: float | None
    """Upper bound; above the minimum: variance is trained."""
    ic_post_var_min: float | None
    """Added to the variance of the initial-condition posterior."""
    co_prior_var_scale: float | None
    """No effect, as in the original; kept, and warned of."""
    prior_ar_atau: float | None
    """Bins: starting time constant of the AR(1) prior over inferred inputs."""
    prior_ar_nvar: float | None
    """Starting variance of the AR(1) innovation."""
    do_train_prior_ar_atau: bool | None
    """Train the AR(1) time constants."""
    do_train_prior_ar_nvar: bool | None
    """Train the AR(1) innovation variances."""
    do_train_readin: bool | None
    """Train the per-session read-in matrices."""
    do_log_readout_bias: bool | None
    """The Poisson read-out starts at the logarithm of alignment_bias_c, so at the mean rates; the
    original's start takes these counts per bin for log-rates.
    """
    do_start_at_mean_rates: bool | None
    """Read-outs start at the mean rates of the training trials (of values that are no counts: at
    the means, variances, shapes), whatever the noise model and the alignment.
    """
    do_standardise_input: bool | None
    """Encoders see each neuron less its mean, in units of its standard deviation, both of the
    training trials; what is hidden from them is at the mean.
    """
    encoder_bin_size: int | None
    """Bins that the initial-condition encoder reads at once: their sum, by the root of their
    number. Inferred inputs keep the data's bins.
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
    """Updates until the KL ramp is 1; 0: 1 from the start."""
    l2_gen_scale: float | None
    """L2 on the generator's recurrent weights and biases."""
    l2_con_scale: float | None
    """L2 on the controller's recurrent weights and biases."""
    l2_start_step: int | None
    """Update at which the L2 ramp starts."""
    l2_increase_steps: int | None
    """Updates until the L2 ramp is 1; 0: 1 from the start."""
    co_mean_corr_scale: float | None
    """Penalty on inferred inputs (posterior means) that are active together."""
    do_analytic_kl_co: bool | None
    """Closed-form inferred-input KL instead of the single-sample one."""
    optimizer: Literal["original", "adamw"] | None
    """original: Adam with epsilon 0.1 before the bias correction, as in TensorFlow 1; adamw: AdamW
    (Loshchilov & Hutter 2019), by the four parameters below.
    """
    adamw_eps: float | None
    """Epsilon of AdamW."""
    adamw_beta1: float | None
    """Decay of AdamW's mean gradient."""
    adamw_beta2: float | None
    """Decay of AdamW's mean squared gradient."""
    weight_decay: float | None
    """AdamW: each update takes this share, times the learning rate, off each trained value."""
    schedule: Literal["original", "cosine"] | None
    """original: the rate falls when the training cost rises, and ends training; cosine: it falls by
    half a cosine over all updates (trainer.max_steps), whatever the cost does.
    """
    warmup_steps: int | None
    """Cosine: updates over which the rate first rises to learning_rate_init."""
    cosine_end: float | None
    """Cosine: share of learning_rate_init that it ends at."""
    average_weights: bool | None
    """Validate, keep and score averages of the weights over the last tenth of the updates so far,
    50 at most; training goes on with the weights themselves.
    """
    learning_rate_init: float | None
    """Learning rate at the start, or of a cosine its highest."""
    learning_rate_decay_factor: float | None
    """Multiplies the rate at a decay."""
    learning_rate_stop: float | None
    """Training ends when the rate falls below this."""
    learning_rate_n_to_compare: int | None
    """Epochs: decay when the training cost exceeds the last n."""
    max_grad_norm: float | None
    """Global gradient norm is clipped to this."""
    do_reset_learning_rate: bool | None
    """When resuming, start again at learning_rate_init."""
    start_from: str | None
    """Folder of a run whose weights training starts from; its model parameters come along, and
    sessions it does not know get a read-in and read-out of their own.
    """
    do_train_io_only: bool | None
    """Train only read-in and read-out."""
    do_train_encoder_only: bool | None
    """Train only the initial-condition encoder."""
    ps_nexamples_to_process: int | None
    """First n trials of each split to process."""
    num_posterior_samples: int | None
    """Posterior samples averaged per trial; None: batch_size."""
    num_score_samples: int | None
    """Posterior samples averaged per trial for scores, figures and the report; 0: posterior means.
    """
    refine_steps: int | None
    """Gradient steps at most by which each trial's posterior is refined, on its own bound, from
    what the encoders see alone; as many are taken as help to predict entries that are held back.
    100 is a good number.
    """
    num_prior_samples: int | None
    """Trials drawn by prior_sample; None: batch_size."""
    num_validation_samples: int | None
    """Posterior samples per trial in the validation cost."""
    memory_mb: int | None
    """Memory of one pass: bounds how many samples are drawn together."""
    session: str | None
    """Session whose read-out prior_sample uses; None: the first by name."""
    device: str | None
    """gpu:N, cuda:N, mps or cpu:0; falls back to the CPU with a warning."""
    num_devices: int | None
    """GPUs, or processes on the CPU, that share each batch (DDP)."""
    max_epochs: int | None
    """Stop after this many epochs; None: when the learning rate says so."""
    max_steps: int | None
    """Stop after this many updates."""
    max_minutes: float | None
    """Minutes of training: the first tenth measures how many updates these are, which become
    max_steps (in config.yaml too); a cosine ends there. A continued run keeps the number.
    """
    criterion: Literal["total", "recon_smoothed", "sample_recon_smoothed", "hidden_recon"] | None
    """What the lowest-validation-error checkpoint, a sweep and early stopping go by: total cost;
    smoothed reconstruction, of all entries or of those never shown; or hidden_recon, of entries
    hidden from the encoders, a fifth at a time, every 20 updates or more (15 % of the time), and
    the ramps do not matter; with do_start_at_mean_rates a constant rate is kept where no epoch
    is better.
    """
    criterion_smoothing: float | None
    """Weight of the past in the smoothed reconstruction, per epoch; of hidden_recon per look."""
    early_stopping_epochs: int | None
    """Stop after this many epochs without a new lowest criterion, counted once both ramps are
    complete.
    """
    max_recoveries: int | None
    """After three non-finite updates in a row, training goes back to its newest checkpoint with
    half the learning rate; so many times, then it ends with an error. 0: at once.
    """
    deterministic: bool | None
    """Use deterministic algorithms alone (cuDNN, cuBLAS, scatter); an operation without one is an
    error. On the CPU training is bit-reproducible either way.
    """
    precision: Literal["float32", "float64"] | None
    """float32 or float64."""
    recurrence: Literal["auto", "reference", "native", "triton"] | None
    """reference: the PyTorch loop; native: C++ kernels, built on first use (CPU, float32); triton:
    CUDA kernels (float32); auto: native or triton, where it can be had.
    """
    num_threads: int | None
    """CPU threads; more pay only on idle cores."""
    logger: Literal["tensorboard", "csv", "wandb", "mlflow"] | Sequence[str] | None
    """Where costs, settings and scores go beside the run's own files; [wandb, mlflow] are several,
    csv is metrics.csv alone, which every run writes.
    """
    plot_every_n_epochs: int | None
    """Epochs between sets of figures in TensorBoard; 0: never; None: one figure after the other, as
    often as takes less than 2 % of the time.
    """


class PrepareKeywords(TypedDict, total=False):
    """Options of `lfads prepare`."""

    bin_width_s: float | None
    """Bin width; for counts: a multiple of the file's (default: the file's)."""
    source_bin_width_s: float | None
    """Bin width of counts in a file that does not say it."""
    counts_key: str | None
    """Which array of a .npz or .mat file holds the counts; a field of a structure is named with a
    point, as D.data.
    """
    axes: Sequence[Literal["trials", "bins", "neurons"]] | None
    """Order of the axes of the counts in the file (default: trials bins neurons, or bins neurons
    for one continuous recording).
    """
    rows: Literal["spikes", "bins"] | None
    """What a row of a table is: a spike, or a bin with a column for each neuron (default: a spike,
    where there is a column of neurons).
    """
    columns: Sequence[str]
    """Names of the columns of a table that has none, in their order, such as unit time."""
    unit_column: str | None
    """Column (or key) of the neuron of each spike."""
    time_column: str | None
    """Column (or key) of the time of each spike."""
    trial_column: str | None
    """Column (or key) of the trial of each spike."""
    time_unit: Literal["s", "ms", "us", "samples"] | None
    """Unit of all times in the file (default: s, and times that look otherwise are refused); for
    sorters' folders: of the tables beside, as spikes are in samples.
    """
    sampling_rate_hz: float | None
    """Samples per second, for time_unit samples and sorters' folders."""
    trials: str | None
    """Trial table: a CSV or parquet file ({name} stands for the recording's), or the name of an NWB
    interval table (default: trials).
    """
    align_to: str | None
    """Event (column of the trial table) that trials are aligned to."""
    window_s: tuple[float, float] | None
    """First and last moment of a trial, from the event."""
    recording_s: tuple[float, float] | None
    """First and last moment of the recording."""
    chop_bins: int | None
    """Cut a continuous recording into pieces of this length."""
    overlap_bins: int
    """Bins that neighbouring pieces share."""
    min_rate_hz: float | None
    """Leave out neurons below this rate; of real values, which are 0 between events, events count:
    bins that are not 0; constant ones are left out, too; 0 keeps silent ones (default: refuse
    these).
    """
    leave_out: Sequence[str]
    """Neurons to leave out, by their ids."""
    unit_quality: Sequence[str]
    """Units to take, by what a sorter or a person calls them: good, or good,mua, or all (default:
    good of the folders of sorters and ALF, all of others).
    """
    units: str | None
    """Units to take, by a condition on their columns, such as "quality == 'good' and depth < 500";
    id is their number or name.
    """
    where: str | None
    """Trials to take, by a condition on their columns, such as "success and rt < 600": comparisons,
    and, or, not, in ['a', 'b'], parentheses.
    """
    held_out: str | None
    """Column (or key) that marks held-out neurons (default: held_out or heldout, if there)."""
    condition: Sequence[str]
    """Column (or key) of conditions (default: condition, if there is one); of several columns, each
    combination is a condition.
    """
    behaviour: Sequence[str]
    """Behaviour: NWB time series, or keys, or columns of the behaviour file."""
    behaviour_file: str | None
    """CSV or parquet file with a column time ({name} stands for the recording's)."""
    behaviour_lag_s: float
    """Put behaviour beside the spikes of so many seconds earlier (below 0: later), where spikes
    come as times.
    """
    drop_nan_behaviour: bool
    """Drop trials whose behaviour has gaps, instead of refusing them."""
    valid_fraction: float
    """Share of the trials of each condition for validation."""
    test_fraction: float
    """Share of the trials of each condition for a test split."""
    split_column: str | None
    """Column that says train, val (valid, validation) or test; trials of other labels are left out.
    """
    split: Literal["even", "random"]
    """How these are chosen: evenly spaced in time, or at random."""
    seed: int
    """Of the random split."""
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
    """A data set of the Neural Latents Benchmark, whose NWB file this is: its event, its window and
    200 ms of forward bins, bin width, behaviour, lag, conditions, held-out neurons and splits;
    options that are given beside overrule these.
    """
