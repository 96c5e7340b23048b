"""What happens if a parameter is changed when a run is continued. Every parameter is listed once.

``config.yaml`` must describe the run as it was trained. So if a change has no effect, there is a
warning, and the file keeps the value that the run began with.
"""

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.params import dotted_names, flat_value
from lfads_lightning.runs.names import CONFIG

# Determine the shape or the meaning of the weights: a change that matters is refused.
FIXED = frozenset({
    "ext_input_dim", "held_out_neurons", "held_out_seed", "forward_steps",
    "output_dist", "spread_per",
    "ic_dim", "factors_dim", "ic_enc_dim", "gen_dim", "ci_enc_dim", "con_dim",
    "co_dim", "inject_ext_input_to_gen", "do_causal_controller", "do_feed_factors_to_controller",
    "ic_prior_var_min", "ic_prior_var_max", "do_legacy_ic_prior_var",
    "start_from", "algorithm", "space", "population",
})  # fmt: skip
# The ones among them that change the meaning of a trained number but no shape.
_MEANING = ("ic_prior_var_min", "ic_prior_var_max", "do_legacy_ic_prior_var")
# The ones among them that are irrelevant if the size in the key is 0.
_PARTS = {
    "co_dim": ("ci_enc_dim", "con_dim", "do_causal_controller", "do_feed_factors_to_controller"),
    "ext_input_dim": ("inject_ext_input_to_gen",),
    "ic_dim": ("ic_enc_dim",),
}

# Determine the weights or the learning rate at the beginning of training.
BEGINNING = frozenset({
    "cell_weight_scale", "gen_cell_input_weight_scale", "gen_cell_rec_weight_scale",
    "ic_prior_var_scale", "prior_ar_atau", "prior_ar_nvar", "do_log_readout_bias",
    "do_start_at_mean_rates",
    "learning_rate_init", "burn_in_epochs", "recipe", "max_minutes",
    "optimizer", "adamw_eps", "adamw_beta1", "adamw_beta2", "weight_decay",
    "do_standardise_input", "encoder_bin_size", "candidates", "candidate_learning_rates",
})  # fmt: skip

# The ones among them that concern read-outs: sessions new to a trained model get new ones.
OF_READOUTS = frozenset({"do_log_readout_bias", "do_start_at_mean_rates"})

# The ones among them that a run which starts from another run's weights sets for itself.
OF_MAKING = frozenset({"recipe", "candidates", "candidate_learning_rates", "max_minutes"})

# The ones among them that concern the optimiser: a new optimiser uses their new values.
OF_OPTIMIZER = frozenset({
    "learning_rate_init", "optimizer", "adamw_eps", "adamw_beta1", "adamw_beta2", "weight_decay",
})  # fmt: skip

# Everything else: new values take effect when the run continues.
CHANGEABLE = frozenset({
    "kind", "seed", "params_file",
    "data_dir", "data_filename_stem", "batch_size", "temporal_spike_jitter_width",
    "coordinated_dropout_rate", "sample_validation_rate", "sample_validation_seed",
    "keep_prob", "cell_clip_value", "num_steps_for_gen_ic", "controller_input_lag",
    "feedback_factors_or_rates", "ic_post_var_min", "co_prior_var_scale",
    "do_train_prior_ar_atau", "do_train_prior_ar_nvar", "do_train_readin", "_clip_value",
    "kl_ic_weight", "kl_co_weight", "kl_start_step", "kl_increase_steps", "l2_gen_scale",
    "l2_con_scale", "l2_readout_scale", "l2_start_step", "l2_increase_steps", "co_mean_corr_scale",
    "do_analytic_kl_co",
    "learning_rate_decay_factor", "learning_rate_stop", "learning_rate_n_to_compare",
    "schedule", "warmup_steps", "cosine_end", "average_weights",
    "max_grad_norm", "do_reset_learning_rate", "do_train_io_only", "do_train_encoder_only",
    "lfads_save_dir", "checkpoint_name", "checkpoint_pb_load_name", "output_filename_stem",
    "max_ckpt_to_keep", "max_ckpt_to_keep_lve", "csv_log", "include_optimizer", "report",
    "ps_nexamples_to_process", "num_posterior_samples", "num_prior_samples",
    "num_validation_samples", "num_score_samples", "refine_steps", "memory_mb", "session",
    "device", "num_devices", "max_epochs", "max_steps", "criterion", "criterion_smoothing",
    "early_stopping_epochs", "max_recoveries", "deterministic", "precision", "recurrence",
    "num_threads", "plot_every_n_epochs", "logger",
    "draw", "engine", "generation_epochs", "max_generations", "stop_gain", "stop_generations",
    "num_workers", "ray_address",
})  # fmt: skip

# Parameters that the other kinds take from their own command line, not from the run.
OF_OTHER_KINDS = frozenset({
    "kind", "seed", "params_file", "data_dir", "data_filename_stem", "batch_size", "ext_input_dim",
    "lfads_save_dir", "checkpoint_pb_load_name", "output_filename_stem", "include_optimizer",
    "ps_nexamples_to_process", "num_posterior_samples", "num_prior_samples", "refine_steps",
    "memory_mb", "session", "device", "recurrence", "num_threads",
})  # fmt: skip


def keep_beginning(
    config: Config, was: Config, where: str | Path, *, without: Collection[str] = ()
) -> None:
    """Undo changes that have no effect on trained weights, with a warning; refuse impossible ones.

    Args:
        config: parameters of the continued run; changed in place.
        was: parameters that the weights were trained with.
        where: the place of the weights, for messages.
        without: names of parameters that do have an effect here.

    Raises:
        LFADSError: a trained number would change its meaning.
    """
    changed = {
        name: (flat_value(was, name), now)
        for name in sorted(FIXED | BEGINNING)
        if (now := flat_value(config, name)) != flat_value(was, name)
    }
    refused = [_shown(name, *changed[name]) for name in _MEANING if name in changed]
    if refused:
        raise LFADSError(
            f"{where}: was trained with {', '.join(refused)}, which changes the meaning of the "
            "prior variance and must stay the same; restore it, or start a new run in another "
            "output.lfads_save_dir"
        )
    unused = {
        name
        for size, names in _PARTS.items()
        if flat_value(was, size) == flat_value(config, size) == 0
        for name in names
    }
    if config.optim.start_from is None:  # it need not be given again
        config.optim.start_from = was.optim.start_from
    kept = [n for n in changed if (n in BEGINNING or n in unused) and n not in without]
    for name in kept:
        group = dotted_names()[name].rpartition(".")[0]
        setattr(getattr(config, group) if group else config, name, changed[name][0])
    if kept:
        hint = ""
        if "learning_rate_init" in kept:
            hint = "; to set the learning rate, use optim.do_reset_learning_rate=true"
        warnings.warn(
            f"{where}: started with {', '.join(_shown(n, *changed[n]) for n in kept)}; a change "
            f"has no effect now, and {CONFIG} keeps the old value{hint}",
            stacklevel=3,
        )


def _shown(name: str, was: Any, now: Any) -> str:
    was, now = (getattr(v, "name", v) for v in (was, now))
    return f"{dotted_names()[name]}={was} (now {now})"
