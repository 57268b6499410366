"""A measuring session that journals every measurement and can resume.

It keeps a time budget and writes tables atomically.
"""

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from profiling.measure.cases import Case
from profiling.measure.timing import Sample
from profiling.tables import FAMILIES, MEASURES, columns_of, read_table, write_table


@dataclass(frozen=True)
class Measured:
    """The result of a case.

    Attributes:
        sample: Its times; None: not measurable on this machine, because memory is short or the GPU waits for the host.
        kernel_library: Name and version of the library that computed it.
    """

    sample: Sample | None
    kernel_library: str


Measure = Callable[[Case], Measured]


@dataclass(frozen=True)
class Outcome:
    """Number of cases by outcome.

    Attributes:
        num_measured: Cases measured now.
        num_known: Cases that an earlier session measured.
        num_skipped: Cases that this machine cannot measure.
        num_left: Cases beyond the time budget.
    """

    num_measured: int
    num_known: int
    num_skipped: int
    num_left: int


class Session:
    """Measurements of one device in one folder.

    Each measurement is journalled at once. The tables are written atomically when the session ends, also by an
    exception. A later session resumes where this one stopped.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = device
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        cases: Sequence[Case],
        measure: Measure,
        time_budget_s: float | None = None,
        progress: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Outcome:
        """Measure the cases that are not in the tables yet.

        Args:
            cases: What to measure, in order.
            measure: Measures one case.
            time_budget_s: No case starts after this many seconds; None: no limit.
            progress: Called with the number of finished cases.
            clock: Monotonic clock, seconds.
        """
        families = sorted({case.family for case in cases})
        for family in families:
            self._write(family)  # merge the journal of a killed session
        known = {case for family in families for case in self._known(family)}
        begin, done, measured, skipped = clock(), 0, 0, 0
        try:
            for case in cases:
                if case not in known:
                    if time_budget_s is not None and clock() - begin >= time_budget_s:
                        break
                    result = measure(case)
                    if result.sample is None:
                        skipped += 1
                    else:
                        measured += 1
                        self._append(case, result.sample, result.kernel_library)
                done += 1
                if progress is not None:
                    progress(done)
        finally:
            for family in families:
                self._write(family)
        return Outcome(measured, sum(case in known for case in cases), skipped, len(cases) - done)

    def _journal(self, family: str) -> Path:
        return self._folder / f"{family}.journal.csv"

    def _append(self, case: Case, sample: Sample, kernel_library: str) -> None:
        """Append a line to the journal and flush it."""
        path = self._journal(case.family)
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(columns_of(case.family))
            writer.writerow(
                [self._device, *case.values, sample.seconds, sample.seconds_min, sample.seconds_std, kernel_library]
            )

    def _known(self, family: str) -> Iterator[Case]:
        columns = list(FAMILIES[family])
        for row in self._rows(family)[columns].itertuples(index=False):
            yield Case(family, tuple(row))

    def _rows(self, family: str) -> pd.DataFrame:
        """Return the rows of the table and the journal.

        A line that a crash cut off is left out.
        """
        table = read_table(self._folder, family)
        path = self._journal(family)
        if not path.exists():
            return table
        journal = pd.read_csv(path, on_bad_lines="skip").dropna(subset=[*FAMILIES[family], *MEASURES])
        numbers = [name for name in FAMILIES[family] if is_numeric_dtype(journal[name])]
        journal = journal.astype(dict.fromkeys(numbers, int))
        return pd.concat([table, journal], ignore_index=True) if len(table) else journal

    def _write(self, family: str) -> None:
        """Merge the journal into the table."""
        rows = self._rows(family)
        if len(rows):
            write_table(self._folder, family, rows)
        self._journal(family).unlink(missing_ok=True)
