"""The part of ``lfads train`` that Hydra runs: words -> settings -> kind -> run."""

import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lfads_lightning import params
from lfads_lightning.cli.help import help_text
from lfads_lightning.cli.overrides import prepare, with_overrides
from lfads_lightning.cli.programs import fail
from lfads_lightning.cli.settings import resolve, settings_text, sweep_folder
from lfads_lightning.cli.words import parsed
from lfads_lightning.config import Kind, LFADSError
from lfads_lightning.runs import signals
from lfads_lightning.runs.files import presets_dir
from lfads_lightning.runs.run import Run
from lfads_lightning.search import sweeps
from lfads_lightning.search.space import drawn_settings


def main() -> None:
    """Read the command line and do what it says; a user's mistake ends with one line."""
    given, _ = get_args_parser().parse_known_args()
    if given.help:
        print(help_text(given.config_dir))
        return
    try:
        Path.cwd()
    except OSError as error:
        raise LFADSError(
            f"the working folder cannot be entered ({error.strerror}); cd to another"
        ) from error
    sys.argv[1:] = prepare(sys.argv[1:])
    if given.cfg == "job" and given.package is None:
        print(settings_text(sys.argv[1:]), end="")
        return
    folder = sweep_folder(sys.argv[1:])
    given, _ = get_args_parser().parse_known_args()
    if folder is not None:
        sys.argv[1:] = with_overrides(sys.argv[1:], given.overrides, [sweeps.dir_word(folder)])
    run = hydra.main(version_base="1.3", config_path=str(presets_dir()), config_name="config")(_run)
    with nullcontext() if folder is None else sweeps.recorded(folder, sys.argv[1:], _report_sweep):
        run()


def _report_sweep(folder: Path) -> None:
    # it draws figures; its imports take a second, which --help does not spend
    from lfads_lightning.report.search_report import write_sweep_report

    write_sweep_report(folder)


def _run(cfg: DictConfig) -> float | None:
    hydra_cfg = HydraConfig.get()
    output_dir, is_job = Path(hydra_cfg.runtime.output_dir), hydra_cfg.mode is RunMode.MULTIRUN
    settings = {o.key_or_group: o.value() for o in parsed(hydra_cfg.overrides.task)}
    try:
        choices = dict(hydra_cfg.runtime.choices)
        config, named, read = resolve(cfg, hydra_cfg.overrides.task, choices)
        is_job = is_job and named is None
        if is_job:
            drawn = drawn_settings(config)
            settings |= {params.dotted_names()[name]: value for name, value in drawn.items()}
            done = sweeps.begin_job(output_dir, settings)
            if done is not None:
                return done
        params.check(config)  # training gives the warnings
        named = Run(output_dir) if is_job else named
        with (
            nullcontext(named) if named is not None else Run.new(output_dir) as run,
            run.locked() if config.kind is Kind.train else nullcontext(),
        ):
            # torch is imported only now: help and mistakes take 0.3 s
            from lfads_lightning.cli.kinds import run_kind

            config.output.lfads_save_dir = str(run.folder.resolve())
            started = time.monotonic()
            criterion = run_kind(config, run, is_job, read)
            if is_job:
                print(sweeps.line(run.folder, settings, time.monotonic() - started), flush=True)
            return criterion
    except LFADSError as error:
        if is_job:
            print(f"error: {error}", file=sys.stderr)
            return sweeps.fail_job(output_dir, settings, error)
        if not any(o.startswith("hydra.run.dir=") for o in hydra_cfg.overrides.hydra):
            with suppress(OSError):
                output_dir.rmdir()  # Hydra made it; leave no empty folder behind
        fail(error)
    except KeyboardInterrupt:
        # training has saved, and printed how to continue
        raise SystemExit(signals.EXIT_INTERRUPTED) from None
