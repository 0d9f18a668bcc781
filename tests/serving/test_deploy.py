"""The deploy kit: its files are what they claim, and its dashboard asks for metrics that there are."""

import json
import re

import yaml

from tests.helpers.paths import ROOT

DEPLOY = ROOT / "deploy"


def test_the_manifests_are_yaml():
    for path in DEPLOY.glob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text())), path


def test_every_file_is_described():
    readme = (DEPLOY / "README.md").read_text()
    files = {p.name for p in DEPLOY.iterdir()} - {"README.md", "prometheus.yaml"}
    assert all(f"`{name}`" in readme for name in files)


def test_the_dashboard_asks_for_metrics_that_there_are(server):
    server.infer("double", [[1, 2, 3]])
    there = set(re.findall(r"^(\w+)\{", server.ask("GET", "/metrics")[1].decode(), re.MULTILINE))
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    asked = {m for p in panels for t in p["targets"] for m in re.findall(r"nv_\w+", t["expr"])}
    assert len(asked) > 6 and asked <= there
