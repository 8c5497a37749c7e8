"""Tickets in the manner of model hubs: a folder with a file and a card, here or on a hub."""

from __future__ import annotations

import html
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nets_deap import _atomic, _optional
from nets_deap.errors import FileAccessError

if TYPE_CHECKING:
    from nets_deap.tickets.ticket import Ticket

FILE, CARD = "ticket.safetensors", "README.md"
_T = TypeVar("_T", bound="Ticket")


def save_pretrained(ticket: Ticket, folder: str | Path, **options: Any) -> Path:
    """Write a ticket's file and card into a folder; see ``Ticket.save_pretrained``."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ticket.save(folder / FILE, **options)
        _atomic.write(folder / CARD, card_of(ticket))
    except OSError as error:
        raise FileAccessError(
            f"folder must be writable: cannot write in {folder} ({error.strerror}). "
            "Choose another place."
        ) from error
    return folder


def from_pretrained(cls: type[_T], source: str | Path, *, revision: str | None = None) -> _T:
    """Load a ticket from a folder or a hub; see ``Ticket.from_pretrained``."""
    if Path(source).is_dir():
        return cls.load(Path(source) / FILE)
    hub = _optional.require("huggingface_hub", "hub", f"{source} is not a folder, and a hub")
    try:
        path = hub.hf_hub_download(repo_id=str(source), filename=FILE, revision=revision)
    except (OSError, ValueError) as error:  # what the hub's errors are: no such name, no network
        raise FileAccessError(
            f"source must be a folder or a repository: cannot get {FILE} from {source} ({error})."
        ) from error
    return cls.load(path)


def push_to_hub(
    ticket: Ticket, repo_id: str, *, private: bool = False, message: str = "", **options: Any
) -> str:
    """Upload a ticket's file and card; see ``Ticket.push_to_hub``."""
    api = _optional.require("huggingface_hub", "hub", "Pushing a ticket").HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(ticket, folder, **options)
        try:
            api.create_repo(repo_id=repo_id, private=private, exist_ok=True)
            found = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=message or f"Ticket {ticket.digest[:16]}",
            )
        except (OSError, ValueError) as error:
            raise FileAccessError(
                f"repo_id must be a repository that you can write: {repo_id} ({error})."
            ) from error
    return str(found)


def card_of(ticket: Ticket) -> str:
    """Return a model card: what the ticket is, and how to use it."""
    layers = "\n".join(
        f"| {_in_table(name)} | {100 * density:.3f} % |"
        for name, density in ticket.layer_densities.items()
    )
    origin = json.dumps(dict(ticket.origin), indent=2)
    return f"""---
library_name: nets_deap
tags:
- lottery-ticket
- pruning
---
# Lottery ticket {ticket.digest[:16]}

A mask over a network's initial weights: it keeps {ticket.kept:,} of {ticket.n_weights:,} weights
({100 * ticket.density:.3f} %). It is to be trained from those initial weights, whose SHA-256 is
`{ticket.layout.weights.initial_digest}`.

```python
import nets_deap as nets

ticket = nets.Ticket.from_pretrained("REPOSITORY OR FOLDER")
ticket.apply(model)  # a model with these layers and these initial weights
```

| layer | density |
| --- | ---: |
{layers}

Where it was found:

```json
{origin}
```
"""


def _in_table(name: str) -> str:
    """Return a name as a cell of a Markdown table, of which nothing is taken for markup."""
    shown = html.escape("".join(letter if letter.isprintable() else "?" for letter in name))
    for sign in "|`[]":
        shown = shown.replace(sign, f"&#{ord(sign)};")
    return shown
