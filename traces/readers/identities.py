"""Names of requests, sessions and classes of clients, as numbers."""

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import codes
from traces.readers.rows import Bools
from traces.trace import Client

UNNAMED = "(unnamed)"


def is_first(ids: NDArray[np.object_]) -> Bools:
    """Whether each request is the first with its identifier: bool[num_requests]; one without an identifier is not."""
    named = np.array([one is not None for one in ids], dtype=bool)
    hashes = pd.util.hash_array(np.where(named, ids, ""), categorize=False)
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
    number, found = codes(names)
    if (number < 0).any():
        found = [*found, UNNAMED]
        number = np.where(number < 0, len(found) - 1, number)
    return tuple(map(Client, found)), number


def sessions_of_parents(ids: NDArray[np.object_], parents: pa.ChunkedArray) -> NDArray[np.int64]:
    """Number the sessions by which turn is before which: int64[num_requests].

    Of several turns that go on from one, the first does; the others begin sessions of their own.
    """
    session: list[int] = []
    ends: dict[str, int] = {}  # session of each turn that nobody has gone on from
    num_sessions = 0
    for request, parent in zip(ids.tolist(), parents.to_pylist(), strict=True):
        known = ends.pop(parent, None) if parent is not None else None
        if known is None:
            known, num_sessions = num_sessions, num_sessions + 1
        session.append(known)
        ends[request] = known
    return np.array(session, dtype=np.int64)
