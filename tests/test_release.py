"""What is written down twice for a release says the same: versions, pins, requirements, Pythons."""

import re

import yaml
from packaging.requirements import Requirement
from test_install import PYTHONS, ROOT, pins, project

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def read(*parts):
    return yaml.safe_load(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def test_version_is_the_same_everywhere():
    version = project()["version"]
    assert read("CITATION.cff")["version"] == version
    assert read("recipe", "recipe.yaml")["package"]["version"] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (\S+)", changelog, re.M)
    assert version == next(head for head in heads if head != "Unreleased")


def test_conda_recipe_asks_for_what_the_package_asks_for():
    recipe = read("recipe", "recipe.yaml")
    asked = {r.name: r.specifier for r in map(Requirement, project()["dependencies"])}
    wanted = {CONDA_NAMES.get(name, name): specifier for name, specifier in asked.items()}
    found = {r.name: r.specifier for r in map(Requirement, recipe["requirements"]["run"])}
    assert str(found.pop("python")) == project()["requires-python"]
    assert found == wanted
    programs = dict(line.split(" = ") for line in recipe["build"]["python"]["entry_points"])
    assert programs == project()["scripts"]


def test_commits_are_looked_at_by_the_ruff_of_the_lint():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["rev"] == f"v{pins('3.11', 'x86_64-manylinux_2_28')['ruff']}"


def test_workflows_try_every_python_that_the_project_names():
    job = read(".github", "workflows", "tests.yml")["jobs"]["test"]
    assert tuple(job["strategy"]["matrix"]["python"]) == PYTHONS
    assert len(job["strategy"]["matrix"]["os"]) == 3


def test_image_copies_what_the_build_needs():
    """.dockerignore leaves out all else."""
    text = (ROOT / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for word in line.split()}
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M)
    assert copied == set(kept)
    needed = {"pyproject.toml", project()["readme"], *project()["license-files"], "conf"}
    assert needed <= copied
    assert all((ROOT / name).exists() for name in copied)
