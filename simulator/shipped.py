"""What is shipped: the version, and the files of `configs/`.

Imports nothing that takes long: shell completion reads them at every TAB.
"""

from pathlib import Path

VERSION = "0.1.0"
_PACKAGED = Path(__file__).parent / "configs"
CONFIG_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "configs"
GROUPS = sorted(path.name for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name != "cluster")


def choices(group: str) -> list[str]:
    """Return the choices of a configuration group, such as "cluster.router"."""
    return sorted(path.stem for path in (CONFIG_DIR / group.replace(".", "/")).glob("*.yaml"))
