"""What has to agree in a release."""

import re
import subprocess
from pathlib import Path

import yaml

import onceforall

ROOT = Path(__file__).parents[1]


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == onceforall.__version__
    heading = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] == onceforall.__version__


def test_citation_names_the_paper_and_the_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == "Apache-2.0"
    assert citation["preferred-citation"]["url"] == "https://arxiv.org/abs/1908.09791"
    assert len(citation["preferred-citation"]["authors"]) == 5


def test_every_target_of_make_is_listed() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^make (\w+) ", listed, re.MULTILINE) == phony[1].split()


def test_checks_before_a_commit_are_those_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks] == re.findall(r"\t\$\(BIN\)/(.*)", recipe[1])


def test_public_ci_runs_what_is_here() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    used = {
        step["run"].removeprefix("make ")
        for job in jobs.values()
        for step in job["steps"]
        if step.get("run", "").startswith("make ")
    }
    assert used == {"lint", "wheel", "house", "docs"}
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_the_wheel_is_checked_for_files_that_are_there() -> None:
    needed = re.findall(r'"(onceforall/[^"]+)"', (ROOT / ".ci/check_wheel.py").read_text())
    assert len(needed) == 6
    assert all((ROOT / "src" / name).is_file() for name in needed)
