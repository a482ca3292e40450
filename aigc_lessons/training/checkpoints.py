"""Checkpoints: one safetensors file, written in one step, checked by hash when read. No pickle: loading runs no code.

The tensors of a nested state lie in the file as they are; everything else (numbers, strings, the nesting) is one JSON
document in the file's header, together with a SHA-256 over both.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aigc_lessons.data.files import scratch_folder
from aigc_lessons.models.convnet import ConvNet, ConvNetConfig
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.unet import UNet, UNetConfig

FORMAT = "aigc-lessons 1"
NETWORKS = {"UNet": (UNet, UNetConfig), "ConvNet": (ConvNet, ConvNetConfig), "GPT": (GPT, GPTConfig)}


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or of another kind; the message says what to do."""


def save(path: str | os.PathLike, state: Any) -> Path:
    """Write a state so that at any moment, even after kill -9 or a power cut, `path` holds a whole checkpoint or none.

    The checkpoint that was there before stays beside it as NAME.previous.safetensors.

    Args:
        path:  ends in .safetensors (added if missing); the folder is made.
        state: nested dicts, lists and tuples of tensors, numbers, strings, booleans and None.
    Returns: the path written.
    Raises: TypeError naming the entry that is none of these; OSError if the disk refuses.
    """
    path = _with_suffix(path)
    tensors: dict[str, Tensor] = {}
    document = json.dumps(_encode(state, "state", tensors))
    metadata = {"format": FORMAT, "document": document, "sha256": _digest(document, tensors)}
    with scratch_folder(path.parent, prefix=f".{path.stem}-") as scratch:
        fresh = scratch / "fresh.safetensors"
        save_file(tensors, fresh, metadata)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        if path.exists():  # a second name for the old file, so that there is no moment without a checkpoint
            old = scratch / "old.safetensors"
            try:
                os.link(path, old)
            except OSError:  # file systems without links
                shutil.copyfile(path, old)
            os.replace(old, previous(path))
        os.replace(fresh, path)
    return path


def load(path: str | os.PathLike) -> Any:
    """The state that `save` wrote.

    Raises: CheckpointError if there is no such file, it is damaged, cut short, or was not written by `save`. When the
        checkpoint before it is still there, the message names it; it is never used unasked.
    """
    path = _with_suffix(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}" + _hint(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({error})" + _hint(path)) from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of this package" + _hint(path))
    if metadata.get("sha256") != _digest(metadata.get("document", ""), tensors):
        raise CheckpointError(f"{path} is damaged: its contents do not match their SHA-256" + _hint(path))
    return _decode(json.loads(metadata["document"]), tensors)


def previous(path: str | os.PathLike) -> Path:
    """Where `save` keeps the checkpoint before the last."""
    path = _with_suffix(path)
    return path.with_name(f"{path.stem}.previous.safetensors")


def card(name: str) -> dict:
    """The JSON card of a shipped checkpoint: recipe, network, data hash, seed, steps, seconds, metrics, licence.

    Raises: CheckpointError listing the names there are.
    """
    file = _shipped() / f"{name}.json"
    if not file.is_file():
        raise CheckpointError(f"no shipped checkpoint is called {name!r}; there are: {', '.join(shipped())}")
    return json.loads(file.read_text(encoding="utf-8"))


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(Path(entry.name).stem for entry in _shipped().iterdir() if entry.name.endswith(".json"))


def pretrained(name: str) -> nn.Module:
    """A shipped network, rebuilt from its card and in evaluation mode.

    Raises: CheckpointError for an unknown name or a file that does not match its card.
    """
    described = card(name)
    file = _shipped() / f"{name}.safetensors"
    if hashlib.sha256(file.read_bytes()).hexdigest() != described["sha256"]:
        raise CheckpointError(f"{file} does not match its card; reinstall the package, or run: aigc-lessons train {name}")
    network, config = NETWORKS[described["network"]["class"]]
    with torch.random.fork_rng(devices=[]):  # first weights are drawn and then replaced: leave the global state alone
        model = network(config(**described["network"]["config"]))
    model.load_state_dict(load(file)["model"])
    return model.eval().requires_grad_(False)


def ship(name: str, model: nn.Module, facts: dict, folder: Path | None = None) -> Path:
    """Write a network and its card where `pretrained` finds them.

    Args:
        model: one of NETWORKS, with its configuration in `.config`.
        facts: what else the card says (JSON).
    """
    folder = _shipped() if folder is None else folder
    file = save(folder / f"{name}.safetensors", {"model": model.state_dict()})
    previous(file).unlink(missing_ok=True)  # git keeps the history of shipped files
    network = {"class": type(model).__name__, "config": asdict(model.config)}
    full = {"name": name, "network": network, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **facts}
    (folder / f"{name}.json").write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")
    return file


def _shipped() -> Path:
    return Path(str(resources.files("aigc_lessons"))) / "weights"


def _with_suffix(path: str | os.PathLike) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def _hint(path: Path) -> str:
    older = previous(path)
    if path == older or not older.is_file():
        return ""
    return f". The checkpoint before it is {older}; to use that one, ask for it by name"


def _digest(document: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON, with tensors put aside under the name of their place."""
    if isinstance(value, Tensor):
        tensors[where] = value.detach().cpu().contiguous().clone()  # a clone: safetensors refuses shared memory
        return {"tensor": where}
    if isinstance(value, dict):  # as pairs, since keys may be integers
        return {"dict": [[key, _encode(entry, f"{where}/{key}", tensors)] for key, entry in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(entry, f"{where}/{i}", tensors) for i, entry in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors, numbers, strings, lists and dicts")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, held)] = value.items()
    if kind == "tensor":
        return tensors[held]
    if kind == "dict":
        return {key: _decode(entry, tensors) for key, entry in held}
    return (tuple if kind == "tuple" else list)(_decode(entry, tensors) for entry in held)
