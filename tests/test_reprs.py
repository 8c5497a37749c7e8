"""What objects say of themselves in a line, and what of it DEAP's own classes leave alone."""

from deap import tools

import nets_deap as nets


def test_lines_tell_what_is_held(xor_task, tmp_path):
    found = nets.search(
        xor_task, population=6, generations=2, path=tmp_path / "run", progress="none"
    )
    low, high = (f(t.density for t in found.front) for f in (min, max))
    line = repr(found.front)
    assert line.startswith(f"ParetoFront({len(found.front)} member")
    assert line.endswith(f"density {low:.4g} to {high:.4g})")
    assert str(found.front) == str(found.front.items), "DEAP's own, for drop-in use"
    steps = found.logbook[-1]["network_steps"]
    assert repr(found) == (
        f"SearchResult({line.removeprefix('ParetoFront(').removesuffix(')')}; generation 2, "
        f"{steps} steps x networks, path={str(tmp_path / 'run')!r}, stopped=None)"
    )
    assert (
        repr(xor_task)
        == f"Task('{xor_task.name}', 12 bits over 12 maskable weights, 30 steps, cpu)"
    )


def test_empty_and_foreign_fronts_have_lines_too(xor_task):
    assert repr(nets.ParetoFront()) == "ParetoFront(0 members)"
    archive = nets.NicheArchive()
    assert repr(archive) == "NicheArchive(0 members)"
    ticket = xor_task.dense_ticket()
    ticket.fitness = nets.make_toolbox(xor_task).individual().fitness
    ticket.fitness.values = (0.25, 1.0)
    archive.update([ticket])
    assert repr(archive) == "NicheArchive(1 member, val_loss 0.25 to 0.25, density 1 to 1)"
    assert isinstance(archive, tools.HallOfFame)
