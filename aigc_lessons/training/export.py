"""A GPT in the form in which others expect one: a folder that `transformers` loads without knowing this package.

    model.safetensors        the weights, under GPT-2's names and in its layout
    config.json              the sizes, as a GPT-2
    generation_config.json   how to write: greedily, unless asked otherwise
    tokenizer.json           in the format of the `tokenizers` library; tokenizer_config.json says who reads it
    README.md                the model card

Only the "gpt2" style: `transformers` builds a network from the class that config.json names, and it has one that is exactly
GPT-2, but none that is our "modern" mixture. A class of one's own would have to travel as a program, which the receiver
would have to trust and run.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from aigc_lessons.data.files import scratch_folder
from aigc_lessons.language import bpe
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.models.gpt import GPT

FILES = (
    "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"
)  # fmt: skip
CARD = {  # headings of a model card, and what has to stand under each
    "What it is": "kind and size of the model, who made it, when",
    "What it is for": "uses it was made for",
    "What it is not for": "uses it will fail at, or harm with",
    "Data": "what it has read, and under which terms",
    "Training": "recipe, steps, seconds, hardware",
    "Measured": "numbers, each with what it was measured on and how sure it is",
    "Known faults": "what was looked for and found",
    "Licence": "terms of use",
}


class ExportError(ValueError):
    """This model or tokenizer cannot be exported; the message says why, and what would work."""


def export_gpt2(folder: str | os.PathLike, model: GPT, tokenizer: BPETokenizer, card: Mapping[str, str], *,
                end: str | None = None) -> Path:  # fmt: skip
    """Write the folder, in one step: at any moment it holds a whole model, or does not exist.

    Args:
        folder: must not exist, or be an export that is to be replaced.
        model:  in the "gpt2" style.
        card:   a text for each heading of CARD.
        end:    the special token with which a text ends, if there is one.
    Returns: the folder.
    Raises: ExportError for the "modern" style, a tokenizer of another vocabulary, a card with a heading missing or empty,
        an unknown end token; FileExistsError for a folder that holds other files.
    """
    folder, config = Path(folder), model.config
    if config.style != "gpt2":
        raise ExportError(
            "only the 'gpt2' style can be exported: transformers has a class for GPT-2, and none with RMSNorm, RoPE,"
            f" QK-norm and squared ReLU together, as this {config.style!r} model has. Train one with"
            " GPTConfig(..., style='gpt2'); or share a 'modern' one with training.checkpoints.save, for those who have"
            " this package"
        )
    if tokenizer.vocab_size != config.vocab_size:
        raise ExportError(f"the model has {config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}")
    if end is not None and end not in tokenizer.special_tokens:
        raise ExportError(f"{end!r} is no special token here; there are: {[*tokenizer.special_tokens] or 'none'}")
    text = model_card(folder.name, card)
    if folder.exists() and (foreign := sorted({p.name for p in folder.iterdir()} - {*FILES})):
        raise FileExistsError(f"{folder} holds files that no export wrote, such as {foreign[0]}: choose another folder")
    number = None if end is None else tokenizer.special_tokens[end]
    documents = {
        "config.json": config_json(model, number),
        "generation_config.json": {"do_sample": False, "eos_token_id": number, "pad_token_id": number},
        "tokenizer.json": tokenizer_json(tokenizer),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.block_size,
            "clean_up_tokenization_spaces": False,
        } | ({} if end is None else {"eos_token": end, "pad_token": end}),
    }  # fmt: skip
    with scratch_folder(folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = scratch / "fresh"
        fresh.mkdir()
        save_file(model.to_gpt2(), fresh / "model.safetensors", {"format": "pt"})
        for file, document in documents.items():
            (fresh / file).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (fresh / "README.md").write_text(text, encoding="utf-8")
        if folder.exists():
            os.replace(folder, scratch / "old")
        os.replace(fresh, folder)
    return folder


def config_json(model: GPT, end: int | None = None) -> dict:
    """The sizes under the names that `transformers` gives them."""
    c = model.config
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": c.vocab_size, "n_positions": c.block_size,
        "n_embd": c.n_embd, "n_layer": c.n_layer, "n_head": c.n_head, "n_inner": None, "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "bos_token_id": end, "eos_token_id": end,
        "attn_pdrop": c.dropout, "embd_pdrop": c.dropout, "resid_pdrop": c.dropout, "dtype": "float32",
    }  # fmt: skip


def tokenizer_json(tokenizer: BPETokenizer) -> dict:
    """The tokenizer as the `tokenizers` library writes it: same pattern, same merges, same ids.

    Tokens are bytes; the library spells each byte with one character that can be printed (a space is Ġ).
    """
    spell = dict(zip(bpe.BYTE_ORDER, _byte_characters(), strict=True))
    spelled = ["".join(spell[byte] for byte in tokenizer.decode_bytes([i])) for i in range(len(tokenizer.ranks))]
    split = {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False}
            for name, i in tokenizer.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(spelled)},
            "merges": [[spelled[left], spelled[right]] for left, right in tokenizer.merges],
        },
    }  # fmt: skip


def model_card(name: str, card: Mapping[str, str]) -> str:
    """The card as Markdown, with the headings of CARD in their order.

    Raises: ExportError naming a heading that is missing, empty, or not one of CARD.
    """
    for heading, wanted in CARD.items():
        if not card.get(heading, "").strip():
            raise ExportError(f"the model card says nothing under {heading!r}: {wanted}")
    if unknown := [heading for heading in card if heading not in CARD]:
        raise ExportError(f"a model card has no heading {unknown[0]!r}; it has: {', '.join(CARD)}")
    return f"# {name}\n" + "".join(f"\n## {heading}\n\n{card[heading].strip()}\n" for heading in CARD)


def _byte_characters() -> list[str]:
    """A character for each byte, in the order of bpe.BYTE_ORDER: itself if it can be printed, else from U+0100 on."""
    plain = [byte for byte in bpe.BYTE_ORDER if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
    return [chr(byte) for byte in plain] + [chr(256 + k) for k in range(256 - len(plain))]
