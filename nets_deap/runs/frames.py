"""pandas DataFrames of logs and fronts: of run folders, or of live objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nets_deap import _checks, _optional
from nets_deap.errors import FileAccessError
from nets_deap.runs.picks import members_of
from nets_deap.runs.storage.reader import RunReader
from nets_deap.runs.storage.rows import front_rows, named_values
from nets_deap.tickets.ticket import Ticket


@_checks.signed
def log(run: Any) -> Any:
    """Return a log as a DataFrame, a row a generation.

    Args:
        run: A run folder, finished or not; a recorder or a search's result; or any DEAP
            ``tools.Logbook``. Chapters, as ``tools.MultiStatistics`` makes them, become columns
            ``CHAPTER_FIELD``.

    Returns:
        A ``pandas.DataFrame`` indexed by ``generation`` where that is known.

    Raises:
        MissingExtraError: The extra ``pandas`` is not installed.
        FileAccessError: The folder has no log, or a damaged one.
        InvalidTypeError: ``run`` is none of these.
    """
    pandas = _optional.require("pandas", "pandas", "A DataFrame")
    if isinstance(run, (str, Path)):
        rows = RunReader(run).log()
    else:
        logbook = getattr(run, "logbook", run)
        if not hasattr(logbook, "chapters"):
            raise _checks.bad_type("run", "have a log", "a run folder or a logbook", run)
        rows = _flat(logbook)
    frame = pandas.DataFrame(rows).rename(columns={"gen": "generation"})
    return frame.set_index("generation") if "generation" in frame else frame


@_checks.signed
def front(run: Any) -> Any:
    """Return a front as a DataFrame, a row a member, densest first.

    Args:
        run: A run folder, finished or not; a recorder or a search's result; or individuals with
            a fitness, such as a ``tools.ParetoFront``.

    Returns:
        A ``pandas.DataFrame``: of tickets digest, kept weights, density and objectives, and from
        the folder of a finished run what the final training measured; of other individuals their
        objectives. Of a run that has no front yet the elites of its niches, with a warning.

    Raises:
        MissingExtraError: The extra ``pandas`` is not installed.
        FileAccessError: The folder has no front, or a damaged one.
    """
    pandas = _optional.require("pandas", "pandas", "A DataFrame")
    if isinstance(run, (str, Path)):
        import io

        reader = RunReader(run)
        reader.warn_unsettled()
        text = reader.text(reader.kept)
        try:  # a digest may be of digits only
            return pandas.read_csv(io.StringIO(text), dtype={"ticket": str})
        except ValueError as error:  # pandas' own are
            raise FileAccessError(
                f"{reader.path / reader.kept} must be a table, as a run writes it: {error}."
            ) from error
    members = members_of(run, "run")
    if all(isinstance(member, Ticket) for member in members):
        return pandas.DataFrame(front_rows(members))
    return pandas.DataFrame([named_values(member) for member in members])


def _flat(logbook: Any) -> list[dict[str, Any]]:
    """Return the rows of a logbook with those of its chapters beside."""
    rows: list[dict[str, Any]] = [dict(row) for row in logbook]
    for name, chapter in logbook.chapters.items():
        inner: list[Mapping[str, Any]] = _flat(chapter)  # type: ignore[assignment]
        rows += [{} for _ in range(len(inner) - len(rows))]
        for row, more in zip(rows, inner, strict=True):
            # DEAP repeats the fields of the log itself in every chapter.
            row |= {f"{name}_{field}": v for field, v in more.items() if field not in row}
    return rows
