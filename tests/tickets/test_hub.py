"""Hub-style folders; the hub itself is a folder that stands in for its client's calls."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nets_deap as nets
from nets_deap.errors import FileAccessError, MissingExtraError

pytestmark = pytest.mark.extra


@pytest.fixture
def ticket(xor_task):
    return xor_task.ticket(np.arange(12) % 2)


def test_a_folder_goes_round_and_needs_nothing_else(ticket, xor_task, tmp_path):
    folder = ticket.save_pretrained(tmp_path / "a" / "b", task=xor_task)
    assert sorted(f.name for f in folder.iterdir()) == ["README.md", "ticket.safetensors"]
    back = nets.Ticket.from_pretrained(folder)
    assert back == ticket
    assert back.layout.initial is not None
    assert back.origin["fingerprint"] == xor_task.fingerprint
    card = (folder / "README.md").read_text()
    assert "keeps 6 of 12 weights" in card
    assert xor_task.fingerprint in card
    code = "import nets_deap, sys; print(nets_deap.Ticket.from_pretrained(sys.argv[1]).digest)"
    found = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == ticket.digest


def test_what_is_pushed_comes_back(ticket, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    calls = []

    class Api:
        def create_repo(self, *, repo_id, private, exist_ok):
            calls.append((repo_id, private, exist_ok))
            (tmp_path / repo_id).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append(commit_message)
            shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}/commit/1"

    def download(*, repo_id, filename, revision):
        calls.append(revision)
        return str(tmp_path / repo_id / filename)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert ticket.push_to_hub("me/xor", private=True) == "https://hub/me/xor/commit/1"
    assert nets.Ticket.from_pretrained("me/xor", revision="v1") == ticket
    assert calls == [("me/xor", True, True), f"Ticket {ticket.digest[:16]}", "v1"]


def test_the_calls_are_those_of_the_real_client():
    """Every keyword that is passed exists: the stand-in above must not drift from the client."""
    import inspect

    hub = pytest.importorskip("huggingface_hub")
    wanted = {
        hub.HfApi.create_repo: ("repo_id", "private", "exist_ok"),
        hub.HfApi.upload_folder: ("repo_id", "folder_path", "commit_message"),
        hub.hf_hub_download: ("repo_id", "filename", "revision"),
    }
    for call, names in wanted.items():
        assert set(names) <= set(inspect.signature(call).parameters)


def test_places_that_are_not_there_are_refused(ticket, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(FileAccessError, match="source must be a folder or a repository: cannot"):
        nets.Ticket.from_pretrained("no such/repository/at all")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="folder must be writable"):
        ticket.save_pretrained(tmp_path / "file" / "a")
    with pytest.raises(FileAccessError, match="path must be readable"):
        nets.Ticket.from_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (nets.Ticket.from_pretrained, ticket.push_to_hub):
        with pytest.raises(MissingExtraError, match=r"\.\[hub\]"):
            use("me/xor")
    assert Path(tmp_path / "file").read_text() == ""


def test_names_of_layers_are_not_markup_of_the_card(tmp_path):
    evil = "a\n```\n| <script>alert(1)</script> [x](y) | `"
    layout = nets.MaskLayout([(evil, (2, 3))], np.zeros(6, dtype=np.float32))
    ticket = nets.Ticket(np.ones(6, dtype=bool), layout)
    card = (ticket.save_pretrained(tmp_path / "hub") / "README.md").read_text()
    assert "<script" not in card
    (row,) = [line for line in card.splitlines() if "100.000 % |" in line]
    assert row.startswith("| a?")
    assert row.count("|") == 3
    assert not set("`[]") & set(row)
    assert nets.Ticket.from_pretrained(tmp_path / "hub").layout.weights.names == (evil,)
