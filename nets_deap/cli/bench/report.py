"""``training_report``: the benchmark of training, printed as it goes on, and as data for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from nets_deap._table import line
from nets_deap.cli.bench import growth
from nets_deap.cli.bench.hardware import describe, measure_limits
from nets_deap.cli.bench.training import Asked, Row, make_task, measure, ours
from nets_deap.training.device import pick_device

WIDTHS = (0.5, 1.0, 2.0)
GREATEST_SPREAD = 2.0
GROWTH_POPULATION = 16
GROWTH_DENSITY = 0.05
# A row takes a while, so its columns have the widths that all of them are known to need.
COLUMNS: tuple[tuple[str, int, Callable[[Row], str]], ...] = (
    ("net", 8, lambda row: row.net),
    ("P", 5, lambda row: str(row.population)),
    ("density", 7, lambda row: f"{100 * row.density:g} %"),
    ("one", 8, lambda row: f"{row.one:,.0f}"),
    ("vmap", 8, lambda row: f"{row.vmap:,.0f}"),
    ("ours", 9, lambda row: f"{row.ours:,.0f}"),
    ("vmap", 6, lambda row: f"{row.vmap_ratio:.2f}"),
    ("ours", 6, lambda row: f"{row.ours_ratio:.2f}"),
    ("Mflop", 8, lambda row: f"{row.flops / 1e6:.2f}"),
    ("MB", 6, lambda row: f"{row.bytes / 1e6:.2f}"),
    ("bound", 6, lambda row: f"{100 * row.bound_share:.0f} %"),
    ("peak", 8, lambda row: "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f} GB"),
    ("engine", 8, lambda row: row.engine),
)
# What columns beside each other share: how wide they are together, with the gaps between.
UNITS = (
    f"{'':24}  {'network-steps a second':^29}  {'times one':^14}  {'a network-step':^16}  "
    f"{'share':>6}  {'memory':>8}"
)


def training_report(asked: Asked) -> dict[str, Any]:
    """Measure training, print each line as soon as it is known, and return all as plain data."""
    place = pick_device(asked.device)
    facts, limits = describe(place), measure_limits(place, asked.precision)
    inside = "" if limits.cache is None else f", in cache {limits.cache / 1e9:.0f} GB/s"
    print(
        f"{facts.get('gpu', facts['processor'])}, {facts['threads']} threads, torch "
        f"{facts['torch']}: matrix product {limits.flops / 1e9:,.0f} GFLOP/s, copy "
        f"{limits.memory / 1e9:.1f} GB/s{inside}"
    )
    print(UNITS)
    _print_line([head for head, _, _ in COLUMNS])
    rows = []
    for row in measure(asked, limits):
        rows.append(row)
        _print_line([cell(row) for _, _, cell in COLUMNS])
    print(
        "one: one network at a time, lean torch loop; vmap: plain torch.func.vmap; share: of the "
        "rate that the counted operations and bytes allow at these limits"
    )
    restless = sum(row.spread > GREATEST_SPREAD for row in rows)
    if restless:
        print(
            f"WARNING: in {restless} of {len(rows)} rows the repeats differ by more than a factor "
            f"of {GREATEST_SPREAD:g}: other programs use this machine, and no number here is good"
        )
    exponents = growth_of(rows, asked)
    listed = ", ".join(f"{name} to the {n:.2f}" for name, n in exponents.items())
    if listed:
        print(f"the cost of a network-step of ours grows with {listed}")
    return {
        "machine": facts,
        "precision": asked.precision,
        "limits": asdict(limits),
        "rows": [asdict(row) for row in rows],
        "growth": exponents,
    }


def _print_line(cells: Sequence[str]) -> None:
    """Print a line of the table: names on the left, numbers on the right."""
    widths = [width for _, width, _ in COLUMNS]
    print(line(cells, widths, left=(0, len(COLUMNS) - 1)), flush=True)


def growth_of(rows: Sequence[Row], asked: Asked) -> dict[str, float]:
    """Return the exponents with which the cost of a network-step of LeNet grows.

    With P at the least density measured and with density at the greatest P, from the table's rows;
    with D, at 5 % density and P = 16, measured here on networks of half and double the width.
    """
    own = [row for row in rows if row.net == "lenet"]
    if not own:
        return {}
    most, least = max(row.population for row in own), min(row.density for row in own)
    by_p = {float(row.population): 1 / row.ours for row in own if row.density == least}
    by_density = {row.density: 1 / row.ours for row in own if row.population == most}
    by_size: dict[float, float] = {}
    for width in WIDTHS:
        how = {"engine": asked.engine, "precision": asked.precision}
        task = make_task("lenet", asked.device, width=width, **how)
        clock = ours(task, growth.random_masks(task, GROWTH_POPULATION, GROWTH_DENSITY))
        steps = growth.enough_steps(clock, asked.seconds)
        by_size[task.layout.size] = 1 / growth.rate(clock, steps)
    slopes = {
        f"P (at {100 * least:g} %)": growth.exponent(by_p),
        f"density (at P = {most})": growth.exponent(by_density),
        "D (at 5 %, P = 16)": growth.exponent(by_size),
    }
    return {name: slope for name, slope in slopes.items() if slope == slope}
