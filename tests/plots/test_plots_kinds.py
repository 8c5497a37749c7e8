"""Each kind of figure holds the data that it should, from a run folder and from live objects."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt

import nets_deap as nets
from nets_deap import plots
from nets_deap.errors import FileAccessError, InvalidValueError
from nets_deap.evolution.fronts import costs_of
from nets_deap.experiments.final import train_front
from nets_deap.plots import style
from nets_deap.plots.genealogy import ancestors
from nets_deap.plots.legend import legend
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.history import Member
from nets_deap.runs.storage.rows import front_rows
from nets_deap.tickets import bits
from nets_deap.tickets.fitness import fitness_class


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plots") / "run"


@pytest.fixture(scope="module")
def result(xor_task, folder):
    options = {"population": 8, "generations": 3, "cxpb": 0.4, "mutpb": 0.6, "progress": "none"}
    return nets.search(xor_task, path=folder, seed=3, inherit="none", **options)


@pytest.fixture(scope="module")
def final(xor_task, result, folder):
    found = train_front(xor_task, list(result.front), steps=40, members=3)
    held = RunFolder.existing(folder)
    held.write_json("curves.json", found.curves())
    rows = front_rows(result.front)
    for row in rows:
        for one in found.rows:
            if row["ticket"] == one.ticket.digest[:16]:
                row |= {
                    "final_steps": 40,
                    "test_accuracy": one.trained.test_accuracy,
                    "random_test_accuracy": one.random.test_accuracy,
                    "dense_test_accuracy": found.dense.test_accuracy,
                }
    held.write_front(rows)
    return found


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


NOT_OF_THIS_RUN = {"comparison", "attainment", "inputs", "filters", "accuracy-adds"}
both = pytest.mark.parametrize("where", ["folder", "live"])


@pytest.fixture
def run(where, result, folder):
    return folder if where == "folder" else result


def points_of(members):
    return sorted((m.fitness.values[1], m.fitness.values[0]) for m in members)


def line(ax, name):
    return next(one for one in ax.lines if one.get_label() == name)


@pytest.mark.parametrize("name", plots.KINDS)
def test_every_kind_draws_on_the_axes_it_gets_or_says_what_is_missing(name, folder, final, ax):
    known = plots.KINDS[name]
    assert known.name == name
    assert known.about.endswith(".")
    if name in NOT_OF_THIS_RUN:
        with pytest.raises(InvalidValueError, match=r"must .*: expected"):
            known.draw(folder, ax)
    else:
        assert known.draw(folder, ax) is ax
        assert ax.has_data()


def beneath_the_legend(ax):
    """Return the darkness of what is drawn where the legend lies, without a grid."""
    figure, legend = ax.figure, ax.get_legend()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # without its legend, the axes would grow
    box = legend.get_window_extent()
    legend.set_visible(False)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    figure.canvas.draw()
    shades = np.asarray(figure.canvas.buffer_rgba())[::-1, :, :3].min(2)
    return 255 - shades[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]


@pytest.mark.parametrize("name", sorted({*plots.KINDS} - NOT_OF_THIS_RUN))
def test_nothing_is_cut_off_and_no_legend_lies_on_what_is_drawn(name, folder, final, ax):
    figure = ax.figure  # of plain plt.subplots()
    plots.KINDS[name].draw(folder, ax)
    figure.draw_without_rendering()
    box, whole = figure.get_tightbbox().padded(-0.03), figure.bbox_inches
    assert whole.x0 <= box.x0
    assert whole.y0 <= box.y0
    assert box.x1 <= whole.x1
    assert box.y1 <= whole.y1
    if ax.get_legend() is not None:
        assert beneath_the_legend(ax).max() == 0


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_legend_without_a_free_corner_stands_above(scale, ax):
    x = np.linspace(0, 1, 50)
    for height in (1, 2, 4, 8):
        ax.plot(x, np.full(50, height), label=f"line {height}", drawstyle="steps-post")
    ax.set_yscale(scale)
    legend(ax)
    assert ax.get_ylim()[1] > 8.5
    assert beneath_the_legend(ax).max() == 0


def test_a_figure_that_somebody_arranged_stays_so():
    for layout in ("tight", None):
        figure, ax = plt.subplots(layout=layout)
        before = figure.get_layout_engine()
        if before is None:
            figure.subplots_adjust(left=0.3)
        style.axes_or_new(ax)
        assert figure.get_layout_engine() is before
        plt.close(figure)


@both
def test_the_front_has_its_population_its_knee_and_the_dense_network(run, result, ax):
    assert plots.pareto_front(run, ax) is ax
    assert np.array(line(ax, "front").get_data()).T.tolist() == [
        *map(list, points_of(result.front))
    ]
    knee = nets.knee(result.front)
    assert np.array(line(ax, "knee").get_data()).T.tolist() == [list(points_of([knee])[0])]
    everyone = {m.digest: m for g in result.history for m in (*g.population, *g.front)}
    behind = [
        m for name, m in everyone.items() if name not in {t.digest[:16] for t in result.front}
    ]
    drawn = ax.collections[0].get_offsets().tolist()
    assert sorted(map(tuple, drawn)) == points_of(behind)
    (dense,) = (m for m in everyone.values() if m.density == 1)
    assert set(line(ax, "dense").get_ydata()) == {dense.fitness.values[0]}
    assert ax.get_xscale() == "log"


@both
def test_fronts_of_first_and_last_generation_are_drawn(run, result, ax):
    plots.fronts_over_generations(run, ax, most=2)
    for name, generation in (("0", result.history[0]), ("3", result.history[-1])):
        drawn = np.array(line(ax, name).get_data()).T
        assert [*map(tuple, drawn)] == points_of(generation.front)
    assert [one.get_label() for one in ax.lines] == ["0", "3", "dense"]
    first, last = ax.lines[:2]
    assert last.get_linewidth() > first.get_linewidth()


def test_attained_points_are_attained_by_the_share_of_runs(ax):
    fronts = [front((0.1, 3.0 - i), (0.2, 2.0 - i)) for i in range(3)]
    plots.attainment(fronts, ax, levels=(1, 50, 100))
    best, middle, worst = ax.lines
    assert np.array(best.get_data()).T.tolist() == [[0.1, 1.0], [0.2, 0.0]]
    assert np.array(middle.get_data()).T.tolist() == [[0.1, 2.0], [0.2, 1.0]]
    assert np.array(worst.get_data()).T.tolist() == [[0.1, 3.0], [0.2, 2.0]]
    edge = ax.collections[0].get_paths()[0].vertices
    assert edge[:, 1].min() == 0.0
    assert edge[:, 1].max() == 3.0


def test_attainment_of_folders_is_that_of_their_results(result, folder, ax):
    plots.attainment([folder, result], ax)
    for one in ax.lines[:3]:  # all runs are the same one
        assert [*map(tuple, np.array(one.get_data()).T)] == points_of(result.front)
    assert line(ax, "dense")


def test_larger_is_better_turns_steps_and_attainment(ax):
    runs = [front((0.1, 0.5 + i / 10), (0.2, 0.7 + i / 10), good="max") for i in range(3)]
    plots.attainment(runs, ax, levels=(1, 100))
    best, worst = (np.array(one.get_data()).T for one in ax.lines)
    assert best == pytest.approx(np.array([[0.1, 0.7], [0.2, 0.9]]))
    assert worst == pytest.approx(np.array([[0.1, 0.5], [0.2, 0.7]]))


def front(*points, good="min"):
    from nets_deap.runs.storage.history import Member
    from nets_deap.tickets.fitness import fitness_class

    kind = fitness_class(("loss", "density"), (-1.0 if good == "min" else 1.0, -1.0))
    return [Member(str(x), x, kind((y, x))) for x, y in points]


@both
def test_hypervolume_is_that_of_the_log(run, result, ax):
    plots.hypervolume(run, ax)
    assert list(ax.lines[0].get_xdata()) == [row["dense_steps"] for row in result.logbook]
    assert list(ax.lines[0].get_ydata()) == [row["hypervolume"] for row in result.logbook]


@pytest.mark.parametrize(
    ("cost", "column"),
    [("steps", "network_steps"), ("dense steps", "dense_steps"), ("seconds", "seconds")],
)
def test_hypervolume_is_drawn_over_any_cost(cost, column, result, ax):
    plots.hypervolume(result, ax, cost=cost)
    assert list(ax.lines[0].get_xdata()) == [row[column] for row in result.logbook]
    assert ax.get_xlabel().endswith({"steps": "steps x networks"}.get(cost, cost))


def test_hypervolume_of_a_run_that_counted_no_dense_steps(ax):
    rows = [{"network_steps": 5, "hypervolume": 1.0}, {"network_steps": 9, "hypervolume": 2.0}]
    plots.hypervolume(rows, ax)
    assert list(ax.lines[0].get_xdata()) == [5, 9]
    with pytest.raises(ValueError, match=r"cost must be known of every run: .* cost='steps'"):
        plots.hypervolume(rows, ax, cost="dense steps")
    with pytest.raises(ValueError, match=r"Did you mean 'dense steps'\?"):
        plots.hypervolume(rows, ax, cost="FLOPs")


def test_several_runs_have_names(result, folder, ax):
    plots.hypervolume({"a $b": folder, "c": result.logbook}, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [r"a \$b", "c"]


@both
def test_layers_along_the_front(run, result, ax):
    plots.layer_densities(run, ax)
    members = sorted(result.front, key=lambda ticket: ticket.density)
    for name in ("layers.0", "layers.1"):
        drawn = line(ax, name)
        assert list(drawn.get_xdata()) == [ticket.density for ticket in members]
        expected = [ticket.layer_densities[f"{name}.weight"] for ticket in members]
        assert sorted(drawn.get_ydata()) == pytest.approx(sorted(expected))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


@both
def test_layers_over_time(run, result, ax):
    plots.layer_densities_over_time(run, ax)
    whole, first = line(ax, "whole").get_ydata(), line(ax, "layers.0").get_ydata()
    last = [ticket.density for ticket in result.front]
    assert whole[-1] == pytest.approx(np.median(last))
    assert first[-1] == pytest.approx(
        np.median([ticket.layer_densities["layers.0.weight"] for ticket in result.front])
    )
    assert list(line(ax, "whole").get_xdata()) == [0, 1, 2, 3]


def picture(ax):
    return ax.images[0].get_array()


@both
def test_overlap_is_that_of_each_two(run, result, ax):
    plots.overlap(run, ax)
    tickets = sorted(result.front, key=lambda ticket: (-ticket.kept, ticket.digest))
    expected = [[bits.overlap(a.packed, b.packed) for b in tickets] for a in tickets]
    assert picture(ax).tolist() == expected
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels[0] == f"{100 * tickets[0].density:.3g}"


def test_only_some_members_of_a_large_front_are_compared(result, ax):
    plots.overlap(result, ax, most=2)
    assert picture(ax).shape == (2, 2)


@both
def test_genealogy_leads_back_to_the_first_population(run, result, ax):
    first = {}
    for one in result.history:
        for member in (*one.population, *one.front):
            first.setdefault(member.digest, (one.number, member))
    ticket = next(m for m in result.history[-1].front if m.parents)
    plots.genealogy(run, ax, ticket=ticket.digest)
    names = ancestors(ticket.digest, first)
    assert any(first[name][0] == 0 for name in names)
    places = {(first[n][0], first[n][1].density) for n in names}
    assert tuple(point[0] for point in line(ax, "ticket").get_data()) in places
    drawn = {
        tuple(p) for c in ax.collections if c.get_label() == "ancestor" for p in c.get_offsets()
    }
    assert drawn == places - {(first[ticket.digest][0], ticket.density)}
    edges = {
        ((first[p][0], first[n][0]), (first[p][1].density, first[n][1].density))
        for n in names
        for p in first[n][1].parents
    }
    lines = [tuple(map(tuple, one.get_data())) for one in ax.lines if one.get_label() != "ticket"]
    assert set(lines) == edges


def test_a_ticket_of_another_run_has_no_genealogy(result, ax):
    with pytest.raises(InvalidValueError, match="ticket must have lived in the run"):
        plots.genealogy(result, ax, ticket="0" * 16)


@both
def test_learning_curves(where, folder, final, ax):
    plots.learning_curves(folder if where == "folder" else final, ax)
    rows = sorted(final.rows, key=lambda row: -row.ticket.density)
    for drawn, row in zip(ax.lines, rows, strict=False):
        assert [*zip(*drawn.get_data(), strict=True)] == list(row.trained.curve)
        assert row.trained.curve[-1] == (40, row.trained.val_loss)
    dense = line(ax, "dense")
    assert [*zip(*dense.get_data(), strict=True)] == list(final.dense.curve)


def test_learning_curves_of_results(xor_task, ax):
    results = xor_task.train_all([xor_task.dense_ticket()], steps=10, points=5)
    plots.learning_curves(results, ax, dense=results[0])
    assert list(ax.lines[0].get_xdata()) == [2, 4, 6, 8, 10]
    plain = xor_task.train_all([xor_task.dense_ticket()], steps=10)
    assert plain[0].val_loss == results[0].val_loss, "measuring meanwhile changes nothing"
    with pytest.raises(InvalidValueError, match="trained must hold learning curves"):
        plots.learning_curves(plain)


@both
def test_accuracy_after_the_final_training(where, folder, final, ax):
    plots.final_accuracy(folder if where == "folder" else final, ax)
    tickets = line(ax, "tickets")
    assert list(tickets.get_xdata()) == [row.ticket.density for row in final.rows]
    expected = [100 * row.trained.test_accuracy for row in final.rows]
    assert tickets.get_ydata() == pytest.approx(expected, nan_ok=True)
    assert "40 steps" in ax.get_ylabel()


# ---- pictures


@pytest.fixture(scope="module")
def ticket():
    model = nets.models.lenet_300_100()
    layout = nets.MaskLayout.of(model)
    mask = np.random.default_rng(0).random(layout.size) < 0.1
    return nets.Ticket(mask, layout=layout)


def test_kept_inputs_are_counted_for_each_pixel(ticket, ax, tmp_path):
    matrix = ticket.layout.split(ticket.mask)["layers.0.weight"]
    plots.kept_inputs(ticket, ax)
    assert picture(ax).shape == (28, 28)
    assert picture(ax).tolist() == matrix.sum(axis=0).reshape(28, 28).tolist()
    other = plt.subplots()[1]
    plots.kept_inputs(ticket.save(tmp_path / "t.safetensors"), other, image=(4, 14, 14))
    assert picture(other).tolist() == matrix.sum(axis=0).reshape(4, 14, 14).sum(axis=0).tolist()
    plt.close(other.figure)
    with pytest.raises(InvalidValueError, match=r"image must hold the inputs: .*784"):
        plots.kept_inputs(ticket, image=(28, 27))


def test_a_mask_is_drawn_bit_by_bit_or_in_blocks(ticket, ax):
    layers = ticket.layout.split(ticket.mask)
    plots.mask_matrix(ticket, ax, layer="layers.2.weight")
    assert picture(ax).tolist() == layers["layers.2.weight"].astype(float).tolist()
    other = plt.subplots()[1]
    plots.mask_matrix(ticket, other)
    first = layers["layers.0.weight"]
    assert np.asarray(picture(other)) == pytest.approx(
        first.reshape(150, 2, 196, 4).mean(axis=(1, 3))
    )
    plt.close(other.figure)


def test_filters_show_the_share_of_their_channels(ax):
    layout = nets.MaskLayout.of(nets.models.lenet5())
    mask = np.random.default_rng(1).random(layout.size) < 0.3
    ticket = nets.Ticket(mask, layout=layout)
    convolution = layout.split(mask)["3.weight"]
    plots.filters(ticket, ax, layer="3.weight", most=5)
    sheet = np.ma.filled(picture(ax), np.nan)
    assert sheet.shape == (11, 17)  # 2 x 3 filters of 5 x 5, a line between
    assert sheet[:5, 6:11] == pytest.approx(convolution[1].mean(axis=0))
    assert sheet[6:, :5] == pytest.approx(convolution[3].mean(axis=0))
    assert np.isnan(sheet[5]).all()
    with pytest.raises(InvalidValueError, match="layer must be convolutional"):
        plots.filters(ticket, layer=layout.names[-1])
    plt.close("all")


def test_wiring_draws_each_kept_weight_between_its_units_by_sign_and_size(ax):
    from matplotlib.colors import to_hex

    model = nets.models.xor_mlp(3)
    layout = nets.MaskLayout.of(model)
    mask = np.zeros(9, dtype=bool)
    mask[[0, 1, 6, 4]] = True  # both inputs of the first neuron, its output, and a dead end
    plots.wiring(nets.Ticket(mask, layout=layout), ax)
    pruned, kept = ax.collections[0], ax.collections[1]
    assert [len(lines.get_segments()) for lines in (pruned, kept)] == [3, 3]
    first, last = 1 / 6, 5 / 6  # of three neurons; inputs are at 1/4 and 3/4
    assert [s.tolist() for s in kept.get_segments()] == [
        [[0, 0.25], [1, first]], [[0, 0.75], [1, first]], [[0, 0.25], [1, last]],
    ]  # fmt: skip
    values = layout.initial[[0, 1, 4]]
    shades = [to_hex(shade).upper() == plots.style.BLUE for shade in kept.get_colors()]
    assert shades == (values > 0).tolist()
    widths = np.array(kept.get_linewidths())
    assert np.argsort(widths).tolist() == np.argsort(np.abs(values)).tolist()
    units = [points.get_facecolors() for points in ax.collections[4:]]
    filled = [[to_hex(face) == "#000000" for face in faces] for faces in units]
    assert filled == [[True, True], [True, False, False], [True]]
    assert ax.get_title() == "4 of 9 weights, 44.4 %"
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["2 inputs", "3 neurons", "1 output"]


def test_wiring_without_initial_weights_is_black_and_of_large_networks_refused(ax, ticket):
    layout = nets.MaskLayout([("a.weight", (2, 2))])
    plots.wiring(nets.Ticket([1, 0, 0, 1], layout=layout), ax)
    assert ax.collections[1].get_colors().tolist() == [[0, 0, 0, 1]]
    with pytest.raises(
        InvalidValueError, match=r"ticket must be of a small network: .*mask_matrix"
    ):
        plots.wiring(ticket, ax)


def test_wiring_of_a_large_sparse_network_draws_what_is_alive(ax):
    layout = nets.MaskLayout.of(nets.models.lenet_300_100(seed=0))
    first, second, last = (layer.start for layer in layout.layers)
    mask = np.zeros(layout.size, dtype=bool)
    # Pixel 5 leads to a dead end, pixel 9 through one neuron of each layer to the first output.
    mask[[first + 5, first + 784 + 9, second + 1, last]] = True
    plots.wiring(nets.Ticket(mask, layout=layout), ax)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["1 live input", "1 live neuron", "1 live neuron", "10 live outputs"]
    lines = [len(ax.collections[i].get_segments()) for i in range(6)]
    assert lines == [0, 1, 0, 1, 0, 1], "no pruned weights, and no dead ends"
    assert ax.get_title() == "4 of 266,200 weights, 0.0015 %"


# ---- what cannot be drawn


def test_an_empty_folder_and_a_run_without_history_say_so(tmp_path, ax):
    for draw in (plots.fronts_over_generations, plots.genealogy, plots.layer_densities_over_time):
        with pytest.raises(InvalidValueError, match=r"run must hold its history: .*history\.jsonl"):
            draw(tmp_path, ax)
    with pytest.raises(InvalidValueError, match="run must be a run folder"):
        plots.pareto_front(tmp_path / "none", ax)
    with pytest.raises(InvalidValueError, match="front must hold tickets"):
        plots.overlap(tmp_path, ax)
    with pytest.raises(InvalidValueError, match=r"run must hold log\.jsonl"):
        plots.hypervolume(tmp_path, ax)
    (tmp_path / "log.jsonl").write_text('{"generation": 0}\n')
    with pytest.raises(FileAccessError, match=r"log\.jsonl does not hold what a run writes"):
        plots.hypervolume(tmp_path, ax)
    (tmp_path / "curves.json").write_text('{"steps": [1], "tickets": 3}')
    with pytest.raises(FileAccessError, match=r"curves\.json does not hold"):
        plots.learning_curves(tmp_path, ax)


def test_a_run_of_an_earlier_version_shows_its_tickets(result, folder, tmp_path, ax):
    import shutil

    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "history.jsonl").unlink()
    plots.pareto_front(tmp_path / "old", ax)
    drawn = np.array(line(ax, "front").get_data()).T
    distinct = {t.digest: t for t in result.front}.values()
    assert [*map(tuple, drawn)] == points_of(distinct)
    plots.layer_densities(tmp_path / "old", ax)
    assert costs_of(result.front).shape[1] == 2


@pytest.mark.parametrize(("size", "inches"), [("paper", (3.4, 2.6)), ("notebook", (6.4, 4.2))])
def test_sizes(result, size, inches):
    before = mpl.rcParams["font.size"]
    with plots.sized(size):
        ax = plots.pareto_front(result)
    assert tuple(ax.figure.get_size_inches()) == inches
    assert mpl.rcParams["font.size"] == before
    plt.close(ax.figure)
    with (
        pytest.raises(InvalidValueError, match="Did you mean 'paper'"),
        plots.sized("papers"),
    ):
        pass


# ---- what can be read


def test_early_fronts_are_seen_where_they_are_parts_of_the_last_one(xor_task, ax):
    options = {"population": 4, "generations": 4, "inherit": "weights", "progress": "none"}
    found = nets.search(xor_task, seed=0, **options)
    plots.fronts_over_generations(found, ax)
    order = [one.get_zorder() for one in ax.lines if one.get_label().isdigit()]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == len(order)


def test_steps_are_drawn_only_where_they_are_attained(ax):
    weights = (-1.0, -1.0)
    kind = fitness_class(("val_loss", "density"), weights)

    def style_of(values):
        members = [Member(str(i), v[1], kind(v), (), ()) for i, v in enumerate(values)]
        plots.pareto_front(members, ax)
        return line(ax, "front").get_drawstyle()

    assert style_of([(0.3, 0.1), (0.2, 0.5), (0.1, 0.9)]) == "steps-post"
    ax.clear()
    assert style_of([(0.3, 0.1), (0.1, 0.5), (0.2, 0.9)]) == "default"


@pytest.mark.parametrize("size", ["notebook", "paper"])
def test_long_names_of_layers_stay_within_the_figure(size):
    name = "an_encoder_with_a_very_long_name.blocks_of_attention.and_of_feed_forward.weight"
    layout = nets.MaskLayout([(name, (9, 16)), (f"other_{name}", (3, 9))])
    ticket = nets.Ticket(np.arange(layout.size) % 3 > 0, layout)
    with plots.sized(size):
        for draw in (plots.mask_matrix, plots.kept_inputs, plots.layer_densities):
            figure, axes = plt.subplots(layout="constrained")
            draw([ticket] if draw is plots.layer_densities else ticket, axes)
            figure.canvas.draw()
            legend = axes.get_legend()
            texts = [axes.title, *([] if legend is None else legend.get_texts())]
            for text in texts:
                box = text.get_window_extent()
                assert box.x0 >= 0
                assert box.x1 <= figure.bbox.width
            assert "…" in texts[-2 if legend else 0].get_text()
            plt.close(figure)


def test_ticks_of_large_costs_do_not_meet():
    rows = [{"network_steps": 70_000 * i, "hypervolume": i} for i in range(11)]
    with plots.sized("paper"):
        figure, axes = plt.subplots(layout="constrained")
        plots.hypervolume(rows, axes)
        figure.canvas.draw()
    boxes = [tick.label1.get_window_extent() for tick in axes.xaxis.get_major_ticks()]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    plt.close(figure)


def test_a_deep_network_has_numbers_below_its_columns(ax):
    sizes = [4, *[6] * 9, 2]
    pairs = itertools.pairwise(sizes)
    layout = nets.MaskLayout([(f"{i}.weight", (b, a)) for i, (a, b) in enumerate(pairs)])
    plots.wiring(nets.Ticket(np.ones(layout.size, dtype=bool), layout), ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == [str(n) for n in sizes]
    assert "inputs to outputs" in ax.get_xlabel()


def test_only_some_of_many_curves_are_named(xor_task, ax):
    results = xor_task.train_all(
        nets.make_toolbox(xor_task, inherit="none").population(n=20), steps=4, points=2
    )
    plots.learning_curves(results, ax)
    assert len(ax.lines) == len(results) == 20
    assert len(ax.get_legend().get_texts()) == 8


def test_runs_of_other_objectives_are_not_drawn_over_each_other(ax):
    def run(*names):
        kind = fitness_class(names, (-1.0, -1.0))
        return [Member("a", 0.5, kind((1.0, 0.5)), (), ())]

    with pytest.raises(InvalidValueError, match="runs must have the same objectives"):
        plots.attainment([run("val_loss", "density"), run("val_loss", "multiply_adds")], ax)


def test_inputs_that_make_no_square_say_how_to_draw_them(ax):
    layout = nets.MaskLayout([("0.weight", (3, 6))])
    ticket = nets.Ticket(np.ones(18, dtype=bool), layout)
    with pytest.raises(InvalidValueError, match=r"got 6\. Give their height and width"):
        plots.kept_inputs(ticket, ax)
    assert plots.kept_inputs(ticket, ax, image=(2, 3)) is ax
