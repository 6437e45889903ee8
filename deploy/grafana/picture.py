"""Draws the dashboards as pictures, so that a reader sees what to expect: matplotlib's drawing of what Prometheus answers.

``python deploy/grafana/picture.py http://127.0.0.1:9090 docs/pictures --minutes 10``. Questions, legends, units and places are
those of ``deploy/grafana/dashboards``; colours and fonts are not Grafana's.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

mpl.use("Agg")

FOLDER = Path(__file__).parent / "dashboards"
_STEP_SECONDS = 5
_MOST_LEGENDS = 8
_COLUMN, _LINE = 0.72, 0.42  # inches of one unit of Grafana's grid
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_PERCENT = 100


class Asked:
    """Prometheus, over the last minutes."""

    def __init__(self, url: str, minutes: float, asset: str) -> None:
        """Ask this server, with everything chosen and one asset."""
        self._client = httpx.Client(base_url=f"{url.rstrip('/')}/api/v1", trust_env=False, timeout=60)
        self.now = float(self._answer("query", {"query": "time()"})["result"][0])
        self._seconds = minutes * 60
        self._all = {"$__rate_interval": "30s", "$instance": ".+", "$venue": ".+"}
        self._asset = asset

    def __enter__(self) -> Asked:
        """Return this one."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the connection."""
        self._client.close()

    def lines(self, target: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
        """Return legend, minutes before now and values of each series of a panel's question."""
        asked = {
            "query": self._chosen(target["expr"]),
            "start": self.now - self._seconds,
            "end": self.now,
            "step": _STEP_SECONDS,
        }
        series = self._answer("query_range", asked)["result"]
        return [(_legend(target, each["metric"]), *self._points(each["values"])) for each in series]

    def _points(self, values: list[tuple[float, str]]) -> tuple[list[float], list[float]]:
        return [(at - self.now) / 60 for at, _value in values], [float(value) for _at, value in values]

    def _chosen(self, expr: str) -> str:
        expr = expr.replace('asset=~"$asset"', 'asset=~".+"').replace("$asset", self._asset)
        for name, value in self._all.items():
            expr = expr.replace(name, value)
        return expr

    def _answer(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(f"/{what}", data=asked).json()
        if answer["status"] != "success":
            raise SystemExit(f"{asked['query']}: {answer['error']}")
        return dict(answer["data"])


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    return _LABEL.sub(lambda found: labels.get(found[1], ""), target["legendFormat"])


def _in_unit(unit: str, value: float) -> str:
    if unit == "percentunit":
        return f"{value * _PERCENT:.4g} %"
    for limit, letter in ((1e9, " G" if unit.startswith("B") or unit == "bytes" else " bn"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit and unit != "s":
            return f"{_currency(unit)}{value / limit:.3g}{letter}"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    return f"{_currency(unit)}{value:.4g}" + (" s" if unit == "s" else "")


def _currency(unit: str) -> str:
    return "$" if unit == "currencyUSD" else ""


def draw(board: dict[str, Any], asked: Asked, path: Path) -> None:
    """Draw one dashboard into a file."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(24 * _COLUMN, height * _LINE + 0.6), facecolor="white")
    figure.suptitle(board["title"], x=0.01, ha="left", fontsize=13, fontweight="bold", y=1 - 0.15 / (height * _LINE))
    for panel in board["panels"]:
        place = panel["gridPos"]
        top = 1 - (0.6 + place["y"] * _LINE) / (height * _LINE + 0.6)
        if panel["type"] == "row":
            figure.text(0.01, top - 0.3 * _LINE / (height * _LINE), panel["title"].replace("$asset", "BTC"), fontsize=11)
            continue
        left, width = place["x"] / 24, place["w"] / 24
        tall = place["h"] * _LINE / (height * _LINE + 0.6)
        box = (left + 0.035, top - tall * 0.86, width - 0.05, tall * 0.66)
        _draw_panel(figure.add_axes(box), panel, asked)
    figure.savefig(path, dpi=70)
    plt.close(figure)


def _draw_panel(axes: Axes, panel: dict[str, Any], asked: Asked) -> None:
    axes.set_title(panel["title"], fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    lines = [line for target in panel["targets"] for line in asked.lines(target)]
    if not lines:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="grey")
        axes.set_axis_off()
    elif panel["type"] == "stat":
        words = [_in_unit(unit, values[-1]) for _name, _at, values in lines]
        shown = "\n".join(f"{name}: {word}" for (name, _at, _values), word in zip(lines, words, strict=True))
        axes.text(
            0.5, 0.5, "\n".join(textwrap.wrap(shown, 40)) if len(lines) == 1 else shown, ha="center", va="center", fontsize=12
        )
        axes.set_axis_off()
    else:
        _draw_lines(axes, lines, unit)


def _draw_lines(axes: Axes, lines: list[tuple[str, list[float], list[float]]], unit: str) -> None:
    for number, (name, minutes, values) in enumerate(lines):
        axes.plot(minutes, values, linewidth=0.9, label=name if number < _MOST_LEGENDS else f"_{name}")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: _in_unit(unit, value)))
    axes.set_xlabel("minutes", fontsize=6, labelpad=1)
    axes.grid(visible=True, linewidth=0.3)
    more = f" (+{len(lines) - _MOST_LEGENDS})" if len(lines) > _MOST_LEGENDS else ""
    axes.legend(fontsize=5.5, loc="upper left", framealpha=0.6, title=more or None, title_fontsize=5.5, ncols=2)


def main() -> None:
    """Draw all dashboards."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url", help="of a Prometheus that scrapes a run")
    options.add_argument("folder", type=Path, help="where the pictures go")
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--asset", default="BTC")
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with Asked(given.url, given.minutes, given.asset) as asked:
        for path in sorted(FOLDER.glob("*.json")):
            draw(json.loads(path.read_text(encoding="utf-8")), asked, given.folder / f"{path.stem}.png")


if __name__ == "__main__":
    main()
