"""Files that were changed anyhow: each loads, or fails with our error, soon and in little memory.

Changed bytes are found by the checksum; so half of the files get a checksum that fits, as somebody
who means harm would make it.
"""

import copy
import io
import json
import multiprocessing
import pickle
import random
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.running import Bomb, begin, go, new_task, sealed

import nets_deap as nets
from nets_deap.errors import NetsError, TicketFileError
from nets_deap.runs.resume import newest
from nets_deap.runs.storage import npz
from nets_deap.runs.storage.plain import Packer
from nets_deap.tickets.files import _checksum

SECONDS = 1.0
MEGABYTES = 500
EXTREMES = [
    None, True, 0, -1, 1, 2**31, 2**63, 10**30, -0.0, 1e308, float("nan"), float("inf"),
    "", "x", "../../etc/passwd", "\0", "9" * 5000, [], {}, [[]], [0] * 1000, {"array": []},
    {"array": ["<f4", 0, [10**9, 10**9]]}, {"array": ["|u1", 0, [1]]}, {"tuple": []}, {"dict": {}},
    {"dict": {"_packed": 1}}, "builtins.eval", "deap.creator.x",
]  # fmt: skip


def mangled(content, rng):
    """Return bytes with some of them changed, cut, doubled, moved or added."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 3, 10))):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + rng.choice((1, 8, 64, 4096)))
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end]
        elif kind == 3:
            data[at:end] = rng.randbytes(end - at)
        elif kind == 4:
            data[at:end] = bytes([rng.choice((0, 255, 128))]) * (end - at)
        elif kind == 5 and len(data) > 16:
            place = rng.choice((0, at))
            data[place : place + 8] = rng.choice((0, 2**31, 2**63 - 1, 10**8)).to_bytes(8, "little")
        else:
            del data[at:]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def rewritten(plain, rng):
    """Return JSON with one place replaced, removed or doubled."""
    changed = copy.deepcopy(plain)
    for _ in range(rng.choice((1, 1, 2, 5))):
        here, places = changed, []
        while isinstance(here, (dict, list)) and len(here):
            key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
            places.append((here, key))
            here = here[key]
        if not places:
            return changed
        holder, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, from_ = rng.choice(places)
            holder[key] = copy.deepcopy(other[from_]) if other is not holder else None
        elif kind == 2 and isinstance(holder[key], (int, float)):
            holder[key] = holder[key] + rng.choice((-1, 1, 0.5, 1e18))
        else:
            holder[key] = copy.deepcopy(rng.choice(EXTREMES))
    return changed


def tried(load):
    """Load; return what went wrong in doing so, or None."""
    start = time.process_time()
    try:
        load()
    except NetsError:
        pass
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    took = time.process_time() - start
    return f"{took:.1f} s" if took > SECONDS else None


def limit_memory():
    """Let this process take 500 MB more than now, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def fuzz_tickets(folder, number, seed, answer):
    rng = random.Random(seed)
    samples = sorted(folder.glob("*.safetensors"))
    path = folder / "mutated"
    limit_memory()
    wrong = []
    for i in range(number):
        content = rng.choice(samples).read_bytes()
        path.write_bytes(resigned(content, rng) if i % 2 else mangled(content, rng))
        problem = tried(lambda: nets.Ticket.load(path))
        if problem:
            wrong.append((i, problem))
    answer.put(wrong[:5])


def resigned(content, rng):
    """Return a ticket file with other JSON and the checksum that fits."""
    from safetensors.numpy import load, save

    tensors = load(content)
    end = 8 + int.from_bytes(content[:8], "little")
    text = json.loads(content[8:end])["__metadata__"]["nets_deap"]
    text = json.dumps(rewritten(json.loads(text), rng))
    if rng.random() < 0.3:
        name = rng.choice(list(tensors))
        tensors[name] = rng.choice(
            (tensors[name][:-1], np.zeros(0, np.uint8), tensors[name].astype(np.float64))
        )
    return save(tensors, {"nets_deap": text, "sha256": _checksum(tensors, text)})


def fuzz_checkpoints(folder, number, seed, answer):
    rng = random.Random(seed)
    task = new_task()
    source = folder / "run"
    sample = max((source / "checkpoints").iterdir())
    content, flat = npz.read(sample)
    limit_memory()
    wrong = []
    for i in range(number):
        if i % 2:
            packer = Packer()
            packer.parts = {name: [array] for name, array in flat.items()}
            npz.write(sample, rewritten(content, rng), packer)
        else:
            packer = Packer()
            packer.parts = {name: [array] for name, array in flat.items()}
            npz.write(sample, content, packer)
            data = mangled(sample.read_bytes(), rng)
            sample.write_bytes(sealed(data) if i % 4 and len(data) > 64 else data)
        whole = i % 20 == 1
        problem = tried(lambda whole=whole: load_checkpoint(source, task, whole))
        if problem:
            wrong.append((i, problem))
    answer.put(wrong[:5])


def load_checkpoint(path, task, whole):
    """Read everything that a checkpoint holds; resume a copy of the run if ``whole``."""
    if whole:
        copied = path.with_name("copied")
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(path, copied)
        nets.resume(copied, task=task, progress="none").recorder.close()
        return
    from nets_deap.runs.resume import _naming

    snapshot = newest(path)
    if snapshot is not None:
        with _naming(path):
            snapshot.read_tickets(task.layout)
            snapshot.archive(None)


def problems_of(target, folder, number):
    """Run in processes of their own, whose memory is limited."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=target, args=(folder, number, number, answer))
    process.start()
    try:
        return answer.get(timeout=900)
    finally:
        process.join()
        answer.close()
        answer.join_thread()


AMOUNTS = pytest.mark.parametrize("share", [0.025, pytest.param(1.0, marks=pytest.mark.slow)])


def torch_file(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Bomb()), torch_file(Bomb()), b"", (2**63).to_bytes(8, "little") + b"{}" * 50],
    ids=["pickle", "torch", "empty", "header"],
)
def test_other_files_under_a_tickets_name_are_refused(tmp_path, content):
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(TicketFileError):
        nets.Ticket.load(path)
    assert not Bomb.exploded


@AMOUNTS
def test_mutated_ticket_files(tmp_path, share):
    task = new_task()  # knows the initial weights
    go("plus", *begin(tmp_path / "run", {}, task=task), until=1)
    for i, file in enumerate((tmp_path / "run" / "tickets").iterdir()):
        shutil.copy(file, tmp_path / f"{i}.safetensors")
    ticket = nets.Ticket.load(tmp_path / "0.safetensors")
    ticket.save(tmp_path / "whole.safetensors", include_initial=True)
    assert problems_of(fuzz_tickets, tmp_path, int(10_000 * share)) == []


@AMOUNTS
def test_mutated_checkpoints(tmp_path, share):
    options = {"inherit": "weights", "gradient": True, "reevaluate": True}
    go("plus", *begin(tmp_path / "run", options), until=0)
    assert problems_of(fuzz_checkpoints, tmp_path, int(2_000 * share)) == []
