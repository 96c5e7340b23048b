"""The preset files under conf/: each composes, passes every check, and holds only differences."""

import itertools

import pytest
import yaml
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from lfads_lightning import params
from lfads_lightning.config import Config
from lfads_lightning.data.recipe import Facts, settings_for

CONF = ROOT / "conf"
FOLDERS_OF_OTHERS = ("space",)  # read by us, not by Hydra
PRESETS = sorted(
    p for p in CONF.rglob("*.yaml") if p.parent != CONF and p.parent.name not in FOLDERS_OF_OTHERS
)
# what a preset needs beside the core
PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit": "hydra_submitit_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
    "optuna": "hydra_optuna_sweeper",
}
# overlays: their keys are those of the root, and a sweep also speaks to Hydra
OVERLAYS = ("experiment", "sweep", "search", "launcher")


def settles(path):
    """Return whether a preset is one that goes through fixed values."""
    return path.parent.name == "sweep" and path.stem != "optuna"


def name_of(path):
    return f"{path.parent.relative_to(CONF).as_posix()}={path.stem}"


@pytest.fixture
def composed():
    """Compose overrides to what the command line sees; Hydra is as before afterwards."""
    store = ConfigStore.instance()
    before = store.repo
    store.repo = {**before}
    store.store(name="schema", node=Config)
    store.store(group="hydra/help", name="lfads", node={"template": ""})
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):

        def made(*overrides, **kw):
            for preset in (o.partition("=")[2] for o in overrides):
                if preset in PLUGINS:
                    pytest.importorskip(f"hydra_plugins.{PLUGINS[preset]}", reason="needs an extra")
            return compose("config", overrides=list(overrides), **kw)

        yield made
    GlobalHydra.instance().clear()
    store.repo = before


def as_config(composed):
    """Go the way of the command line: to plain values, to a checked config."""
    plain = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    return params.from_dict(plain, "presets")


def leaves(mapping, *path):
    """Yield (dotted name, value) of a nested mapping."""
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from leaves(value, *path, key)
        else:
            yield ".".join([*path, key]), value


def settings(path):
    """Return what a preset sets, by dotted name of the parameter; Hydra's own keys left out."""
    given = yaml.safe_load(path.read_text())
    given.pop("defaults", None)
    values = dict(leaves(given))
    group = path.parent.name
    if group not in OVERLAYS:
        values = {f"{group}.{name}": value for name, value in values.items()}
    return {
        dotted: params.check_value(dotted.rsplit(".", 1)[-1], value, path.name)
        for dotted, value in values.items()
        if not dotted.startswith("hydra.")
    }


def by_dotted_name(config):
    return {dotted: params.flat_value(config, n) for n, dotted in params.dotted_names().items()}


def values_of(listed):
    return [yaml.safe_load(value) for value in str(listed).split(",")]


def swept(path):
    """Return the values that a sweep goes through, by dotted name."""
    hydra = yaml.safe_load(path.read_text()).get("hydra", {})
    listed = hydra.get("sweeper", {}).get("params", {})
    return {
        name: list(range(20)) if values == "range(20)" else values_of(values)
        for name, values in listed.items()
    }


def test_there_are_presets_of_every_kind():
    assert {p.parent.name for p in PRESETS} >= {"experiment", "sweep", "model", "trainer"}


def test_no_preset_is_the_plain_default(composed):
    assert as_config(composed()) == Config()


@pytest.mark.parametrize("path", PRESETS, ids=name_of)
def test_preset_reaches_the_config_and_passes_every_check(composed, path):
    given = settings(path)
    assert given or swept(path) or path.parent.name == "launcher"
    config = as_config(composed(name_of(path)))
    found = by_dotted_name(config)
    assert {dotted: found[dotted] for dotted in given} == given
    assert params.check(config) == []


@pytest.mark.parametrize("path", PRESETS, ids=name_of)
def test_preset_holds_only_differences(path):
    """From the defaults; a default that recipe=auto would replace is a difference too."""
    given, default = settings(path), by_dotted_name(Config())
    chosen = {params.dotted_names()[name] for name in settings_for(Facts(300, 300, 100, 30, 0.1))}
    replaced = chosen if given.get("recipe") != "original" else set()
    same = {name for name, value in given.items() if value == default[name]}
    assert same <= replaced


@pytest.mark.parametrize("path", PRESETS, ids=name_of)
def test_preset_says_why_it_is_there(path):
    comments = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    assert any(not line.startswith("# @package") for line in comments)


@pytest.mark.parametrize("path", [p for p in PRESETS if settles(p)], ids=name_of)
def test_every_value_of_a_sweep_passes_every_check(composed, path):
    values = swept(path)
    assert values
    jobs = itertools.product(*values.values())  # composing them all would take minutes
    unseen = {(name, value) for name, listed in values.items() for value in listed}
    for job in jobs:
        pairs = set(zip(values, job, strict=True))
        if not pairs & unseen:
            continue
        unseen -= pairs
        overrides = [f"{n}={v}" for n, v in zip(values, job, strict=True)]
        config = as_config(composed(name_of(path), *overrides))
        for dotted, value in zip(values, job, strict=True):
            assert params.flat_value(config, dotted.rsplit(".", 1)[-1]) == value
        assert params.check(config) == []
    assert not unseen


@pytest.mark.parametrize("path", [p for p in PRESETS if p.parent.name == "sweep"], ids=name_of)
def test_sweep_starts_a_multirun_by_itself(composed, path):
    assert composed(name_of(path), return_hydra_config=True).hydra.mode.name == "MULTIRUN"


@pytest.mark.parametrize("group", sorted({p.parent.name for p in PRESETS}))
def test_folder_of_presets_is_a_group_that_can_be_chosen(group):
    """Config.yaml lists each group once, so that ``group=preset`` finds it."""
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    assert [d for d in defaults if isinstance(d, dict) and group in d] == [{group: None}]
