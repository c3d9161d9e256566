"""The dashboard and the alerts ask for what a live server exposes, and docs/monitoring.md lists all of that."""

import re
from pathlib import Path

import httpx
import pytest
from exposed_metrics import samples
from prometheus_client.parser import text_string_to_metric_families
from promql import ALERTS, DASHBOARD, OF_PROMETHEUS, queries, selectors

MONITORING = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text()
ROWS = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (counter|gauge|histogram) \| (.*?) ?\| ", MONITORING, re.MULTILINE)
DOCUMENTED = {
    name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
    for names, kind, labels in ROWS
    for name in re.findall(r"`(\w+)`", names)
}
ROW_TITLES = ["Are robots served?", "Queue and device", "Scenes", "Sessions", "Process"]


@pytest.fixture(scope="module")
def page(ports):
    """What a server that has served every protocol exposes."""
    return httpx.get(f"{ports.url}/metrics").text, samples(ports.url)


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: f"{query.where}: {query.expr[:60]}")
def test_a_query_asks_for_metrics_and_labels_that_there_are(page, query):
    _, exposed = page
    for selector in selectors(query):
        series = [sample.labels for sample in exposed if sample.name == selector.name]
        assert series, f"no server exposes {selector.name}"
        labels = {name for each in series for name in each} | OF_PROMETHEUS
        assert {name for name in selector.labels if not name.startswith("$")} <= labels
        for name, value in selector.values - {("job", "vla")}:
            assert value in {each.get(name) for each in series}


def test_every_metric_is_described_with_its_type_and_labels(page):
    text, exposed = page
    families = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in text_string_to_metric_families(text)
    }
    labels = {name: set() for name in families}
    for sample in exposed:
        family = re.sub(r"_(bucket|count|sum)$", "", sample.name)
        labels[family if family in labels else sample.name] |= sample.labels.keys() - {"le"}
    assert {name: (kind, frozenset(labels[name])) for name, kind in families.items()} == DOCUMENTED


def test_the_dashboard_can_be_imported():
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"] == "vla-servers"
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROW_TITLES
    assert "datasource" in {each["name"] for each in DASHBOARD["templating"]["list"]}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    shown = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in shown} == {"${datasource}"}


def test_no_two_panels_lie_on_each_other():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("rule", [rule for group in ALERTS["groups"] for rule in group["rules"]], ids=str)
def test_an_alert_says_how_bad_it_is_and_is_described(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert f"| `{rule['alert']}` |" in MONITORING
