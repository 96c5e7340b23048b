"""The settings of a run: defaults, presets, a run's own, its file of parameters, command line."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from lfads_lightning import params
from lfads_lightning.cli.overrides import is_sweep_of, parameter_of
from lfads_lightning.cli.plugins import check_launcher, reason
from lfads_lightning.cli.words import flat_as_typed, parsed
from lfads_lightning.config import Config, Kind, LFADSError, Recipe
from lfads_lightning.runs.files import presets_dir
from lfads_lightning.runs.names import CONFIG
from lfads_lightning.runs.params_file import OF_FILES, read_params_file
from lfads_lightning.runs.provenance import (
    NOT_FOLLOWED,
    check_file_of_parameters,
    is_known,
    places_in,
)
from lfads_lightning.runs.remote import is_url
from lfads_lightning.runs.run import Run
from lfads_lightning.search.space import drawn_settings
from lfads_lightning.training.changes import OF_OTHER_KINDS
from lfads_lightning.training.start import with_model_of_start

if TYPE_CHECKING:
    from lfads_lightning.data.fields import Session

# groups whose presets still count when a run's own config is the base
_PRESETS_OVER_A_RUN = ("data", "trainer")
ConfigStore.instance().store(name="schema", node=Config)


def sweep_folder(argv: Sequence[str]) -> Path | None:
    """Return the folder for a sweep's jobs; None if the command line is not a sweep.

    Raises:
        LFADSError: the settings cannot be composed: a plugin of Hydra is missing, or has no such
            settings; or the sweep's jobs cannot be started from this machine.
    """
    given, _ = get_args_parser().parse_known_args(list(argv))
    if given.hydra_help or given.info or given.shell_completion:
        return None
    overrides = parsed(given.overrides)
    is_sweep = is_sweep_of(given.multirun, overrides) and not given.cfg
    groups = {o.key_or_group.split(".")[0].split("/")[0] for o in overrides}
    # all other words have been checked; for these, Hydra's own errors would fill a page
    if not is_sweep and not given.config_dir and groups.isdisjoint({"hydra", "launcher", "sweep"}):
        return None
    fixed = [o.input_line for o in overrides if not o.is_sweep_override() and o.input_line]
    composed = _composed(fixed, given.config_dir)
    if not is_sweep:
        return None
    check_launcher(composed)
    return Path(composed.hydra.sweep.dir).absolute()


def settings_text(argv: Sequence[str]) -> str:
    """Return what ``--cfg job`` prints: the settings that a run would have, as YAML."""
    given, _ = get_args_parser().parse_known_args(list(argv))
    cfg = _composed(given.overrides, given.config_dir)
    choices, tasks = dict(cfg.hydra.runtime.choices), list(cfg.hydra.overrides.task)
    with open_dict(cfg):
        del cfg["hydra"]
    config = resolve(cfg, tasks, choices).config
    params.check(config)
    return yaml.safe_dump(params.to_dict(config), sort_keys=False)


def _composed(overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    words = list(overrides)
    if config_dir:
        words.append(f"hydra.searchpath=['file://{Path(config_dir).resolve()}']")
    try:
        with hydra.initialize_config_dir(str(presets_dir().resolve()), version_base="1.3"):
            return hydra.compose("config", words, return_hydra_config=True)
    except HydraException as error:
        raise LFADSError(f"command line: {reason(error, words)}") from error


class Resolved(NamedTuple):
    """The meaning of a command line.

    Attributes:
        config: parameters of the run.
        run: the run, if the parameters name its folder.
        read: the data, unchecked, if the recipe has looked at them; else None.
    """

    config: Config
    run: Run | None
    read: "list[Session] | None"


def resolve(cfg: DictConfig, overrides: Sequence[str], choices: dict[str, str]) -> Resolved:
    """Make the run's config: defaults, presets or the run's own, params_file, command line.

    Args:
        cfg: the settings that Hydra composed.
        overrides: overrides on this job's command line.
        choices: presets that Hydra chose, by group.
    """
    composed = params.from_dict(
        OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),  # type: ignore[arg-type]
        "presets",
    )
    explicit = {}
    for override in parsed(overrides):
        name = parameter_of(override)
        if name is not None:
            explicit[name] = params.flat_value(composed, name)
    from_file = {}
    if composed.params_file:
        from_file = OF_FILES | read_params_file(composed.params_file)
        check_file_of_parameters(composed.params_file, from_file, explicit, flat_as_typed)
    settings = from_file | explicit
    config = params.from_flat(settings, base=composed)
    if drawn := drawn_settings(config):
        settings = drawn | settings
        config = params.from_flat(settings, base=composed)
    given = config.output.lfads_save_dir
    run = None if given is None else Run.at(given)
    if run is not None:
        run.check_links()
    saved = None if run is None else run.read_config()
    if saved is None and run is not None and config.kind is not Kind.train:
        if run.checkpoints.is_dir():
            raise LFADSError(
                f"{run.folder}: {CONFIG} is missing, which says how the model was trained and on "
                "what; restore it"
            )
    read = None
    if saved is None:
        config = with_model_of_start(config, settings)
        if config.recipe is Recipe.auto and config.kind is Kind.train:
            names = params.differing(composed) | set(settings)
            if choices.get("search") is not None and "criterion" not in settings:
                names.discard("criterion")  # the preset's is that of recipe=original
            config, read = _with_recipe(config, names)
    if run is not None and saved is not None:
        chosen = [g for g in _PRESETS_OVER_A_RUN if choices.get(g) is not None]
        if choices.get("experiment") is not None:
            warnings.warn(
                f"{run.folder} holds a run: it is used with its own settings, not with experiment="
                f"{choices['experiment']}",
                stacklevel=1,
            )
        config = _over_a_run(saved, config, settings, chosen, run)
    if run is not None:
        config.output.lfads_save_dir = str(run.folder.resolve())
    if config.data.data_dir is not None and not is_url(config.data.data_dir):
        # absolute, so that the run's folder leads to its data from any working folder
        config.data.data_dir = str(Path(config.data.data_dir).resolve())
    return Resolved(config, run, read)


def _with_recipe(config: Config, given: set[str]) -> "tuple[Config, list[Session] | None]":
    """Let the recipe fill in values that are not given; a preset's default value is not given.

    Returns:
        The config, and the data that were read for it.
    """
    # imports torch, which takes a second; --help does not need it
    from lfads_lightning.data.fields import arrays_of
    from lfads_lightning.data.loading import read_data
    from lfads_lightning.data.recipe import filled

    if config.optim.start_from is not None:  # nothing is filled in
        return filled(config, given, ()), None
    read = read_data(config)
    return filled(config, given, map(arrays_of, read)), read


def _over_a_run(
    saved: Config,
    asked: Config,
    settings: dict[str, Any],
    chosen: list[str],
    run: Run,
) -> Config:
    saved.optim.do_reset_learning_rate = False  # a request is good for one run only
    by_preset = {"data_dir"} if "data" in chosen else set[str]()
    for name, value in _places_used(saved, asked.kind).items():
        if name not in settings.keys() | by_preset and not is_known(run.folder, name, value):
            raise LFADSError(
                NOT_FOLLOWED.format(
                    where=run.config,
                    parameter=params.dotted_names()[name],
                    value=value,
                    typed=flat_as_typed(name, value),
                )
            )
    if asked.kind is not Kind.train:
        changed = [
            f"{params.dotted_names()[n]}={v}"
            for n, v in settings.items()
            if params.dotted_names()[n].startswith("model.") and v != params.flat_value(saved, n)
        ]
        if changed:
            raise LFADSError(
                f"{run.folder}: the model was trained with other values than {', '.join(changed)}; "
                "a trained model's structure cannot be changed; leave model.* out"
            )
        unused = [
            f"{params.dotted_names()[n]}={v}"
            for n, v in settings.items()
            if n not in OF_OTHER_KINDS
            and params.flat_value(asked, n) != params.flat_value(saved, n)
        ]
        if unused:
            warnings.warn(
                f"{run.folder}: kind={asked.kind.name} takes {', '.join(unused)} from the run, "
                "which was trained with other values; these have no effect",
                stacklevel=1,
            )
    for group in chosen:
        setattr(saved, group, getattr(asked, group))
    return params.from_flat(settings | {"kind": asked.kind.name}, base=saved)


def _places_used(saved: Config, kind: Kind) -> dict[str, str]:
    """Return the places named in a run's config that a kind uses, by flat name."""
    places = places_in(saved)
    injected = kind is Kind.prior_sample and saved.model.inject_ext_input_to_gen
    reads_data = kind.name.startswith("posterior") or injected
    if kind is not Kind.train:
        return {name: at for name, at in places.items() if name == "data_dir" and reads_data}
    return places
