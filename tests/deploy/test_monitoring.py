"""What deploy/ offers fits what the server serves."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import needed
from clinvk.gateway.metrics import Metrics
from fakes.world import World

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
_METRIC = re.compile(r"\b((?:clinvk|process)_[a-z_]+)\b")


def tool(name: str, *words: str) -> None:
    """Run a checker of Debian's prometheus packages."""
    path = needed.program(name, package="prometheus prometheus-alertmanager")
    ended = subprocess.run([path, *words], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_rules_are_valid() -> None:
    tool("promtool", "check", "rules", str(PROMETHEUS / "clinvk.rules.yml"))


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    tool("promtool", "test", "rules", str(PROMETHEUS / "clinvk.rules.test.yml"))


def test_the_scrape_configuration_is_valid() -> None:
    tool("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_the_alertmanager_configuration_is_valid() -> None:
    tool("amtool", "check-config", str(DEPLOY / "alertmanager" / "alertmanager.yml"))


def rules() -> list[dict[str, Any]]:
    loaded: Any = yaml.safe_load((PROMETHEUS / "clinvk.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def test_there_are_warnings_and_critical_alerts_and_each_has_a_test() -> None:
    tests = (PROMETHEUS / "clinvk.rules.test.yml").read_text(encoding="utf-8")
    assert {rule["labels"]["severity"] for rule in rules()} == {"warning", "critical"}
    assert [rule["alert"] for rule in rules() if rule["alert"] not in tests] == []


def expressions() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    dashboard: Any = json.loads((DEPLOY / "grafana" / "clinvk.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


@pytest.mark.anyio
async def test_only_metrics_that_are_served_are_asked_for(world: World) -> None:
    async with world.app() as app:
        served = set[str]()
        for family in Metrics(app).registry.collect():
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            served |= {family.name + end for end in ends}
    asked = {name for expression in expressions() for name in _METRIC.findall(expression)}
    assert asked - served == set()


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    dashboard: Any = json.loads((DEPLOY / "grafana" / "clinvk.json").read_text(encoding="utf-8"))
    cells: list[tuple[int, int]] = []
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells += [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
