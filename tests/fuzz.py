"""Fuzzes readers and the parser of overrides with atheris, which looks for inputs that reach new code.

    python -m tests.fuzz TARGET [seconds=60]

TARGET is one of `fuzz_targets.TARGETS`, or all. A crash ends it with a traceback and leaves the input in this folder.
Atheris is no dependency of the project: pip install atheris.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found,unused-ignore]

with atheris.instrument_imports(include=["simulator", "traces", "yaml", "hydra", "omegaconf"]):
    from tests.fuzz_targets import TARGETS, seeds_of


def main() -> None:
    """Run the command line."""
    target, *rest = sys.argv[1:] or ["all"]
    seconds = dict(one.split("=", 1) for one in rest).get("seconds", "60")
    if target == "all":
        for name in TARGETS:
            subprocess.run([sys.executable, "-m", "tests.fuzz", name, f"seconds={seconds}"], check=True)
        return
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds_of(target)):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, f"-max_total_time={seconds}", "-rss_limit_mb=4096"], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
