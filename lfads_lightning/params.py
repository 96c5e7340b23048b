"""Parameters by flat name: checking their types, bounds and contradictions, and listing them."""

import dataclasses
import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lfads_lightning.commands import not_interpolated, program, shown
from lfads_lightning.config import (
    Config,
    Feedback,
    LFADSError,
    OptimConfig,
    Optimizer,
    Precision,
    Recipe,
    Recurrence,
    Schedule,
    is_name,
)

_ROOT = ""
NOT_SETTINGS = ("kind", "params_file", "lfads_save_dir")  # they say what is done, and where


@cache
def groups() -> dict[str, type]:
    """Map each group's name to its dataclass; the root's own fields are under ''."""
    found: dict[str, Any] = {_ROOT: Config}
    for f in dataclasses.fields(Config):
        if dataclasses.is_dataclass(f.type):
            found[f.name] = f.type
    return found


@cache
def _fields() -> dict[str, tuple[str, dataclasses.Field]]:
    """Map each flat parameter name to (group, field)."""
    return {
        f.name: (group, f)
        for group, cls in groups().items()
        for f in dataclasses.fields(cls)
        if not dataclasses.is_dataclass(f.type)
    }


def fields_by_name() -> dict[str, dataclasses.Field]:
    """Map each flat parameter name to its field: default, type, meaning."""
    return {name: f for name, (_, f) in _fields().items()}


@cache
def dotted_names() -> dict[str, str]:
    """Map flat names to names on the command line: ``co_dim`` to ``model.co_dim``."""
    return {name: f"{group}.{name}".lstrip(".") for name, (group, _) in _fields().items()}


def documented_names() -> list[str]:
    """List the names in the original's documentation, without our own parameters."""
    return [name for name, (_, f) in _fields().items() if not f.metadata["ours"]]


def canonical(name: str, where: str) -> str:
    """Return the parameter meant by ``name``, in any case and with a trailing underscore or group.

    Raises:
        LFADSError: no parameter has that name; the message suggests the nearest one.
    """
    known = {n.lower(): n for n in _fields()} | {d: n for n, d in dotted_names().items()}
    for candidate in (name, name.lower(), name.lower().rstrip("_")):
        if candidate in known:
            return known[candidate]
    hint = nearest(name, with_group="." in name)
    raise LFADSError(f"{where}: no parameter is named {shown(name)}{hint}")


def nearest(name: str, with_group: bool = True) -> str:
    """Return '; did you mean ...?' for an unknown parameter name, or where to find the list."""
    flat = name.rsplit(".", 1)[-1].lower()[:80]
    found = difflib.get_close_matches(flat, [n.lower() for n in _fields()], n=1, cutoff=0.6)
    if not found:
        return f"; {program()} --help lists them"
    by_lower = {n.lower(): n for n in _fields()}
    meant = by_lower[found[0]]
    return f"; did you mean {dotted_names()[meant] if with_group else meant}?"


@cache
def _schema(group: str) -> Any:
    from omegaconf import OmegaConf  # takes a sixth of a second; --help does not need it

    return OmegaConf.structured(groups()[group])


def _expected(f: dataclasses.Field) -> str:
    if f.metadata["expected"]:
        return f.metadata["expected"]
    if isinstance(f.default, Enum):
        kind = "one of " + ", ".join(member.name for member in type(f.default))
    else:
        names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
        declared = [t for t in names if re.search(rf"\b{t.__name__}\b", _type_name(f))]
        kind = names[declared[0]] + (" or null" if "None" in _type_name(f) else "")
    signs = {"gt": ">", "ge": ">=", "le": "<="}
    limits = " and ".join(f"{signs[key]} {v}" for key, v in f.metadata["bounds"].items())
    return f"{kind} {limits}".rstrip()


def _type_name(f: dataclasses.Field) -> str:
    return f.type.__name__ if isinstance(f.type, type) else str(f.type)


def check_value(name: str, value: Any, where: str) -> Any:
    """Return ``value`` in the type of the parameter with the flat name ``name``.

    Raises:
        LFADSError: the value has the wrong type or is out of bounds.
    """
    import numpy as np
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    group, f = _fields()[name]
    problem = LFADSError(
        f"{where}: {dotted_names()[name]} is {shown(value)}; expected {_expected(f)} "
        f"({f.metadata['doc']})"
    )
    if isinstance(value, Enum):
        value = value.name
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and "int" in _type_name(f):
        value = int(value)  # JSON and NumPy write 5.0
    if (accepts := f.metadata["accepts"]) is not None:
        try:
            return accepts(value)
        except (TypeError, ValueError) as error:
            raise problem from error
    if isinstance(value, bool) and not isinstance(f.default, bool):
        raise problem
    try:
        holder = _schema(group)  # shared: a copy would take longer than everything else
        text = isinstance(value, str | Path)
        holder[name] = not_interpolated(str(value)) if text else value
        converted = holder[name]
        if OmegaConf.is_config(converted):
            converted = OmegaConf.to_object(converted)
    except OmegaConfBaseException as error:
        raise problem from error
    bounds = f.metadata["bounds"]
    if converted is not None and bounds:
        inside = (
            converted > bounds.get("gt", -float("inf"))
            and converted >= bounds.get("ge", -float("inf"))
            and converted <= bounds.get("le", float("inf"))
            and abs(converted) != float("inf")
        )
        if not inside:
            raise problem
    return converted


def is_integer(name: str) -> bool:
    """Return whether the parameter with this flat name takes only integers."""
    return bool(re.search(r"\bint\b", _type_name(_fields()[name][1])))


def flat_value(config: Config, name: str) -> Any:
    """Return the value of the parameter with this flat name."""
    group, _ = _fields()[name]
    return getattr(getattr(config, group) if group else config, name)


def differing(config: Config) -> set[str]:
    """Return the flat names of the parameters that are not at their defaults."""
    default = Config()
    return {name for name in _fields() if flat_value(config, name) != flat_value(default, name)}


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings that differ from their defaults, by flat name, without NOT_SETTINGS.

    The folder and the stem of data in memory are left out: they have none.
    """
    differ = differing(config) - set(NOT_SETTINGS)
    if not config.data.data_filename_stem:
        differ -= {"data_dir", "data_filename_stem"}
    return {name: _plain(flat_value(config, name)) for name in _fields() if name in differ}


def dotted_settings(config: Config) -> dict[str, Any]:
    """Return all parameters that are not None, by dotted name, in types that loggers accept."""
    settings: dict[str, Any] = {}
    for name, dotted in dotted_names().items():
        value = _plain(flat_value(config, name))
        if name not in NOT_SETTINGS and value is not None:
            settings[dotted] = str(value) if isinstance(value, list) else value
    return settings


def from_flat(
    values: Mapping[str, Any], where: str = "parameters", base: Config | None = None
) -> Config:
    """Build a ``Config`` from flat names; other parameters come from ``base`` or the defaults.

    Raises:
        LFADSError: a name is unknown, or a value has the wrong type or is out of bounds.
    """
    config = from_dict(to_dict(base)) if base is not None else Config()
    for given, value in values.items():
        name = canonical(str(given), where)
        group, _ = _fields()[name]
        setattr(getattr(config, group) if group else config, name, check_value(name, value, where))
    return config


def from_dict(nested: Mapping[str, Any], where: str = "config") -> Config:
    """Build a ``Config`` from a mapping by groups, as in config.yaml and from ``to_dict``."""
    flat: dict[str, Any] = {"recipe": Recipe.original}  # that of older runs
    for key, value in nested.items():
        if isinstance(value, Mapping):
            unknown_group = key not in groups()
            for name, inner in value.items():
                if unknown_group or dotted_names().get(name) != f"{key}.{name}":
                    full = f"{key}.{name}"[:80]
                    raise LFADSError(f"{where}: no parameter is named {full}{nearest(full)}")
                flat[name] = inner
        else:
            flat[key] = value
    return from_flat(flat, where)


def to_dict(config: Any) -> dict[str, Any]:
    """Return the config as nested dicts of plain numbers and strings (enums by name)."""
    return {
        f.name: to_dict(value) if dataclasses.is_dataclass(value) else _plain(value)
        for f in dataclasses.fields(config)
        for value in [getattr(config, f.name)]
    }


def _plain(value: Any) -> Any:
    """Return a value in types that YAML has."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


NEEDS_RAY = (
    'search.engine=ray needs Ray: pip install "lfads-lightning[ray]"; search.engine=local needs '
    "nothing"
)


def _lacks(config: Config, package: str) -> tuple[bool, str]:
    """Return whether a logger is asked for but not installed, and the message for that case."""
    asked = config.trainer.logger
    is_asked = package == asked or (not isinstance(asked, str) and package in asked)
    return (
        is_asked and not _is_installed(package),
        f'trainer.logger={package} needs {package}: pip install "lfads-lightning[{package}]"',
    )


def _is_installed(package: str) -> bool:
    return sys.modules.get(package) is not None or find_spec(package) is not None


def check(config: Config) -> list[str]:
    """Check a config as a whole; return warnings.

    Raises:
        LFADSError: parameters contradict one another; the message lists all contradictions.
    """
    from_dict(to_dict(config))  # checks types and bounds again: fields can be assigned
    model, loss, optim, data = config.model, config.loss, config.optim, config.data
    noise = model.output_dist
    searches = config.search.algorithm.name != "none"
    errors = _named(
        (
            not model.ic_prior_var_min <= model.ic_prior_var_scale <= model.ic_prior_var_max,
            f"model.ic_prior_var_min={model.ic_prior_var_min}, "
            f"ic_prior_var_scale={model.ic_prior_var_scale}, "
            f"ic_prior_var_max={model.ic_prior_var_max}: must not decrease in this order",
        ),
        (
            optim.do_train_io_only and optim.do_train_encoder_only,
            "optim.do_train_io_only and optim.do_train_encoder_only are both true; choose one",
        ),
        (
            optim.do_train_encoder_only and model.ic_dim == 0,
            "optim.do_train_encoder_only=true with model.ic_dim=0: there is no initial-condition "
            "encoder to train",
        ),
        (
            data.temporal_spike_jitter_width > 0 and not noise.is_counts,
            f"data.temporal_spike_jitter_width={data.temporal_spike_jitter_width} moves spikes, "
            f"but model.output_dist is {noise.name}, of real values; set it to 0",
        ),
        (
            config.trainer.criterion.name == "sample_recon_smoothed"
            and data.sample_validation_rate == 0,
            "trainer.criterion=sample_recon_smoothed scores entries that are never shown, but "
            "data.sample_validation_rate is 0; set it, to 0.1 say",
        ),
        (
            model.inject_ext_input_to_gen and data.ext_input_dim == 0,
            "model.inject_ext_input_to_gen=true with data.ext_input_dim=0: there is no external "
            "input to inject; set data.ext_input_dim",
        ),
        *(
            (
                not is_name(value),
                f"output.{name}={value!r}: must be a name, not a path; output.lfads_save_dir is "
                "the folder",
            )
            for name, value in vars(config.output).items()
            if name in {"checkpoint_name", "checkpoint_pb_load_name", "csv_log"}
            or name == "output_filename_stem"
        ),
        (
            searches and config.trainer.num_devices > 1,
            f"search.algorithm=pbt with trainer.num_devices={config.trainer.num_devices}: a search "
            "shares the machine among its members; set search.num_workers instead",
        ),
        (
            searches and config.trainer.max_steps is not None,
            f"search.algorithm=pbt with trainer.max_steps={config.trainer.max_steps}: a search "
            "ends by search.max_generations and search.stop_gain; leave max_steps out",
        ),
        (
            searches and config.search.engine.name == "ray" and not _is_installed("ray"),
            NEEDS_RAY,
        ),
        (
            searches and config.trainer.max_minutes is not None,
            f"search.algorithm=pbt with trainer.max_minutes={config.trainer.max_minutes}: a search "
            "ends by search.max_generations and search.stop_gain; leave max_minutes out",
        ),
        (
            optim.schedule is Schedule.cosine
            and not searches
            and config.trainer.max_steps is None
            and config.trainer.max_minutes is None,
            "optim.schedule=cosine falls over all updates of a run, and their number is not known: "
            "set trainer.max_steps, to 1200 say, or trainer.max_minutes",
        ),
        (
            optim.schedule is Schedule.cosine and searches,
            "search.algorithm=pbt with optim.schedule=cosine: members have no last update that a "
            "cosine could end at; leave optim.schedule out",
        ),
        *_against_bf16(config),
        (config.output.checkpoint_name == "", "output.checkpoint_name is empty; give a name"),
        _lacks(config, "wandb"),
        _lacks(config, "mlflow"),
    )
    if errors:
        raise LFADSError("; ".join(errors))
    default, usual = Config().model, Config().optim
    unused = _without_effect(optim, usual)
    return _named(
        (
            model.co_prior_var_scale != default.co_prior_var_scale,
            "model.co_prior_var_scale has no effect (nor had it in the original); the prior over "
            "inferred inputs is set by prior_ar_atau and prior_ar_nvar",
        ),
        (
            model.do_log_readout_bias and not noise.is_counts,
            f"model.do_log_readout_bias=true has no effect with model.output_dist={noise.name}",
        ),
        (
            model.spread_per is not default.spread_per and noise.is_counts,
            f"model.spread_per={model.spread_per.name} has no effect with "
            f"model.output_dist={noise.name}, of counts",
        ),
        (
            loss.co_mean_corr_scale > 0 and model.co_dim < 2,
            f"loss.co_mean_corr_scale={loss.co_mean_corr_scale} has no effect with "
            f"model.co_dim={model.co_dim}: it needs two inferred inputs",
        ),
        (
            model.do_causal_controller and model.do_feed_factors_to_controller and model.co_dim > 0,
            "model.do_causal_controller=true: the fed-back factors still carry the future, through "
            "the initial-condition encoder; set model.do_feed_factors_to_controller=false for a "
            "strictly causal controller",
        ),
        (
            bool(unused),
            f"{', '.join(f'optim.{n}={getattr(optim, n):g}' for n in unused)}: no effect with "
            f"optim.optimizer={optim.optimizer.name}, optim.schedule={optim.schedule.name}",
        ),
    )


def _against_bf16(config: Config) -> list[tuple[bool, str]]:
    """Return what contradicts ``trainer.precision=bf16``, which only the native kernels have."""
    trainer, model = config.trainer, config.model
    if trainer.precision is not Precision.bf16:
        return []
    feeds = model.do_feed_factors_to_controller and model.co_dim > 0
    return [
        (
            trainer.recurrence not in (Recurrence.auto, Recurrence.native),
            f"trainer.precision=bf16 with trainer.recurrence={trainer.recurrence.name}: only the "
            "native kernels, of the CPU, multiply in bf16; set trainer.precision=float32, or "
            "trainer.recurrence=native",
        ),
        (
            feeds and model.feedback_factors_or_rates is Feedback.rates,
            "trainer.precision=bf16 with model.feedback_factors_or_rates=rates: rates are fed back "
            "by the PyTorch loop, which multiplies in float32; set trainer.precision=float32",
        ),
    ]


def _without_effect(optim: OptimConfig, usual: OptimConfig) -> list[str]:
    """Return the settings of an optimiser or a schedule that is not used."""
    others = []
    if optim.optimizer is not Optimizer.adamw:
        others += ["adamw_eps", "adamw_beta1", "adamw_beta2", "weight_decay"]
    if optim.schedule is not Schedule.cosine:
        others += ["warmup_steps", "cosine_end"]
    return [n for n in others if getattr(optim, n) != getattr(usual, n)]


def _named(*checks: tuple[bool, str]) -> list[str]:
    return [message for failed, message in checks if failed]


def parameter_table(names: Iterable[str] | None = None) -> str:
    """Return parameters, by default all, as a Markdown table for the documentation."""
    lines = ["| parameter | default | expected | meaning |", "|---|---|---|---|"]
    for name in names or _fields():
        _, f = _fields()[name]
        ours = "" if not f.metadata["ours"] else " *"
        lines.append(
            f"| `{dotted_names()[name]}`{ours} | {show_default(f)} | {_expected(f)} | "
            f"{f.metadata['doc'].replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines)


def show_default(f: dataclasses.Field) -> str:
    """Return a field's default the way a user would type it."""
    if isinstance(f.default, Enum):
        return f.default.name
    if isinstance(f.default, bool) or f.default is None:
        return "null" if f.default is None else str(f.default).lower()
    return f'"{f.default}"' if f.default == "" else f"{f.default}"


def help_text() -> str:
    """Return the parameters as plain text, by group, for ``--help``."""
    lines = []
    for group, cls in groups().items():
        about = "whole run" if group == _ROOT else (cls.__doc__ or "").strip().rstrip(".")
        lines.append(f"{group or 'run'}: {about}")
        for f in dataclasses.fields(cls):
            if f.name in _fields():
                setting = f"{dotted_names()[f.name]}={show_default(f)}"
                lines.append(f"  {setting:<52} {f.metadata['doc']}")
        lines.append("")
    return "\n".join(lines)
