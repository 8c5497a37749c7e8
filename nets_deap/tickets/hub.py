"""``Shareable``: tickets in the manner of model hubs: a folder with a file and a card."""

from __future__ import annotations

import html
import json
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from nets_deap import _atomic, _checks, _optional
from nets_deap.errors import FileAccessError
from nets_deap.tickets.export import Exportable

FILE, CARD = "ticket.safetensors", "README.md"
Self = TypeVar("Self", bound="Shareable")


class Shareable(Exportable):
    """A ticket that can be put into such folders and repositories, by ``save`` and ``load``."""

    __slots__ = ()

    def save_pretrained(
        self, folder: str | Path, *, include_initial: bool = True, task: Any = None
    ) -> Path:
        """Save into a folder as model hubs want it: ``ticket.safetensors`` and a card.

        Args:
            folder: Where to; made if it is not there.
            include_initial: See ``save``; True, so that others need nothing else.
            task: See ``save``.

        Returns:
            The folder.
        """
        folder = _checks.path("folder", folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.save(folder / FILE, include_initial=include_initial, task=task)
            _atomic.write(folder / CARD, card_of(self))
        except OSError as error:
            raise FileAccessError(
                f"folder must be writable: cannot write in {folder} ({error.strerror}). "
                "Choose another place."
            ) from error
        return folder

    @classmethod
    def from_pretrained(
        cls: type[Self], source: str | Path, *, revision: str | None = None
    ) -> Self:
        """Load from a folder of ``save_pretrained``, or from a repository of Hugging Face's hub.

        Args:
            source: The folder; or, if there is none, the repository, such as ``"me/lenet"``.
            revision: Branch, tag or commit of the repository; None for its main branch.

        Raises:
            FileAccessError: There is no such folder or repository, or it has no ticket.
            TicketFileError: The file is damaged, of a newer schema or no ticket.
            MissingExtraError: The extra ``hub`` is not installed, and there is no such folder.
        """
        folder = _checks.path("source", source)
        if folder.is_dir():
            return cls.load(folder / FILE)
        hub = _optional.require("huggingface_hub", "hub", f"{source} is not a folder, and a hub")
        try:
            path = hub.hf_hub_download(repo_id=str(source), filename=FILE, revision=revision)
        except (OSError, ValueError) as error:  # no such name, no network
            raise FileAccessError(
                f"source must be a folder or a repository: cannot get {FILE} from {source} "
                f"({error})."
            ) from error
        return cls.load(path)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        message: str = "",
        include_initial: bool = True,
        task: Any = None,
    ) -> str:
        """Upload what ``save_pretrained`` writes to a repository of Hugging Face's hub.

        Args:
            repo_id: The repository, such as ``"me/lenet"``; made if it is not there.
            private: Whether it is made private.
            message: Of the commit; empty for the ticket's digest.
            include_initial: See ``save_pretrained``.
            task: See ``save``.

        Returns:
            The address of the commit.

        Raises:
            FileAccessError: The hub cannot be reached, or does not let you.
            MissingExtraError: The extra ``hub`` is not installed.
        """
        api = _optional.require("huggingface_hub", "hub", "Pushing a ticket").HfApi()
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, include_initial=include_initial, task=task)
            try:
                api.create_repo(repo_id=repo_id, private=private, exist_ok=True)
                found = api.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    commit_message=message or f"Ticket {self.digest[:16]}",
                )
            except (OSError, ValueError) as error:
                raise FileAccessError(
                    f"repo_id must be a repository that you can write: {repo_id} ({error})."
                ) from error
        return str(found)


def card_of(ticket: Shareable) -> str:
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
ticket.apply(model)  # a model with these layers and these initial weights; values="own": its own
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
