"""Names of requests, sessions and classes of clients, as numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import codes
from traces.readers.rows import Bools
from traces.trace import Client

UNNAMED = "(unnamed)"
Identifiers = NDArray[np.int64] | NDArray[np.object_]


def joined(parts: Sequence[Identifiers]) -> Identifiers:
    """Join the identifiers of the parts of a file; numbers become text where one is none."""
    if any(part.dtype != np.int64 for part in parts):
        parts = [part.astype(str).astype(object) if part.dtype == np.int64 else part for part in parts]
    return np.asarray(np.concatenate(parts))


def is_first(ids: Identifiers) -> Bools:
    """Whether each request is the first with its identifier: bool[num_requests]; one without an identifier is not."""
    if ids.dtype == np.int64:
        first = np.zeros(len(ids), dtype=bool)
        first[np.unique(ids, return_index=True)[1]] = True
        return first
    named = np.array([one is not None for one in ids], dtype=bool)
    hashes = pd.util.hash_array(ids if named.all() else np.where(named, ids, ""), categorize=False)
    order = np.argsort(hashes, kind="stable")
    again = np.zeros(len(ids), dtype=bool)
    again[order[1:]] = hashes[order][1:] == hashes[order][:-1]
    if again.any():
        # Equal hashes are hardly ever those of different strings; these few are compared.
        suspects = np.flatnonzero(np.isin(hashes, hashes[again])).tolist()
        seen: set[str] = set()
        for row in suspects:
            again[row] = ids[row] in seen
            seen.add(ids[row])
    return named & ~again


def client_classes(names: pa.ChunkedArray) -> tuple[tuple[Client, ...], NDArray[np.int64]]:
    """Return the classes in the order in which they come, and the number of each request's."""
    number, names_of = codes(names)
    found = names_of.to_pylist()
    if (number < 0).any():
        found = [*found, UNNAMED]
        number = np.where(number < 0, len(found) - 1, number)
    return tuple(map(Client, found)), number


def sessions_of_parents(ids: Identifiers, parents: pa.ChunkedArray) -> NDArray[np.int64]:
    """Number the sessions by which turn is before which: int64[num_requests].

    Of several turns that go on from one, the first does; the others begin sessions of their own.
    """
    session: list[int] = []
    ends: dict[str, int] = {}  # session of each turn that nobody has gone on from
    num_sessions = 0
    for request, parent in zip(map(str, ids.tolist()), parents.to_pylist(), strict=True):
        known = ends.pop(parent, None) if parent is not None else None
        if known is None:
            known, num_sessions = num_sessions, num_sessions + 1
        session.append(known)
        ends[request] = known
    return np.array(session, dtype=np.int64)
