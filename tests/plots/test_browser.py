"""What people see in a browser: Optuna's dashboard on an export, and the page about a run."""

import shutil
import subprocess
import threading
from html.parser import HTMLParser
from wsgiref.simple_server import WSGIRequestHandler, make_server

import numpy as np
import pytest

import nets_deap as nets
from nets_deap.cli.main import main

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BLUE = np.array([0, 114, 178])  # of fronts in figures
pytestmark = [pytest.mark.slow, pytest.mark.extra]


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Return what runs the browser with arguments and returns what it prints."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    profile = tmp_path_factory.mktemp("profile")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]

    def run(*arguments):
        command = [path, *options, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout

    return run


class Shown(HTMLParser):
    """Counts the points of each plot in a page."""

    def __init__(self):
        super().__init__()
        self.points = []

    def handle_starttag(self, tag, attributes):
        kinds = (dict(attributes).get("class") or "").split()
        if "main-svg" in kinds:
            self.points.append(0)
        elif "point" in kinds and self.points:
            self.points[-1] += 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the dashboard's own dependencies
def test_the_dashboard_draws_every_ticket_of_the_pareto_plot(browse):
    optuna = pytest.importorskip("optuna")
    dashboard = pytest.importorskip("optuna_dashboard")
    found = nets.search(
        nets.tasks.xor(hidden=4), population=20, generations=1, progress="none", inherit="none"
    )  # fmt: skip
    storage = optuna.storages.InMemoryStorage()
    study = nets.boards.to_optuna(found, storage)
    assert len(study.trials) > len(study.best_trials)

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_):
            pass

    with make_server("127.0.0.1", 0, dashboard.wsgi(storage), handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}/dashboard/studies/0"
        text = browse("--window-size=1500,1800", "--dump-dom", page)
        server.shutdown()
    assert "Pareto Front" in text
    shown = Shown()
    shown.feed(text)
    assert next(filter(None, shown.points)) == len(study.trials)


def test_the_page_about_a_run_shows_its_figures(browse, tmp_path):
    from matplotlib import image

    nets.search(
        nets.tasks.xor(hidden=4),
        population=8,
        generations=2,
        path=tmp_path / "run",
        progress="none",
        inherit="none",
    )
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "report.html")]) == 0
    shot = tmp_path / "shot.png"
    browse(f"--screenshot={shot}", "--window-size=1100,2600", (tmp_path / "report.html").as_uri())
    pixels = 255 * image.imread(shot)[..., :3]
    assert pixels.shape[:2] == (2600, 1100)
    assert (np.abs(pixels - BLUE).max(axis=-1) < 8).sum() > 200
