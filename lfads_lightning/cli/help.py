"""The text of ``lfads train --help``. To be fast, it imports neither Hydra nor NumPy."""

from pathlib import Path

from lfads_lightning import params
from lfads_lightning.commands import program
from lfads_lightning.runs.files import presets_dir

_CALLS = {
    "[group=preset] [group.name=value ...]": "train",
    "data.data_dir=FOLDER data.data_filename_stem=STEM model.co_dim=4": "",
    "params_file=my_params.yaml": "read parameters from a flat file",
    "kind=posterior_sample_and_average output.lfads_save_dir=RUN": "",
    "resume=FOLDER": "continue a run, a sweep or a search",
    "-m model.co_dim=0,1,2,4 seed=0,1,2": "a sweep over all combinations",
    "... --cfg job": "print the settings and stop",
    "... --config-dir FOLDER": "use your own presets",
    "--version": "",
}


def help_text(config_dir: str | None = None) -> str:
    """Return the text of ``--help``: usage, presets, all parameters."""
    groups = sorted({path.parent.name for path in presets_dir().glob("*/*.yaml")} - {"space"})
    presets = "\n".join(f"  {g}: {', '.join(presets_of(g, config_dir))}" for g in groups)
    calls = "\n".join(
        f"  {program()} {words:<48} {what}".rstrip() for words, what in _CALLS.items()
    )
    return f"""\
LFADS: denoised firing rates, factors, initial conditions and inferred inputs from spike counts.

{calls}

Presets (group=preset):
{presets}

Parameters (group.name=default):

{params.help_text()}"""


def presets_of(group: str, config_dir: str | None) -> list[str]:
    """List the presets of a group, ours and those of ``--config-dir``."""
    folders = [presets_dir() / group] + ([Path(config_dir) / group] if config_dir else [])
    return sorted(file.stem for folder in folders for file in folder.glob("*.yaml"))
