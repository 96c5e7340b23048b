"""The parameters that a search changes, with their bounds: a YAML file.

    loss.kl_ic_weight: {min: 0.02, max: 2}
    optim.learning_rate_init: {min: 1e-5, max: 0.02, init: [0.002, 0.01]}
    model.keep_prob: {min: 0.4, max: 1, complement: true, draw: uniform}

``init`` is what members start with, a value or a range to draw from. Without it, under
``recipe=auto`` the first member starts with the run's own value and the others with perturbations
of it; under ``recipe=original`` all draw between the bounds. ``draw`` is log (default) or uniform;
``perturb`` is the largest perturbation (default 0.3: multiplied or divided by 1.3);
``complement: true`` perturbs 1 - value instead of the value.

Random draws (``search.draw``, ``sweep=random``) may be of any parameter, also from a list:
``model.co_dim: {values: [0, 2, 4]}``.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning import params
from lfads_lightning.commands import shown
from lfads_lightning.config import Config, LFADSError
from lfads_lightning.runs.documents import read_document
from lfads_lightning.runs.files import presets_dir

# what a trained model can change from one update to the next; the others shape the network or data
SEARCHABLE = (
    "coordinated_dropout_rate",
    "keep_prob",
    "kl_ic_weight",
    "kl_co_weight",
    "l2_gen_scale",
    "l2_con_scale",
    "co_mean_corr_scale",
    "learning_rate_init",
    "max_grad_norm",
)
_KEYS = {"min", "max", "init", "draw", "perturb", "complement"}
_SMALLEST_STEP = 0.002  # of a perturbation, relative to the largest
_ATTEMPTS = 100


class Range(NamedTuple):
    """One searched parameter.

    Attributes:
        name: flat name of the parameter.
        low: lower bound.
        high: upper bound.
        init: range of the starting values; None if the space gives none.
        log: whether starting values are uniform in the logarithm, not in the value.
        perturb: w; a perturbation multiplies or divides by 1 + 0.002 w up to 1 + w.
        complement: whether 1 - value is drawn and perturbed; the bounds are those of the value.
        values: values to choose from instead; None for a range.
    """

    name: str
    low: float
    high: float
    init: tuple[float, float] | None
    log: bool
    perturb: float
    complement: bool
    values: tuple[Any, ...] | None = None

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a starting value; it is rounded if the parameter is an integer."""
        if self.values is not None:
            return self.values[int(rng.integers(len(self.values)))]
        value = self._drawn(rng)
        return round(value) if params.is_integer(self.name) else value

    @property
    def starts(self) -> tuple[float, float]:
        """Return the range that starting values are drawn from: ``init``, or the bounds."""
        return (self.low, self.high) if self.init is None else self.init

    def _drawn(self, rng: np.random.Generator) -> float:
        a, b = sorted(self._moved(v) for v in self.starts)
        if self.log and a > 0:
            return self._value(math.exp(rng.uniform(math.log(a), math.log(b))))
        return self._value(rng.uniform(a, b))

    def perturbed(self, value: float, rng: np.random.Generator) -> float:
        """Change a value by a random factor, up or down with equal chance, within the bounds.

        Keshtkaran et al. 2022, methods: the factor is exp(+-U[log(1 + 0.002 w), log(1 + w)]),
        drawn again until the value is inside.
        """
        moved = self._moved(value)
        for _ in range(_ATTEMPTS):
            size = rng.uniform(math.log1p(_SMALLEST_STEP * self.perturb), math.log1p(self.perturb))
            new = self._value(moved * math.exp(size if rng.random() < 0.5 else -size))
            if self.low <= new <= self.high:
                return new
        return value  # 0 is a bound, and no factor changes it

    def _moved(self, value: float) -> float:
        return 1 - value if self.complement else value

    def _value(self, moved: float) -> float:
        value = 1 - moved if self.complement else moved
        return min(max(value, self.low), self.high) if math.isclose(value, self.low) else value


def drawn_settings(config: Config) -> dict[str, Any]:
    """Return the settings, by flat name, of the draw that ``search.draw`` asks for, if any.

    The n-th draw from a space is the same in every run.

    Raises:
        LFADSError: there is no such space, or something in it is wrong.
    """
    if config.search.draw is None:
        return {}
    rng = np.random.default_rng(config.search.draw)
    space = read_space(find_space(config.search.space), of_any_parameter=True)
    return {r.name: r.draw(rng) for r in space}


def read_space(path: Path, of_any_parameter: bool = False) -> list[Range]:
    """Read a search space.

    Args:
        path: path of the YAML file.
        of_any_parameter: allow every parameter, for single runs; else only those that can change
            while a model trains.

    Raises:
        LFADSError: there is no such file, or it names something that cannot be searched.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LFADSError(
            f"search.space: {path} cannot be read ({error.strerror}); give the name of a preset in "
            "conf/space or the path of a YAML file"
        ) from error
    given = read_document(content, str(path))
    if not isinstance(given, dict) or not given:
        raise LFADSError(f"{path}: expected one 'group.name: {{min: ..., max: ...}}' per line")
    ranges = [
        _range(str(name), entry, str(path), of_any_parameter) for name, entry in given.items()
    ]
    names = [r.name for r in ranges]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise LFADSError(f"{path}: {min(twice)} is given twice; keep one")
    return ranges


def _range(given: str, entry: Any, where: str, of_any_parameter: bool) -> Range:
    name = params.canonical(given, where)
    dotted = params.dotted_names()[name]
    if of_any_parameter and isinstance(entry, dict) and set(entry) == {"values"}:
        values = entry["values"]
        if not isinstance(values, list) or not values:
            raise LFADSError(f"{where}: {dotted}: values is {shown(values)}; expected a list")
        checked = tuple(params.check_value(name, v, where) for v in values)
        return Range(name, 0, 0, (0, 0), False, 1, False, checked)
    if name not in SEARCHABLE and not of_any_parameter:
        raise LFADSError(
            f"{where}: {dotted} cannot be searched while a model trains; expected any of "
            f"{', '.join(params.dotted_names()[n] for n in SEARCHABLE)} (a sweep can vary others)"
        )
    if not isinstance(entry, dict) or not {"min", "max"} <= set(entry) <= _KEYS:
        raise LFADSError(
            f"{where}: {dotted} is {shown(entry)}; expected {{min: ..., max: ...}}, and optionally "
            f"{', '.join(sorted(_KEYS - {'min', 'max'}))}"
        )
    low, high = (_number(entry[key], f"{where}: {dotted}: {key}") for key in ("min", "max"))
    if low >= high:
        raise LFADSError(f"{where}: {dotted}: min {low:g} is not below max {high:g}; swap them")
    for bound in (low, high):
        params.check_value(name, bound, where)
    init = entry.get("init", [low, high])
    is_given = "init" in entry
    starts = init if isinstance(init, list) else [init, init]
    if len(starts) != 2:
        raise LFADSError(
            f"{where}: {dotted}: init is {shown(init)}; expected a number or [low, high]"
        )
    a, b = (_number(v, f"{where}: {dotted}: init") for v in starts)
    if not low <= a <= b <= high:
        raise LFADSError(
            f"{where}: {dotted}: init {shown(init)} is not inside the bounds {low:g} to {high:g}"
        )
    draw = entry.get("draw", "log")
    if draw not in ("log", "uniform"):
        raise LFADSError(f"{where}: {dotted}: draw is {shown(draw)}; expected log or uniform")
    complement = entry.get("complement", False)
    if not isinstance(complement, bool):
        raise LFADSError(
            f"{where}: {dotted}: complement is {shown(complement)}; expected true or false"
        )
    if draw == "log" and (min(1 - a, 1 - b) if complement else a) <= 0:
        raise LFADSError(
            f"{where}: {dotted}: starts at 0, which has no logarithm; give init: [low, high] "
            "or draw: uniform"
        )
    perturb = _number(entry.get("perturb", 0.3), f"{where}: {dotted}: perturb")
    if perturb <= 0:
        raise LFADSError(f"{where}: {dotted}: perturb is {perturb:g}; expected a number > 0")
    start = (a, b) if is_given else None
    return Range(name, low, high, start, draw == "log", perturb, complement)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)  # YAML 1.1 reads 1e-5 as a string
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise LFADSError(f"{where} is {shown(value)}; expected a number")
    return number


def find_space(given: str) -> Path:
    """Return the file that ``search.space`` names: a preset, or a path.

    Raises:
        LFADSError: there is no such preset.
    """
    presets = presets_dir() / "space"
    if given.endswith((".yaml", ".yml")):
        return Path(given)
    path = presets / f"{given}.yaml"
    if path.parent != presets or not path.is_file():
        known = ", ".join(sorted(p.stem for p in presets.glob("*.yaml")))
        raise LFADSError(
            f"search.space={given}: no such preset (there are {known}); or give the path of a "
            "YAML file"
        )
    return path
