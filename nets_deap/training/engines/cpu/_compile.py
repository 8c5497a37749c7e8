"""``compiled``: numba's compiler for the kernels, with code on disk that is never out of date."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numba

# Sums may be reordered; comparisons with NaN stay true to IEEE, or divergence would go unseen.
# numba's fastmath=True adds "nnan" and "ninf", under which LLVM may assume that there is no NaN.
FAST = ("reassoc", "contract", "arcp", "nsz")
# nogil: the threads of a call train side by side. numpy's error model: a division by zero gives
# inf or NaN as in torch instead of raising, without a branch that would keep loops from vectors.
_OPTIONS: dict[str, Any] = {"fastmath": set(FAST), "nogil": True, "error_model": "numpy"}

# Compiled functions are typed as what they are made of, so that calls of them are checked.
Function = TypeVar("Function", bound=Callable[..., Any])
_njit: Any = numba.njit  # typed in new versions only


def compiled(function: Function) -> Function:
    """Compile a function at its first call; the code is kept on disk until any source changes."""
    # numba keeps code in an index file for each function, next to a stamp of the one file that the
    # function stands in (a hash in new versions, time and size in older ones), and uses it as long
    # as the stamp is the same. But compiled code holds that of all functions it calls, and numbers
    # such as LANES: after a change in _vectors.py alone, numba would go on running the old code of
    # train in _loops.py. So the stamp is replaced by one of the whole folder. What else the code
    # depends on is in numba's own key: argument types, the processor's name and features, numba's
    # version, the function's bytecode.
    #
    # numba has no public way to do this. What is touched: ``_cache`` of the compiled function (a
    # FunctionCache), its ``_cache_file`` (an IndexDataCacheFile) and the ``_source_stamp`` of that,
    # which loading compares and saving writes. No other private part is used, and where one of
    # them is missing or means something else, nothing is kept: slow to start, never stale.
    made = _njit(cache=True, **_OPTIONS)(function)
    try:
        files = made._cache._cache_file
        kind: Any = type(files)
        safe = _heeds_stamps(kind)
    except AttributeError:
        safe = False
    if safe:
        files._source_stamp = _stamp()
        return made  # type: ignore[no-any-return]
    warnings.warn(
        f"numba {numba.__version__} keeps compiled code in a way that is not known here, so that "
        "the compiled engine is compiled anew in each process, which takes a while. Use a version "
        "of numba that this package was tested with, or engine='batched'.",
        RuntimeWarning,
        stacklevel=2,
    )
    return _njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def is_ready(function: Any, arguments: Sequence[Any] | None = None) -> bool:
    """Return whether a compiled function has code, in this process or on disk, as far as is known.

    Reads numba's index file as loading does; see ``compiled`` on what is touched of it.

    Args:
        function: The function.
        arguments: What it will be called with, as each combination of types has code of its own;
            None for any code.
    """
    try:
        made = function.signatures
        if arguments is None:
            return bool(made or function._cache._cache_file._load_index())
        types = types_of(arguments)
        return types in made or any(
            key[0] == types for key in function._cache._cache_file._load_index()
        )
    except Exception:  # of any kind: it is only to tell somebody that it will take a while
        return True


def types_of(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Return numba's types of arguments, for each combination of which there is code of its own."""
    return tuple(map(numba.typeof, arguments))


@functools.cache
def _stamp() -> str:
    """Return what tells this folder's sources from other versions of them: a hash of their text."""
    # The text, not times and sizes: these may be the same for another text (archives and copies
    # keep times), and may differ for the same one. All files, so that none can be forgotten.
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


@functools.cache
def _heeds_stamps(kind: Any) -> bool:
    """Return whether numba's index files serve code under the same ``_source_stamp`` only."""
    # Tried out rather than read off numba's version: whatever a later version changes, code that
    # it would load under another stamp is what must not be. Takes some milliseconds, once.
    try:
        with tempfile.TemporaryDirectory() as folder:
            kind(folder, "probe", "stamp").save("key", "code")
            found = kind(folder, "probe", "other")
            before = found.load("key")
            found._source_stamp = "stamp"
            same = found.load("key")
            found._source_stamp = "changed"
            return (before, same, found.load("key")) == (None, "code", None)
    except Exception:  # of any kind: whatever fails here, numba is not as it is known
        return False
