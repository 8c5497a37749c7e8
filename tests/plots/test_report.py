"""The commands ``plot`` and ``report``, and what they make of hostile files."""

import base64
import gc
import html
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")

from nets_deap.cli.main import main
from nets_deap.errors import FileAccessError, InvalidValueError
from nets_deap.plots import kinds
from nets_deap.plots.report import command_of, report

OF_A_RUN = {"front", "fronts", "accuracy", "hypervolume", "layers", "layers-time", "curves"}
OF_A_RUN |= {"genealogy", "overlap", "mask", "wiring"}
NOT_OF_THIS_RUN = {"accuracy-adds", "comparison", "attainment", "inputs", "filters"}
SETTINGS = ["search.population=6", "search.generations=2", "recipe.steps=20", "final.steps=30"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run"
    words = ["run", "xor-mlp10", "--seed", "2", "--out", str(path), "--progress", "none"]
    assert main([*words, *(word for one in SETTINGS for word in ("--set", one))]) == 0
    gc.collect()  # W0 of a run that is over is known as long as something still holds it
    return path


class Page(HTMLParser):
    """Reads a page: its tags, its text, and whether each tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def copied(folder, path):
    import shutil

    shutil.copytree(folder, path)
    return path


def test_all_that_apply_are_drawn_into_the_folder(folder, capsys):
    assert main(["plot", str(folder)]) == 0
    said = capsys.readouterr().out.splitlines()
    files = {path.stem: path for path in (folder / "plots").iterdir()}
    assert OF_A_RUN <= set(files) <= set(kinds.KINDS) - NOT_OF_THIS_RUN
    assert [Path(name) for name in said[:-1]] == [files[k] for k in kinds.KINDS if k in files]
    assert said[-1].endswith("for them: accuracy-adds, comparison, attainment, inputs, filters")
    for path in files.values():
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("form", "head"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_other_formats_are_the_same_each_time(folder, tmp_path, form, head):
    words = ["plot", str(folder), "--kind", "front", "--kind", "layers", "--format", form]
    found = []
    for out in ("a", "b"):
        assert main([*words, "--size", "paper", "--out", str(tmp_path / out)]) == 0
        found.append({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()})
    assert set(found[0]) == {f"front.{form}", f"layers.{form}"}
    assert found[0] == found[1]
    assert all(content.startswith(head) for content in found[0].values())


def test_several_runs_are_drawn_together(folder, tmp_path, capsys):
    assert main(["plot", str(folder), str(folder), "--out", str(tmp_path / "both")]) == 0
    assert {path.stem for path in (tmp_path / "both").iterdir()} == {"attainment", "hypervolume"}
    assert main(["plot", str(folder), str(folder)]) == 2
    assert "--out must be given" in capsys.readouterr().err


def test_the_kinds_are_listed(capsys):
    assert main(["plot", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*kinds.KINDS]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plot", "RUN", "--kind", "fronst"], "Did you mean 'front"),
        (["plot", "RUN", "--kind", "filters"], "layer must be convolutional"),
        (["plot", "missing"], "run must be a run folder"),
        (["plot", "RUN/tickets"], "RUN must hold a run"),
        (["report", "missing"], "run must be a run folder"),
        (["report", "RUN/tickets"], "run must hold config.json"),
    ],
)
def test_what_cannot_be_is_one_clear_error(folder, words, message, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert main([word.replace("RUN", folder.name) for word in words]) == 2
    assert message in capsys.readouterr().err


def test_the_page_needs_nothing_else(folder, capsys):
    assert main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text()
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    page = Page(text)
    assert page.open == []
    sources = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert sources
    for address in sources:
        kind, _, data = address.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(data, validate=True).startswith(b"<?xml")
    assert {a["id"] for tag, a in page.tags if tag == "figure"} == OF_A_RUN
    assert all(a["alt"] for tag, a in page.tags if tag == "img")
    assert "script" not in {tag for tag, _ in page.tags}
    words = "".join(page.words)
    front = (folder / "front.csv").read_text().splitlines()
    assert all(row.split(",")[0] in words for row in front)
    assert json.dumps(json.loads((folder / "config.json").read_text()), indent=2) in words
    assert report(folder) == text


def test_the_command_makes_the_run_again(folder, tmp_path):
    facts = json.loads((folder / "config.json").read_text())
    command = command_of(facts)
    words = shlex.split(command)
    assert words[:5] == ["nets-deap", "run", "xor-mlp10", "--seed", "2"]
    assert sorted(words[6::2]) == sorted(SETTINGS)
    assert html.escape(command) in report(folder)
    out = tmp_path / "again"
    assert main([*words[1:], "--out", str(out), "--progress", "none"]) == 0
    assert (out / "front.csv").read_bytes() == (folder / "front.csv").read_bytes()


def test_a_run_of_no_preset_has_no_command():
    assert command_of({}) is None
    assert command_of({"preset": "", "config": {}}) is None
    assert command_of({"preset": "quickstart", "config": 3}) is None


def test_what_comes_from_files_is_escaped(folder, tmp_path):
    evil = "<script>alert('$x_{')</script>\"'&$y$"
    run = copied(folder, tmp_path / "<b>run")
    facts = json.loads((run / "config.json").read_text())
    facts |= {evil: evil, "versions": {evil: evil}}
    facts["config"]["task"]["data_dir"] = evil
    (run / "config.json").write_text(json.dumps(facts))
    (run / "front.csv").write_text((run / "front.csv").read_text().replace("kept", evil, 1))
    history = run / "history.jsonl"
    name = json.dumps(evil)
    text = history.read_text().replace('"val_loss"', name).replace('"layers.0.weight"', name)
    history.write_text(text)
    page = Page(report(run))
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "div", "table", "tr"),
        *("th", "td", "figure", "img", "figcaption", "pre", "p", "ul", "li", "code", "wbr"),
    }
    assert evil in "".join(page.words)
    fronts = next(a["src"] for tag, a in page.tags if tag == "img")
    assert b"<script" not in base64.b64decode(fronts.partition(",")[2])
    command = command_of(facts)
    assert f"task.data_dir={evil}" in shlex.split(command)


def test_damaged_files_are_named(folder, tmp_path):
    run = copied(folder, tmp_path / "run")
    ticket = next((run / "tickets").iterdir())
    whole = ticket.read_bytes()
    ticket.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InvalidValueError, match=re.escape(ticket.name)):
        report(run)
    ticket.write_bytes(whole)
    (run / "config.json").write_text("[]")
    with pytest.raises(FileAccessError, match=r"config\.json must hold an object"):
        report(run)


def test_a_comparison_is_drawn_and_reported(tmp_path, capsys):
    out = tmp_path / "compared"
    words = ["compare", "xor-mlp10", "--seeds", "2", "--budget", "2000", "--out", str(out)]
    words += ["--methods", "evolution,erk", "--densities", "0.5,0.3", "--set", "final.steps=5"]
    words += ["--set", "search.population=4", "--set", "search.generations=2"]
    assert main(words) == 0
    capsys.readouterr()
    assert main(["plot", str(out)]) == 0
    assert {path.stem for path in (out / "plots").iterdir()} == {"comparison", "attainment"}
    page = Page(report(out))
    assert {a["id"] for tag, a in page.tags if tag == "figure"} == {"comparison", "attainment"}
    assert (out / "summary.txt").read_text() in "".join(page.words)
    for name in ("summary.txt", *(f"results/{p.name}" for p in (out / "results").glob("*-erk*"))):
        written = out / name  # by an earlier version, in which finetune was chain
        written.write_text(written.read_text().replace("erk", "chain"))
        written.rename(out / name.replace("erk", "chain"))
    words = "".join(Page(report(out)).words)
    assert "finetune" in words
    assert "chain" not in words
    for written in (out / "results").glob("*-chain*"):
        written.write_text(written.read_text().replace("chain", "erk"))
        written.rename(out / "results" / written.name.replace("chain", "erk"))
    rows = [json.loads(p.read_text()) for p in (out / "results").glob("seed*-evolution.json")]
    from nets_deap import plots

    ax = plots.attainment(out, levels=(1,))
    best = max(100 * row["test_accuracy"] for part in rows for row in part)
    assert max(ax.lines[0].get_ydata()) == best
    (out / "results" / "seed0-erk.json").write_text('[{"seed": 0}]')
    with pytest.raises(FileAccessError, match=r"seed0-erk\.json does not hold"):
        plots.accuracy_over_density(out)


def test_names_of_columns_may_be_broken_and_captions_hold_for_every_archive(folder):
    page = report(folder)
    assert "<th>dense_<wbr>test_<wbr>accuracy</th>" in page
    assert "Pareto" not in page


def test_svg_holds_no_sign_that_xml_forbids(folder, tmp_path):
    from xml.etree import ElementTree

    run = copied(folder, tmp_path / "run")
    history = run / "history.jsonl"
    name = json.dumps("a\x00b\x1b<i>&$\\frac{")
    history.write_text(history.read_text().replace('"layers.0.weight"', name))
    content = kinds.render(run, "layers", form="svg")
    ElementTree.fromstring(content)  # raises where it is none
    assert b"a?b?" in content
