"""``report``: one HTML page with the figures of a run, its settings and how to make it again."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nets_deap.experiments.folder import HEAD
from nets_deap.experiments.presets import PRESETS
from nets_deap.plots import source
from nets_deap.plots.comparison import summary_of
from nets_deap.plots.kinds import KINDS, render_all
from nets_deap.plots.pareto import UNMEASURED
from nets_deap.runs.storage import schema
from nets_deap.runs.storage.paths import CONFIG
from nets_deap.runs.storage.reader import read_json, reading

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }
figure { margin: 2rem 0; } img { max-width: 100%; height: auto; }
figcaption { color: #555; } h2 { margin-top: 3rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.2rem 0.5rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: bottom; }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: 0.85rem; }
"""


def report(folder: str | Path) -> str:
    """Return a page about a run or a comparison that needs no other file and no network.

    Holds all figures that apply (as SVG), the table of the front or the summary, the settings, and
    the command that makes it again. What comes from files is escaped.

    Args:
        folder: Of a run, or of a comparison.

    Raises:
        InvalidValueError: The folder is none.
        FileAccessError: A file is missing or damaged.
        MissingExtraError: matplotlib is not installed.
    """
    reader = source.reader_of(folder)
    path, compared = reader.path, reader.holds(HEAD)
    facts = source.reader_of(path, CONFIG).facts() if not compared else _head(path)
    figures, left = render_all(path, form="svg")
    name = html.escape(path.resolve().name)
    parts = [
        f"<h1>{name}</h1>",
        _table(path, compared),
        "<h2>Figures</h2>",
        *(_figure(kind, content) for kind, content in figures.items()),
        "<h2>How to make it again</h2>",
        _again(facts, compared),
        "<h2>Settings</h2>",
        _pre(json.dumps(facts, indent=2)),
    ]
    if left:
        # Names alone: the reasons name folders of this machine.
        names = ", ".join(left)
        parts.append(f"<p>Not drawn, as it holds nothing for them: {html.escape(names)}.</p>")
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _head(path: Path) -> dict[str, Any]:
    """Return the settings of a comparison by the present names."""
    facts = read_json(path / HEAD)
    with reading(path / HEAD):
        return schema.renamed(facts)


def command_of(facts: Mapping[str, Any]) -> str | None:
    """Return the command line that makes a run again; None where it was not a preset's.

    Args:
        facts: What its ``config.json`` holds.
    """
    name, config = facts.get("preset"), facts.get("config")
    if name not in PRESETS or not isinstance(config, Mapping):
        return None
    words = ["nets-deap", "run", str(name), "--seed", str(config.get("seed", 0))]
    for field, usual in PRESETS[name].settable().items():
        section, _, key = field.rpartition(".")
        held = config.get(section, {}) if section else config
        if field == "seed" or not isinstance(held, Mapping) or key not in held:
            continue
        if _text(held[key]) != _text(usual):
            words += ["--set", f"{field}={_text(held[key])}"]
    return shlex.join(words)


def _text(value: Any) -> str:
    """Return a setting as the command line takes it."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _again(facts: Mapping[str, Any], compared: bool) -> str:
    """Return how to make it again."""
    versions = facts.get("versions")
    needs = ""
    if isinstance(versions, Mapping):
        listed = ", ".join(f"{name} {number}" for name, number in versions.items())
        needs = f"<p>With {html.escape(listed)}; the same machine and number of threads.</p>"
    if compared:
        return "<p>Call <code>nets-deap compare</code> with the settings below.</p>"
    command = command_of(facts)
    if command is None:
        return (
            "<p>It was not a preset's run: call <code>nets.search</code>, or DEAP's algorithm with "
            f"a <code>nets.Recorder</code>, with the settings below.</p>{needs}"
        )
    return f"{_pre(command)}{needs}"


def _table(path: Path, compared: bool) -> str:
    """Return the front's table, or the summary of a comparison."""
    if compared:
        summary = path / "summary.txt"
        if not summary.exists():
            return ""
        # Not as it stands there: one of an earlier version calls methods by other names.
        return f"<h2>Summary</h2>\n{_pre(summary_of(path).text())}"
    reader = source.reader_of(path)
    rows = source.reader_of(path, reader.kept).front()
    names = list(rows[0]) if rows else []
    # A long name may be broken after its underscores, so that wide tables fit.
    heads = (html.escape(name).replace("_", "_<wbr>") for name in names)
    head = "".join(f"<th>{one}</th>" for one in heads)
    body = "".join(f"<tr>{_cells([row.get(n) for n in names])}</tr>\n" for row in rows)
    title = "Front" if reader.is_settled() else f"No front yet: {html.escape(UNMEASURED)}"
    return f'<h2>{title}</h2>\n<div class="wide"><table>\n<tr>{head}</tr>\n{body}</table></div>'


def _cells(values: Sequence[str | None]) -> str:
    """Return cells of a table, numbers with five digits."""
    cells = []
    for value in values:
        text = "" if value is None else value
        if "." in text:
            with contextlib.suppress(ValueError):
                text = f"{float(text):.5g}"
        cells.append(f"<td>{html.escape(text)}</td>")
    return "".join(cells)


def _figure(kind: str, content: bytes) -> str:
    """Return a figure that is part of the page; as a picture, its identifiers are its own."""
    data, about = base64.b64encode(content).decode(), html.escape(KINDS[kind].about)
    return (
        f'<figure id="{kind}"><img alt="{about}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{about}</figcaption></figure>"
    )


def _pre(text: str) -> str:
    """Return text as it is."""
    return f"<pre>{html.escape(text)}</pre>"
