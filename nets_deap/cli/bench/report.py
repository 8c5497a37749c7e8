"""``training_report``: the benchmark of training as lines to print and as data for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from nets_deap.cli.bench import growth
from nets_deap.cli.bench.hardware import describe, measure_limits
from nets_deap.cli.bench.training import DENSITIES, USUAL, Row, check, make_task, measure, ours
from nets_deap.training.device import pick_device

WIDTHS = (0.5, 1.0, 2.0)
GREATEST_SPREAD = 2.0
GROWTH_POPULATION = 16
GROWTH_DENSITY = 0.05
HEAD = (
    f"{'net':>5} {'P':>5} {'density':>7}  {'one':>8} {'vmap':>8} {'ours':>9}  {'vmap':>6} "
    f"{'ours':>6}  {'Mflop':>7} {'MB':>6} {'bound':>6} {'peak':>8}  engine"
)
UNITS = (
    f"{'':>5} {'':>5} {'':>7}  {'network-steps a second':^27}  {'times one':^13}  "
    f"{'a network-step':^14} {'share':>6} {'memory':>8}"
)


def training_report(
    say: Callable[[str], None],
    *,
    nets: Sequence[str] = USUAL,
    populations: Sequence[int] | None = None,
    densities: Sequence[float] = DENSITIES,
    repeats: int = 5,
    seconds: float = 0.5,
    device: str = "auto",
    **options: Any,
) -> dict[str, Any]:
    """Measure training, say the table line by line, and return everything as plain data.

    Args:
        say: Takes each line as soon as it is known.
        nets: As for ``cli.bench.training.measure``, and so are the others.
        populations: Numbers of networks P.
        densities: Densities of random masks.
        repeats: Interleaved repeats.
        seconds: About how long each measurement takes.
        device: As for ``nets.Task``.
        **options: Passed to ``nets.Task``, such as ``engine``.
    """
    check(nets, populations, densities, repeats, seconds, options.get("engine", "auto"))
    place = pick_device(device)
    facts, limits = describe(place), measure_limits(place)
    inside = "" if limits.cache is None else f", in cache {limits.cache / 1e9:.0f} GB/s"
    say(
        f"{facts.get('gpu', facts['processor'])}, {facts['threads']} threads, torch "
        f"{facts['torch']}: matrix product {limits.flops / 1e9:,.0f} GFLOP/s, copy "
        f"{limits.memory / 1e9:.1f} GB/s{inside}"
    )
    for line in (UNITS, HEAD):
        say(line)
    rows = []
    for row in measure(
        nets=nets, populations=populations, densities=densities, repeats=repeats,
        seconds=seconds, device=device, limits=limits, **options,
    ):  # fmt: skip
        rows.append(row)
        say(line_of(row))
    say(
        "one: one network at a time, lean torch loop; vmap: plain torch.func.vmap; share: of the "
        "rate that the counted operations and bytes allow at these limits"
    )
    restless = sum(row.spread > GREATEST_SPREAD for row in rows)
    if restless:
        say(
            f"WARNING: in {restless} of {len(rows)} rows the repeats differ by more than a factor "
            f"of {GREATEST_SPREAD:g}: other programs use this machine, and no number here is good"
        )
    slopes = growth_of(rows, seconds=seconds, device=device, **options)
    said = ", ".join(f"{name} to the {slope:.2f}" for name, slope in slopes.items())
    if said:
        say(f"the cost of a network-step of ours grows with {said}")
    return {
        "machine": facts,
        "limits": asdict(limits),
        "rows": [asdict(row) for row in rows],
        "growth": slopes,
    }


def line_of(row: Row) -> str:
    """Return a row of the table as text."""
    peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f} GB"
    return (
        f"{row.net:>5} {row.population:>5} {100 * row.density:>5g} %  {row.one:>8,.0f} "
        f"{row.vmap:>8,.0f} {row.ours:>9,.0f}  {row.vmap_ratio:>6.2f} {row.ours_ratio:>6.2f}  "
        f"{row.flops / 1e6:>7.2f} {row.bytes / 1e6:>6.2f} {100 * row.bound_share:>4.0f} % "
        f"{peak:>8}  {row.engine}"
    )


def growth_of(
    rows: Sequence[Row], *, seconds: float, device: str, **options: Any
) -> dict[str, float]:
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
        task = make_task("lenet", device, width=width, **options)
        clock = ours(task, growth.random_masks(task, GROWTH_POPULATION, GROWTH_DENSITY))
        steps = growth.enough_steps(clock, seconds)
        by_size[task.layout.size] = 1 / growth.rate(clock, steps)
    slopes = {
        f"P (at {100 * least:g} %)": growth.exponent(by_p),
        f"density (at P = {most})": growth.exponent(by_density),
        "D (at 5 %, P = 16)": growth.exponent(by_size),
    }
    return {name: slope for name, slope in slopes.items() if slope == slope}
