"""Numbering of requests, sessions and client classes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import encode
from traces.readers.rows import Bools
from traces.trace import Client

UNNAMED = "(unnamed)"
Identifiers = NDArray[np.int64] | NDArray[np.object_]


def join_identifiers(parts: Sequence[Identifiers]) -> Identifiers:
    """Concatenate identifiers: as int64 if all parts are, else as strings."""
    if any(part.dtype != np.int64 for part in parts):
        parts = [part.astype(str).astype(object) if part.dtype == np.int64 else part for part in parts]
    return np.asarray(np.concatenate(parts))


def is_first(ids: Identifiers) -> Bools:
    """Return whether each request is the first with its identifier.

    Returns:
        bool[num_requests], False for a request without an identifier.
    """
    if ids.dtype == np.int64:
        first = np.zeros(len(ids), dtype=bool)
        first[np.unique(ids, return_index=True)[1]] = True
        return first
    has_id = np.array([identifier is not None for identifier in ids], dtype=bool)
    hashes = pd.util.hash_array(ids if has_id.all() else np.where(has_id, ids, ""), categorize=False)
    order = np.argsort(hashes, kind="stable")
    is_repeated = np.zeros(len(ids), dtype=bool)
    is_repeated[order[1:]] = hashes[order][1:] == hashes[order][:-1]
    if is_repeated.any():
        # Hashes may collide: compare the strings themselves, of the few rows whose hashes repeat.
        suspects = np.flatnonzero(np.isin(hashes, hashes[is_repeated])).tolist()
        seen: set[str] = set()
        for row in suspects:
            is_repeated[row] = ids[row] in seen
            seen.add(ids[row])
    return has_id & ~is_repeated


def encode_clients(names: pa.ChunkedArray) -> tuple[tuple[Client, ...], NDArray[np.int64]]:
    """Number the client classes.

    Returns:
        Classes in order of first occurrence, the unnamed one last, and int64[num_requests] the class of each request.
    """
    index, distinct_names = encode(names)
    class_names = distinct_names.to_pylist()
    if (index < 0).any():
        class_names = [*class_names, UNNAMED]
        index = np.where(index < 0, len(class_names) - 1, index)
    return tuple(map(Client, class_names)), index


def sessions_by_parent(ids: Identifiers, parents: pa.ChunkedArray) -> NDArray[np.int64]:
    """Number sessions by the parents of their turns.

    If several turns have the same parent, the first of them continues its session, and the others start sessions of
    their own.

    Args:
        ids: Identifier of each request.
        parents: Identifier of the previous turn of each request, null for a first turn.

    Returns:
        int64[num_requests].
    """
    session: list[int] = []
    latest_turns: dict[str, int] = {}  # session by the identifier of its latest turn
    num_sessions = 0
    for request, parent in zip(map(str, ids.tolist()), parents.to_pylist(), strict=True):
        number = latest_turns.pop(parent, None) if parent is not None else None
        if number is None:
            number, num_sessions = num_sessions, num_sessions + 1
        session.append(number)
        latest_turns[request] = number
    return np.array(session, dtype=np.int64)
