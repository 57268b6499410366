"""Models of `configs/model` by their names on Hugging Face."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from simulator.shipped import CONFIG_DIR, choices

_LINE = re.compile(r"^#   ([\w.-]+/[\w.-]+): (\d+)$", re.MULTILINE)
_ADVICE = "for another model give model=hf model.path=config.json"


@dataclass(frozen=True)
class PublishedModel:
    """A model on Hugging Face that `configs/model` has.

    Attributes:
        name: Name on Hugging Face.
        choice: File in `configs/model`.
        max_positions: Longest sequence of its config.json, tokens: what engines admit by default.
    """

    name: str
    choice: str
    max_positions: int


@cache
def published_models() -> Mapping[str, PublishedModel]:
    """Return the models that are known by a name on Hugging Face.

    Keys are names in lower case; of several names of a model, its own comes first.
    """
    found = {}
    for choice in choices("model"):
        text = (CONFIG_DIR / "model" / f"{choice}.yaml").read_text()
        for name, positions in _LINE.findall(text):
            found[name.lower()] = PublishedModel(name, choice, int(positions))
    return found


def model_choice(name: str) -> str:
    """Return the file in `configs/model` for a name.

    Other names stay as they are.
    """
    published = published_models().get(name.lower())
    return name if published is None else published.choice


def unknown_model(name: str) -> str:
    """Describe a model that is not shipped, with the nearest names."""
    known = {key: model.name for key, model in published_models().items()}
    known |= {key.partition("/")[2]: name for key, name in known.items()} | {name: name for name in choices("model")}
    near = [known[key] for key in get_close_matches(name.lower(), known, n=3, cutoff=0.6)]
    hint = f"; near it: {', '.join(dict.fromkeys(near))}" if near else ""
    return f"no such model{hint}; shipped are {', '.join(choices('model'))}; {_ADVICE}"
