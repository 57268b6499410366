"""Counts the tokens of texts."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any


def token_counter(path: str | None) -> Callable[[Sequence[str]], Sequence[int]]:
    """Return what counts the tokens of texts, without special ones.

    Args:
        path: A tokenizer.json of Hugging Face; None: there is none, and no text can be counted.
    """

    def count(texts: Sequence[str]) -> list[int]:
        if path is None:
            raise ValueError("tokenizer: this file holds texts; name the tokenizer.json of the model, tokenizer=FILE")
        # What is no Unicode, half of a pair, counts as a question mark.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        encoded = _loaded(path).encode_batch_fast(clean, add_special_tokens=False)
        return [len(one.ids) for one in encoded]

    return count


@cache
def _loaded(path: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ValueError("tokenizer: needs the package tokenizers; pip install '.[sharegpt]'") from None
    try:
        found = Tokenizer.from_file(path)
        # Settings of the file that are for training, and would change the lengths.
        found.no_padding()
        found.no_truncation()
        return found
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"tokenizer: cannot read {path}: {' '.join(str(error).split())}") from error
