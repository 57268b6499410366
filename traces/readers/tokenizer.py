"""Token counts of texts."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any


def token_counter(path: str | None) -> Callable[[Sequence[str]], Sequence[int]]:
    """Return a function that counts the tokens of texts, without special tokens.

    Args:
        path: A Hugging Face tokenizer.json; None: the function raises ValueError.
    """

    def count(texts: Sequence[str]) -> list[int]:
        if path is None:
            raise ValueError("tokenizer: this file contains text; give the tokenizer.json of the model, tokenizer=FILE")
        # Unpaired surrogates, which are not valid Unicode, count as question marks.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        encoded = _load(path).encode_batch_fast(clean, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encoded]

    return count


@cache
def _load(path: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ValueError("tokenizer: needs the package tokenizers; pip install '.[sharegpt]'") from None
    try:
        tokenizer = Tokenizer.from_file(path)
        # The file may set padding and truncation for training, which would change the lengths.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"tokenizer: cannot read {path}: {' '.join(str(error).split())}") from error
