"""One line, no traceback, for a package that is not installed."""

import os
import sys
from types import TracebackType

_OURS = ("simulator", "traces", "profiling")


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package in ("", *_OURS):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f"error: {package} is not installed: pip install -e . installs what is needed\n")
    sys.stderr.flush()
    os._exit(2)  # nothing is open during imports


# Only during the imports of `python -m`.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _hook
