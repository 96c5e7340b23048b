"""The command line: overrides -> config -> kind -> run. The only place that knows Hydra."""

import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from lfads_lightning import params, signals, sweeps
from lfads_lightning.commands import fail, show_warning
from lfads_lightning.config import Config, Kind, LFADSError
from lfads_lightning.files import new_run_folder, presets_dir
from lfads_lightning.lock import run_lock
from lfads_lightning.mirrors import local_run, open_run
from lfads_lightning.search.space import drawn_settings, find_space, read_space
from lfads_lightning.stores import is_url
from lfads_lightning.training.start import with_model_of_start

DEFAULT_EXPERIMENT = "lorenz"
_DATA_CHOICES = {"data.data_dir", "data.data_filename_stem", "params_file", "experiment", "data"}
# groups whose presets still count when a run's own config is the base
_PRESETS_OVER_A_RUN = ("data", "trainer")
_PRESET_GROUPS = ("experiment", "sweep", "launcher")
# what a preset needs beside the core, and the extra that brings it
_PLUGINS = {
    "launcher=joblib": ("hydra_joblib_launcher", "joblib"),
    "launcher=submitit": ("hydra_submitit_launcher", "slurm"),
    "launcher=submitit_local": ("hydra_submitit_launcher", "slurm"),
    "launcher=ray": ("hydra_ray_launcher", "ray"),
    "sweep=optuna": ("hydra_optuna_sweeper", "optuna"),
}
ConfigStore.instance().store(name="schema", node=Config)


def main() -> None:
    """Run ``python train.py ...`` and ``lfads-train ...``; a user's mistake ends with one line."""
    warnings.showwarning = show_warning
    given, _ = get_args_parser().parse_known_args()
    if given.help:
        with suppress(BrokenPipeError):  # --help | head
            print(help_text(given.config_dir), flush=True)
        return
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
        if given.cfg == "job" and given.package is None:
            print(settings_text(sys.argv[1:]), end="")
            return
        folder = sweep_folder(sys.argv[1:])
        given, _ = get_args_parser().parse_known_args()
    except LFADSError as error:
        fail(error)
    if folder is not None:
        sys.argv[1:] = _insert(sys.argv[1:], given.overrides, [sweeps.dir_word(folder)])
    run = hydra.main(version_base="1.3", config_path=str(presets_dir()), config_name="config")(_run)
    try:
        with signals.end_the_program():
            with (
                nullcontext()
                if folder is None
                else sweeps.recorded(folder, sys.argv[1:], _report_sweep)
            ):
                run()
    except LFADSError as error:  # of the sweep; a run says its own
        fail(error)


def _report_sweep(folder: Path) -> None:
    # it draws, and imports what takes a second; --help does not
    from lfads_lightning.report.search_report import write_sweep_report

    write_sweep_report(folder)


def help_text(config_dir: str | None = None) -> str:
    """Return what ``--help`` prints: how to call, the presets, all parameters."""
    groups = sorted({path.parent.name for path in presets_dir().glob("*/*.yaml")} - {"space"})
    presets = "\n".join(f"  {g}: {', '.join(_presets(g, config_dir))}" for g in groups)
    return f"""\
LFADS: denoised firing rates, factors, initial conditions and inferred inputs from spike counts.

  python train.py [group=preset] [group.name=value ...]        train (lfads-train, once installed)
  python train.py data.data_dir=FOLDER data.data_filename_stem=STEM model.co_dim=4
  python train.py params_file=my_params.yaml                   a flat file of parameter names
  python train.py kind=posterior_sample_and_average output.lfads_save_dir=RUN
  python train.py -m model.co_dim=0,1,2,4 seed=0,1,2           a sweep: every combination, in turn
  python train.py ... --cfg job                                show the settings and do nothing
  python train.py ... --config-dir FOLDER                      presets of your own

Presets (group=preset):
{presets}

Parameters (group.name=default):

{params.help_text()}"""


def _presets(group: str, config_dir: str | None) -> list[str]:
    folders = [presets_dir() / group] + ([Path(config_dir) / group] if config_dir else [])
    return sorted(file.stem for folder in folders for file in folder.glob("*.yaml"))


def prepare(argv: Sequence[str]) -> list[str]:
    """Check the overrides of a command line, and add what follows from them.

    Adds the embedded Lorenz experiment where no data are named, and puts Hydra's folder where the
    run's folder is asked to be.

    Raises:
        LFADSError: unknown parameter, wrong value, or a kind without a run.
    """
    given, _ = get_args_parser().parse_known_args(list(argv))
    if given.hydra_help or given.info or given.shell_completion:
        return list(argv)
    resumed = [word for word in given.overrides if word.startswith("resume=")]
    if resumed:
        return prepare(_resumed(list(argv), resumed[-1]))
    overrides = _parsed(given.overrides)
    is_sweep = _is_sweep(given.multirun, overrides)
    values = {}
    for override in overrides:
        key, name = override.key_or_group, _parameter(override)
        if override.is_sweep_override() and not is_sweep:
            raise LFADSError(
                f"command line: {override.input_line} names several values; add -m to try each in "
                "turn, or quote the value if the comma belongs to it"
            )
        if name is None:
            _check_presets(override, given.config_dir)
            continue
        values[key] = override.value()
        for value in _choices(override):
            params.check_value(name, value, "command line")
        _check_interval(override)
    if "search.space" in values:
        read_space(find_space(_text(values["search.space"])), of_any_parameter=True)
    extra = _implied(values, {o.key_or_group for o in overrides}, is_sweep)
    return _insert(list(argv), given.overrides, extra)


def _is_sweep(multirun: bool, overrides: Sequence[Override]) -> bool:
    return multirun or any(o.key_or_group == "sweep" for o in overrides)


def _resumed(argv: list[str], word: str) -> list[str]:
    """Return the command line that continues a sweep, a search or a run.

    Raises:
        LFADSError: the folder holds none of them.
    """
    folder = open_run(word.removeprefix("resume=").strip("'\""))
    others = [w for w in argv if not w.startswith("resume=")]
    if (folder / sweeps.COMMAND).is_file():
        if others:
            raise LFADSError(
                f"resume={folder}: a sweep goes on as it was started; leave out {' '.join(others)}"
            )
        return sweeps.command_of(folder)
    if (folder / "config.yaml").is_file():
        return [*others, "output.lfads_save_dir='" + str(folder).replace("'", "\\'") + "'"]
    raise LFADSError(
        f"resume={folder}: holds neither a run (config.yaml) nor a sweep ({sweeps.COMMAND}); give "
        "the folder that was printed when it began"
    )


def sweep_folder(argv: Sequence[str]) -> Path | None:
    """Return the folder that a sweep's jobs go to; None where the command line is no sweep.

    Raises:
        LFADSError: the settings cannot be composed.
    """
    given, _ = get_args_parser().parse_known_args(list(argv))
    if given.hydra_help or given.info or given.shell_completion or given.cfg:
        return None
    overrides = _parsed(given.overrides)
    if not _is_sweep(given.multirun, overrides):
        return None
    fixed = [o.input_line for o in overrides if not o.is_sweep_override() and o.input_line]
    return Path(_composed(fixed, given.config_dir).hydra.sweep.dir).absolute()


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        reason = str(error).split("\n")[0]
        raise LFADSError(
            f"command line: {reason}; expected group.name=value (quote spaces and special "
            "characters: 'data.data_dir=\"/my data\"')"
        ) from error


def _parameter(override: Override) -> str | None:
    """Return the flat name of the parameter that an override sets; None for presets and Hydra's.

    Raises:
        LFADSError: no such parameter.
    """
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra":
        return None
    flat = key.rsplit(".", 1)[-1]
    if params.dotted_names().get(flat) == key and not override.is_delete():
        return flat
    if key in params.groups() or key in _PRESET_GROUPS:
        return None
    if override.is_delete():
        raise LFADSError(f"command line: ~{key} takes nothing away; parameters keep their defaults")
    raise LFADSError(f"command line: no parameter is named {key!r}{params.nearest(key)}")


def _check_presets(override: Override, config_dir: str | None) -> None:
    group = override.key_or_group
    if group.split("/")[0] == "hydra" or "." in group or override.is_delete():
        return
    known = _presets(group, config_dir)
    for choice in _choices(override):
        _check_plugin(group, choice)
        if choice is not None and str(choice) not in known:
            listed = f"there are {', '.join(known)}" if known else "the group has none"
            raise LFADSError(f"command line: {group}={choice}: no such preset; {listed}")


def _check_plugin(group: str, choice: Any) -> None:
    preset = f"{group}={choice}"
    plugin, extra = _PLUGINS.get(preset, (None, None))
    if plugin is not None and importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        raise LFADSError(
            f'command line: {preset} needs an extra: pip install "lfads-lightning[{extra}]"'
        )


def _check_interval(override: Override) -> None:
    """Check what Optuna would draw from; Hydra's own message is a traceback."""
    if not override.is_interval_sweep():
        return
    value, name = override.value(), override.key_or_group
    assert isinstance(value, IntervalSweep)
    low, high = float(value.start or 0), float(value.end or 0)
    if low >= high:
        raise LFADSError(f"command line: {name}: {low:g} is not below {high:g}; swap them")
    if "log" in value.tags and low <= 0:
        raise LFADSError(f"command line: {name}: no logarithm starts at {low:g}")
    flat = name.rsplit(".", 1)[-1]
    for bound in (value.start, value.end):
        params.check_value(flat, bound, "command line")


def _choices(override: Override) -> Iterable[Any]:
    """Return the values of an override, one for each job of a sweep."""
    values: Iterable[Any]
    if override.is_sweep_override():
        values = override.sweep_iterator() if override.is_discrete_sweep() else ()
    else:
        values = (override.value(),)
    return [v.text if isinstance(v, QuotedString) else v for v in values]


def _implied(values: dict[str, Any], keys: set[str], is_sweep: bool) -> list[str]:
    folder = values.get("output.lfads_save_dir")
    file = values.get("params_file")
    from_file = params.read_params_file(_text(file)) if isinstance(file, str | QuotedString) else {}
    folder = folder or from_file.get("lfads_save_dir")
    if folder is not None and not is_sweep:
        folder = str(open_run(_text(folder)))
    kind = values.get("kind") or from_file.get("kind", Kind.train)
    kind = kind.name if isinstance(kind, Kind) else _text(kind)
    extra = []
    if kind != "train":
        if folder is None or not Path(_text(folder)).is_dir():
            found = "" if folder is None else f"; {_text(folder)} is no folder"
            raise LFADSError(
                f"kind={kind} works on a trained model; say which: output.lfads_save_dir=RUN, the "
                f"folder that training printed last{found}"
            )
    elif not keys & _DATA_CHOICES and not (
        folder and (Path(_text(folder)) / "config.yaml").is_file()
    ):
        print(
            f"No data named: this run uses experiment={DEFAULT_EXPERIMENT} (embedded data, sizes "
            "that suit it). For your own, give data.data_dir=FOLDER data.data_filename_stem=STEM",
            file=sys.stderr,
        )
        extra.append(f"experiment={DEFAULT_EXPERIMENT}")
    if folder is not None and not is_sweep:
        _check_writable(Path(_text(folder)))
        extra.append("hydra.run.dir='" + _text(folder).replace("'", "\\'") + "'")
    elif folder is not None and kind == "train":
        raise LFADSError(
            f"output.lfads_save_dir={_text(folder)} in a sweep: its jobs would share one folder; "
            "name the sweep's folder by hydra.sweep.dir=FOLDER"
        )
    return extra


def _check_writable(folder: Path) -> None:
    """Check a run's folder, or where it is to be made, before Hydra makes it with a traceback.

    Raises:
        LFADSError: nothing can be written there.
    """
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise LFADSError(f"output.lfads_save_dir={folder}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise LFADSError(
            f"output.lfads_save_dir={folder}: {there} cannot be written; choose another folder, or "
            "have it opened to you"
        )


def _text(value: Any) -> str:
    return value.text if isinstance(value, QuotedString) else str(value)


def _insert(argv: list[str], overrides: list[str], extra: list[str]) -> list[str]:
    """Put ``extra`` beside the other overrides; argparse wants them in one row."""
    at = argv.index(overrides[0]) if overrides else len(argv)
    return argv[:at] + extra + argv[at:]


def settings_text(argv: Sequence[str]) -> str:
    """Return what ``--cfg job`` prints: the settings that a run would have, as YAML."""
    given, _ = get_args_parser().parse_known_args(list(argv))
    cfg = _composed(given.overrides, given.config_dir)
    choices, tasks = dict(cfg.hydra.runtime.choices), list(cfg.hydra.overrides.task)
    with open_dict(cfg):
        del cfg["hydra"]
    config, _ = resolve(cfg, tasks, choices)
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
        raise LFADSError(f"command line: {' '.join(str(error).split())}") from error


def resolve(
    cfg: DictConfig, overrides: Sequence[str], choices: dict[str, str]
) -> tuple[Config, Path | None]:
    """Make the run's config: defaults, presets or the run's own, params_file, command line.

    Args:
        cfg: as Hydra composed it.
        overrides: of this job's command line.
        choices: Hydra's chosen presets, by group.

    Returns:
        The config, and the run's folder where the parameters name one.
    """
    composed = params.from_dict(
        OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),  # type: ignore[arg-type]
        "presets",
    )
    explicit = {}
    for override in _parsed(overrides):
        name = _parameter(override)
        if name is not None:
            explicit[name] = params.flat_value(composed, name)
    from_file = params.read_params_file(composed.params_file) if composed.params_file else {}
    settings = from_file | explicit
    config = params.from_flat(settings, base=composed)
    if drawn := drawn_settings(config):
        settings = drawn | settings
        config = params.from_flat(settings, base=composed)
    given = config.output.lfads_save_dir
    folder = None if given is None else local_run(given)
    saved = None if folder is None else params.read_config(folder)
    if saved is None:
        config = with_model_of_start(config, settings)
    if folder is not None and saved is not None:
        chosen = [g for g in _PRESETS_OVER_A_RUN if choices.get(g) is not None]
        if choices.get("experiment") is not None:
            warnings.warn(
                f"{folder} holds a run: it is used with its own settings, not with experiment="
                f"{choices['experiment']}",
                stacklevel=1,
            )
        config = _over_a_run(saved, config, settings, chosen, folder)
    if folder is not None:
        config.output.lfads_save_dir = str(folder.resolve())
    if config.data.data_dir is not None and not is_url(config.data.data_dir):
        # so that the run's folder alone says where its data are, from any working folder
        config.data.data_dir = str(Path(config.data.data_dir).resolve())
    return config, folder


def _over_a_run(
    saved: Config,
    asked: Config,
    settings: dict[str, Any],
    chosen: list[str],
    folder: Path,
) -> Config:
    saved.optim.do_reset_learning_rate = False  # asked for once, done once
    if asked.kind is not Kind.train:
        changed = [
            f"{params.dotted_names()[n]}={v}"
            for n, v in settings.items()
            if params.dotted_names()[n].startswith("model.") and v != params.flat_value(saved, n)
        ]
        if changed:
            raise LFADSError(
                f"{folder}: the model was trained with other values than {', '.join(changed)}; a "
                "trained model's structure cannot be changed; leave model.* out"
            )
    for group in chosen:
        setattr(saved, group, getattr(asked, group))
    return params.from_flat(settings | {"kind": asked.kind.name}, base=saved)


def _run(cfg: DictConfig) -> float | None:
    hydra_cfg = HydraConfig.get()
    output_dir, is_job = Path(hydra_cfg.runtime.output_dir), hydra_cfg.mode is RunMode.MULTIRUN
    settings = {o.key_or_group: o.value() for o in _parsed(hydra_cfg.overrides.task)}
    try:
        choices = dict(hydra_cfg.runtime.choices)
        config, named = resolve(cfg, hydra_cfg.overrides.task, choices)
        is_job = is_job and named is None
        if is_job:
            drawn = drawn_settings(config)
            settings |= {params.dotted_names()[name]: value for name, value in drawn.items()}
            done = sweeps.begin_job(output_dir, settings)
            if done is not None:
                return done
        params.check(config)  # its warnings are for training, which gives them
        named = output_dir if is_job else named
        with (
            nullcontext(named) if named is not None else new_run_folder(output_dir) as folder,
            run_lock(folder) if config.kind is Kind.train else nullcontext(),
        ):
            # torch and Lightning are imported only now: help and mistakes take 0.3 s
            from lfads_lightning.runs import run_kind

            config.output.lfads_save_dir = str(folder.resolve())
            started = time.monotonic()
            criterion = run_kind(config, folder, is_job)
            if is_job:
                print(sweeps.line(folder, settings, time.monotonic() - started), flush=True)
            return criterion
    except LFADSError as error:
        if is_job:
            print(f"error: {error}", file=sys.stderr)
            return sweeps.fail_job(output_dir, settings, error)
        if not any(o.startswith("hydra.run.dir=") for o in hydra_cfg.overrides.hydra):
            with suppress(OSError):
                output_dir.rmdir()  # Hydra made it; leave none that is empty
        fail(error)
    except KeyboardInterrupt:
        # training has saved, and said how to go on
        raise SystemExit(signals.EXIT_INTERRUPTED) from None
