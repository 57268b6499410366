"""Tokenizer, configuration and texts of the served model, made without a download."""

import json
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Ids of the tokens that the stand-in for the engine emits, int32.
OUTPUT_TOKENS = "output_tokens.npy"
_VOCABULARY = 32_000
_BEGIN, _END = "<s>", "</s>"
_NUM_CHARACTERS = 10_000_000  # of the sources that the tokenizer is trained on
_NUM_ENCODED = 2_000_000  # of them that become prompts and outputs
_NUM_PROMPTS = 400


@dataclass(frozen=True)
class ServedModel:
    """Folder that the server serves, and prompts for it.

    Attributes:
        folder: Has tokenizer, `config.json` and `OUTPUT_TOKENS`, but no weights.
        prompts: Texts, each of about the same number of tokens.
    """

    folder: Path
    prompts: list[str]


def write_model(folder: Path, prompt_tokens: int, output_tokens: int) -> ServedModel:
    """Write a tokenizer and the configuration of a small model.

    The tokenizer is a byte-level BPE trained on the sources of Python's standard library, of which the prompts and
    outputs are parts.

    Args:
        folder: Existing folder to write to.
        prompt_tokens: Tokens of each prompt.
        output_tokens: Most output tokens of a request.
    """
    texts = list(_sources(_NUM_CHARACTERS))
    tokenizer = _trained(texts)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": _BEGIN, "eos_token": _END},
    )
    _write_json(folder / "config.json", _architecture(tokenizer.get_vocab_size(), prompt_tokens + output_tokens))
    ids = tokenizer.encode("".join(texts)[:_NUM_ENCODED]).ids
    np.save(folder / OUTPUT_TOKENS, np.array(ids, np.int32))
    generator = random.Random(0)  # nosec B311
    starts = [generator.randrange(len(ids) - prompt_tokens) for _ in range(_NUM_PROMPTS)]
    return ServedModel(folder, [tokenizer.decode(ids[start : start + prompt_tokens]) for start in starts])


def _sources(num_characters: int) -> Iterator[str]:
    """Yield sources of the standard library up to a number of characters."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    paths = [path for path in paths if "site-packages" not in path.parts]
    random.Random(0).shuffle(paths)  # nosec B311
    for path in paths:
        if num_characters <= 0:
            return
        text = path.read_text(encoding="utf-8", errors="ignore")
        num_characters -= len(text)
        yield text


def _trained(texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=[_BEGIN, _END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _architecture(vocab_size: int, num_tokens: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": vocab_size,
        "max_position_embeddings": max(4096, 2 * num_tokens),
        "torch_dtype": "bfloat16",
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
