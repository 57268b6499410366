"""The laws bite: of faults planted in schedulers, replica and metrics at least nine in ten are caught."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


@pytest.mark.slow
def test_the_laws_hold_where_no_fault_is_planted() -> None:
    holds = [sys.executable, "-c", "from tests.laws import check_all; check_all()"]
    subprocess.run(holds, check=True, env=ENVIRONMENT, cwd=REPOSITORY)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["0/2", "1/2"])
def test_the_laws_catch_nine_in_ten_planted_faults(part: str) -> None:
    # In a process of its own, which forks.
    command = [sys.executable, "-m", "tests.mutations", "number=40", f"part={part}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=REPOSITORY)
    counts = re.search(r"(\d+) of (\d+) faults caught", done.stdout)
    assert counts, done.stdout
    caught, total = map(int, counts.groups())
    assert total == 20
    assert caught >= 0.9 * total, done.stdout
