"""The laws bite: of faults planted in schedulers, replica and metrics at least nine in ten are caught."""

import os
import re
import subprocess
import sys

from tests.helpers import REPOSITORY


def test_the_laws_catch_nine_in_ten_planted_faults() -> None:
    # In a process of its own, which forks; with the laws themselves right, or every fault would be caught.
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    holds = [sys.executable, "-c", "from tests.laws import check_all; check_all()"]
    subprocess.run(holds, check=True, env=environment, cwd=REPOSITORY)
    command = [sys.executable, "-m", "tests.mutations", "number=40"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=REPOSITORY)
    found = re.search(r"(\d+) of (\d+) faults caught", done.stdout)
    assert found, done.stdout
    caught, total = map(int, found.groups())
    assert total == 40
    assert caught >= 0.9 * total, done.stdout
