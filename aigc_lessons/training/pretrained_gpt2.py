"""GPT-2 from a folder: the two files that `save_pretrained` writes, checked before they are believed."""

import json
import os
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aigc_lessons.models.gpt import GPT
from aigc_lessons.training.checkpoints import CheckpointError

CONFIG, WEIGHTS, OLD_WEIGHTS = "config.json", "model.safetensors", "pytorch_model.bin"
GET = """\
On a machine with a network and `pip install transformers`, run
    python -c "from transformers import GPT2LMHeadModel; GPT2LMHeadModel.from_pretrained('gpt2').save_pretrained('gpt2')"
and copy the folder gpt2/ (config.json and model.safetensors, 550 MB) here. Any network saved in this way will do."""
# what GPT-2 is; a file that says otherwise is another network with the same names
FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}


def load_gpt2(folder: str | os.PathLike) -> GPT:
    """The GPT-2 that lies in a folder, in evaluation mode and float32.

    Reads config.json, and model.safetensors or the older pytorch_model.bin (whose loading is restricted to tensors: it runs
    no code). It never asks a network.

    Raises: CheckpointError that says how to get the files where they are missing, names what is damaged, or says in what the
        folder's network is not GPT-2.
    """
    folder = Path(folder)
    if missing := [name for name, there in _needed(folder).items() if not there]:
        raise CheckpointError(f"no GPT-2 in {folder}: {' and '.join(missing)} missing.\n{GET}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        n_head, block_size, width = config["n_head"], config["n_positions"], config["n_embd"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged, or of another network: {error!r}") from None
    wrong = [f"{k} = {config[k]!r} (GPT-2: {v!r})" for k, v in FIXED.items() if config.get(k, v) != v]
    if config.get("n_inner") not in (None, 4 * width):
        wrong.append(f"n_inner = {config['n_inner']} (GPT-2: {4 * width})")
    if wrong:
        raise CheckpointError(f"{folder / CONFIG} does not describe a GPT-2: {'; '.join(wrong)}")
    weights = {name: tensor.float() for name, tensor in _weights(folder).items()}
    head, table = weights.get("lm_head.weight"), weights.get("transformer.wte.weight", weights.get("wte.weight"))
    if head is not None and table is not None and not torch.equal(head, table):
        raise CheckpointError(f"the head in {folder} is not the embedding; in GPT-2 they are one matrix")
    try:
        model = GPT.from_gpt2(weights, n_head)
    except ValueError as error:
        raise CheckpointError(f"the weights in {folder} do not make a GPT-2: {error}") from None
    if (model.config.block_size, model.config.n_embd) != (block_size, width):
        found = f"{model.config.block_size} positions of width {model.config.n_embd}"
        raise CheckpointError(f"{CONFIG} says {block_size} positions of width {width}, the weights have {found}")
    return model.eval()


def _needed(folder: Path) -> dict[str, bool]:
    """The files that must be there, and whether they are."""
    return {
        CONFIG: (folder / CONFIG).is_file(),
        WEIGHTS: (folder / WEIGHTS).is_file() or (folder / OLD_WEIGHTS).is_file(),
    }


def _weights(folder: Path) -> dict[str, Tensor]:
    """The tensors; from the safetensors file where both are there."""
    file = folder / WEIGHTS if (folder / WEIGHTS).is_file() else folder / OLD_WEIGHTS
    try:
        if file.name == WEIGHTS:
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{file} is damaged or cut short ({error})") from None
