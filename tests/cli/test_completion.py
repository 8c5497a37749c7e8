"""Completion, asked for in real shells."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

from nets_deap.cli.main import main
from nets_deap.experiments.presets import PRESETS

pytestmark = pytest.mark.extra

# What is on the line, and what it can go on with; None: a file that lies there.
CASES = {
    "nets-deap re": {"resume", "report"},
    "nets-deap run ": set(PRESETS),
    "nets-deap run lenet-": {"lenet-mnist", "lenet-extreme", "lenet-adds"},
    "nets-deap run quickstart --prog": {"--progress"},
    "nets-deap run quickstart --progress l": {"lines"},
    "nets-deap ticket ex": {"export"},
    "nets-deap ticket export t --to c": {"csr"},
    "nets-deap baseline sn": {"snip"},
    "nets-deap plot run --kind gene": {"genealogy"},
    "nets-deap ticket show a-tick": {"a-ticket.safetensors"},
    "nets-deap resume runs/a": {"runs/a-run"},
}
BASH = """\
source "$1"
function=$(complete -p nets-deap | sed 's/.*-F \\([^ ]*\\).*/\\1/')
read -r -a COMP_WORDS <<< "$2"
[[ "$2" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$2; COMP_POINT=${#2}
"$function" nets-deap "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def needs(shell):
    pytest.importorskip("shtab")
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


@pytest.fixture
def script(capsys, tmp_path, monkeypatch):
    """Return what writes the script of a shell, in a folder with something to complete."""
    (tmp_path / "a-ticket.safetensors").touch()
    (tmp_path / "runs" / "a-run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def write(shell, name):
        assert main(["completion", shell]) == 0
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(capsys.readouterr().out)
        return path

    return write


def test_bash_completes(script):
    bash = needs("bash")
    path = script("bash", "script")
    for line, expected in CASES.items():
        found = subprocess.run(
            [bash, "--norc", "-c", BASH, "bash", path, line], capture_output=True, text=True
        )
        assert not found.stderr
        words = {word.strip().rstrip("/") for word in found.stdout.splitlines()}
        assert words == expected, line


def test_fish_completes(script, tmp_path, monkeypatch):
    fish = needs("fish")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = script("fish", "script")
    for line, expected in CASES.items():
        ask = f"source {path}; complete -C '{line}'"
        found = subprocess.run([fish, "--no-config", "-c", ask], capture_output=True, text=True)
        words = {word.partition("\t")[0].rstrip("/") for word in found.stdout.splitlines()}
        assert words == expected, f"{line}: {found}"


@pytest.mark.slow
def test_zsh_completes(script, tmp_path):
    """In a terminal, as zsh completes nowhere else."""
    zsh = needs("zsh")
    folder = script("zsh", "functions/_nets-deap").parent
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [zsh, "-f", "-i"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb", "HOME": str(tmp_path), "PS1": "> "},
    )
    os.close(inner)
    try:
        ask(terminal, f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; echo on\n")
        for line, expected in CASES.items():
            if len(expected) == 1:
                (word,) = expected
                whole = f"{line.rpartition(' ')[0]} {word}"
                assert whole in ask(terminal, f"\x15{line}\t", whole)
        shown = ask(terminal, "\x15nets-deap run \t")
        assert {name for name in PRESETS if name in shown} == set(PRESETS)
    finally:
        os.close(terminal)
        process.kill()
        process.wait()


def ask(terminal, text, until=None):
    """Type something; return what the terminal shows until that is there, or it is silent."""
    os.write(terminal, text.encode())
    shown, end = b"", time.monotonic() + 20
    patience = 5 if until else 1  # a busy machine answers late
    while (
        time.monotonic() < end
        and (until is None or until.encode() not in shown)
        and select.select([terminal], [], [], patience if shown else 5)[0]
    ):
        shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")


def test_without_the_library_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert 'pip install -e ".[completion]"' in capsys.readouterr().err
