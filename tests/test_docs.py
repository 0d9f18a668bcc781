"""The documentation: its links lead somewhere, tests that it names are there, commands have the flags that it says."""

import functools
import re
from pathlib import Path

import click
import pytest

import dlbridge
from dlbridge.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
GENERATED = ("conformance.md", "coverage.md", "gallery.md", "precision.md")
WRITTEN_BY_HAND = [ROOT / "README.md", *(page for page in PAGES if page.name not in GENERATED)]


def _anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        found = page.parent / path if path else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_are_named_are_there(page):
    for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


def test_the_most_wanted_features_are_twenty_five():
    rows = re.findall(r"^\| (\d+) \|.*`tests/", (ROOT / "docs" / "wanted.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 26))


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: page.name)
def test_flags_that_are_shown_exist(page):
    context = click.Context(cli)
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for command, rest in re.findall(r"dlbridge (\w+)([^\n`|]*)", text):
        if command not in COMMANDS:
            continue
        found = cli.get_command(context, command)
        known = {flag for param in found.get_params(context) for flag in (*param.opts, *param.secondary_opts)}
        for flag in re.findall(r"(?<![\w-])(--[a-z][\w-]*)", re.sub(r"'[^']*'", "", rest)):
            assert flag in known, f"{command} {flag}"


def test_every_page_is_in_the_site():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert {page.name for page in PAGES} == set(re.findall(r": ([\w]+\.md)$", nav, re.MULTILINE))


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: page.name)
def test_names_in_python_are_found_by_import_dlbridge_alone(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for name in re.findall(r"(?<!from )(?<!import )\bdlbridge((?:\.\w+)+)", "\n".join(blocks)):
        first, *rest = name[1:].split(".")
        assert first in dir(dlbridge), name  # what other tests have imported is an attribute, but is not in there
        functools.reduce(getattr, [first, *rest], dlbridge)
