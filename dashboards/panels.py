"""Boards, panels and variables, and the JSON that Grafana 13 reads of them."""

from dataclasses import dataclass
from typing import Any, Final, Literal

POSTGRES: Final = "grafana-postgresql-datasource"
SHARD: Final = {"type": POSTGRES, "uid": "${shard}"}
PROMETHEUS: Final = {"type": "prometheus", "uid": "prometheus"}
WIDTH: Final = 24  # Grafana's grid

Kind = Literal["timeseries", "stat", "table", "barchart", "bargauge"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of one statement.

    `sql` is for the shard that the reader chose. A time series has a column `time`, numbers, and
    perhaps one text column, whose values name the series. `limit` is drawn as a line (a series) or
    turns the number red (a stat), in the panel's unit.
    """

    title: str
    kind: Kind
    sql: str = ""
    expr: str = ""  # PromQL, for what only telemetry knows
    legend: str = ""
    unit: str = "short"
    width: int = 12
    height: int = 8
    about: str = ""
    limit: float | None = None
    units: tuple[tuple[str, str], ...] = ()  # of single columns


@dataclass(frozen=True, slots=True)
class Variable:
    """What the reader chooses: from a query's rows, or from a fixed list."""

    name: str
    label: str
    sql: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """A page of panels."""

    uid: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = ()
    since: str = "now-7d"
    every: str = ""  # how often it refreshes itself


def rendered(board: Board) -> dict[str, Any]:
    """The board's JSON."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["footfall"],
        "timezone": "utc",
        "schemaVersion": 42,
        "editable": False,
        "graphTooltip": 1,
        "refresh": board.every,
        "time": {"from": board.since, "to": "now"},
        "templating": {"list": [_shards(), *map(_variable, board.variables)]},
        "annotations": {"list": []},
        "links": [_other_boards()],
        "panels": _placed(board.panels),
    }


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """From left to right, a new row where one is full; a row is as high as its highest."""
    placed = []
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y, height = 0, y + height, 0
        place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        placed.append(_panel(panel, number, place))
        x, height = x + panel.width, max(height, panel.height)
    return placed


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    source = SHARD if panel.sql else PROMETHEUS
    return {
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": source,
        "gridPos": place,
        "targets": [_target(panel, source)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [*map(_override, panel.units)]},
        "options": _options(panel),
    }


def _target(panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    if not panel.sql:
        return {
            "refId": "A",
            "datasource": source,
            "expr": panel.expr,
            "legendFormat": panel.legend,
            "range": True,
        }
    return {
        "refId": "A",
        "datasource": source,
        "format": "time_series" if panel.kind == "timeseries" else "table",
        "rawQuery": True,
        "editorMode": "code",
        "rawSql": panel.sql.strip(),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"value": None, "color": "green"}]
    if panel.limit is not None:
        steps.append({"value": panel.limit, "color": "red"})
    custom: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        custom["thresholdsStyle"] = {"mode": "off" if panel.limit is None else "line"}
    return {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "custom": custom,
        "noValue": "none",
    }


def _override(unit: tuple[str, str]) -> dict[str, Any]:
    name, value = unit
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "unit", "value": value}],
    }


def _options(panel: Panel) -> dict[str, Any]:
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            legend = {
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["sum", "lastNotNull"],
            }
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "stat":
            return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "none"}
        case "bargauge":
            every = {**reduced, "values": True}
            return {"reduceOptions": every, "orientation": "horizontal", "displayMode": "basic"}
        case "barchart":
            return {"orientation": "horizontal", "showValue": "always"}
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}


def _shards() -> dict[str, Any]:
    return {
        "type": "datasource",
        "name": "shard",
        "label": "Shard",
        "query": POSTGRES,
        "regex": "/^shard/",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
    }


def _variable(variable: Variable) -> dict[str, Any]:
    common = {"name": variable.name, "label": variable.label, "multi": False, "includeAll": False}
    if variable.sql:
        return {
            **common,
            "type": "query",
            "datasource": SHARD,
            "query": variable.sql.strip(),
            "refresh": 2,  # when the range changes
            "sort": 0,
        }
    first = variable.options[0]
    return {
        **common,
        "type": "custom",
        "query": ", ".join(variable.options),
        "current": {"text": first, "value": first, "selected": True},
        "options": [
            {"text": each, "value": each, "selected": each == first} for each in variable.options
        ],
    }


def _other_boards() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Footfall",
        "tags": ["footfall"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "icon": "external link",
        "tooltip": "",
        "url": "",
        "targetBlank": False,
    }
