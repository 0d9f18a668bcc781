"""The deploy kit: its files are what they claim, and its dashboard asks for metrics that there are."""

import json
import re

import yaml

from dlbridge.cli.serve import command
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


def test_what_the_manifests_name_is_there():
    """Files that are mounted, options of the server, and what Grafana is told."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    mounts = [mount.split(":")[0] for service in compose["services"].values() for mount in service["volumes"]]
    assert all((DEPLOY / mount).is_file() for mount in mounts if mount.startswith("./"))
    for config in compose["configs"].values():
        assert yaml.safe_load(config["content"])["apiVersion"] == 1
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    options = json.loads(re.search(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)[1])
    assert options[:2] == ["dlbridge", "serve"]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
