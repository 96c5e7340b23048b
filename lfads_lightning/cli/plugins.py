"""Hydra's plugins (launchers, sweepers, loggers), and the packages that they need."""

import re
import shutil

from hydra.errors import HydraException
from omegaconf import DictConfig

from lfads_lightning.config import LFADSError

# the package that provides each; mostly an extra of ours
_PACKAGES = {
    "launcher/joblib": "lfads-lightning[joblib]",
    "launcher/ray": "lfads-lightning[ray]",
    "launcher/ray_aws": "lfads-lightning[ray]",
    "launcher/rq": "hydra-rq-launcher",
    "launcher/submitit_local": "lfads-lightning[slurm]",
    "launcher/submitit_slurm": "lfads-lightning[slurm]",
    "sweeper/ax": "hydra-ax-sweeper",
    "sweeper/nevergrad": "hydra-nevergrad-sweeper",
    "sweeper/optuna": "lfads-lightning[optuna]",
    "hydra_logging/colorlog": "hydra-colorlog",
    "job_logging/colorlog": "hydra-colorlog",
}


def reason(error: HydraException, words: list[str]) -> str:
    """Return in one line why settings cannot be composed, and the package to install, if any.

    Args:
        error: Hydra's error.
        words: the overrides as typed.
    """
    said = " ".join(str(error).split())
    setting = re.search(r"Could not override '(hydra[./](launcher|sweeper)[./][^']+)'", said)
    if setting is not None:
        group = {"launcher": "launcher", "sweeper": "sweep"}[setting[2]]
        return f"{setting[1]}: is a setting of another {setting[2]}; name that too, {group}=NAME"
    found = re.search(r"Could not find 'hydra/((\w+)/([^']+))'", said)
    if found is None:
        return said
    choice, kind, name = found.groups()
    # a preset of ours chooses it under its own name: sweep=optuna, launcher=submitit
    typed = [w for w in words if re.match(rf"\+*(hydra/)?{kind.removesuffix('er')}(er)?=", w)]
    what = typed[-1] if typed else f"hydra/{kind}={name}"
    if choice in _PACKAGES:
        package = _PACKAGES[choice]
        needs = "an extra" if "[" in package else f"{package}, a plugin of Hydra"
        return f'{what} needs {needs}: pip install "{package}"'
    listed = re.search(r"Available options in '[^']*': (.*?)(?: Config search path|$)", said)
    there = f"; there are {', '.join(listed[1].split())}" if listed else ""
    return f"{what}: Hydra has no {kind} of this name{there}"


def check_launcher(composed: DictConfig) -> None:
    """Check that a sweep's jobs can be started from here.

    Raises:
        LFADSError: they are for SLURM, and this machine is not part of a cluster.
    """
    if composed.hydra.runtime.choices["hydra/launcher"] != "submitit_slurm":
        return
    missing = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
    if missing:
        raise LFADSError(
            f"command line: launcher=submitit hands the jobs to SLURM, and {missing[0]} is not "
            "found here; type the command on a login node of the cluster, or take launcher=joblib "
            "or launcher=submitit_local, which use this machine"
        )
