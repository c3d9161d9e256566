"""What the dashboard and the alerts ask Prometheus for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import promql_parser
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "vla_server.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
OF_PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus adds to what it scrapes."""


@dataclass(frozen=True)
class Query:
    """An expression, and the labels that what shows its result names."""

    where: str
    expr: str
    shown: frozenset[str]

    def parsed(self) -> promql_parser.Expr:
        return promql_parser.parse(self.expr.replace("$__rate_interval", "1m").replace("$__range", "1h"))


@dataclass(frozen=True)
class Selector:
    """A metric, and the labels that a query takes it to have, with the values that it names."""

    name: str
    labels: frozenset[str]
    values: frozenset[tuple[str, str]]


def queries() -> Iterator[Query]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            shown = frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            yield Query(panel["title"], target["expr"], shown)
    for rule in (rule for group in ALERTS["groups"] for rule in group["rules"]):
        shown = frozenset(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        yield Query(rule["alert"], rule["expr"], shown)


def selectors(query: Query) -> list[Selector]:
    """The metrics of a query; labels to group by count for each of them."""
    found, grouped = [], set()

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            grouped.update(node.modifier.labels)

    promql_parser.walk(query.parsed(), visit)
    return [
        Selector(
            each.name,
            frozenset(matcher.name for matcher in each.matchers.matchers) | frozenset(grouped) | query.shown,
            frozenset((matcher.name, matcher.value) for matcher in each.matchers.matchers if str(matcher.op) == "="),
        )
        for each in found
    ]
