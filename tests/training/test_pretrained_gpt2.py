"""GPT-2 from a folder that `transformers` wrote; and folders that are not one."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from aigc_lessons.training.checkpoints import CheckpointError
from aigc_lessons.training.pretrained_gpt2 import CONFIG, OLD_WEIGHTS, WEIGHTS, load_gpt2


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=31, n_positions=24, n_embd=16, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0)
        ).eval()
        for p in model.parameters():
            p.data.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to be spoiled."""
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((saved[0] / name).read_bytes())
    return tmp_path


def change(folder, **entries):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | entries))


@torch.no_grad()
def test_the_network_in_the_folder_is_theirs(saved, generator):
    folder, theirs = saved
    ids = torch.randint(31, (3, 24), generator=generator)
    model = load_gpt2(folder)
    assert not model.training
    assert model.config.n_head == 4, "which the weights do not tell"
    assert (model(ids) - theirs(ids).logits).abs().max() < 1e-4
    wanted = theirs.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.to_gpt2().items())


@torch.no_grad()
def test_other_spellings_of_the_weights(folder, saved):
    """The older file; names without a prefix; half precision, which comes back as float32."""
    ids, wanted = torch.arange(24)[None], load_gpt2(saved[0])
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(weights, folder / OLD_WEIGHTS)
    assert torch.equal(load_gpt2(folder)(ids), wanted(ids))
    bare = {name.removeprefix("transformer."): tensor.half() for name, tensor in weights.items() if name != "lm_head.weight"}
    save_file(bare, folder / WEIGHTS)
    assert load_gpt2(folder).embed.weight.dtype == torch.float32
    assert torch.allclose(load_gpt2(folder)(ids), wanted(ids), atol=0.2)


@pytest.mark.parametrize(("gone", "says"), [(CONFIG, "config.json missing"), (WEIGHTS, "model.safetensors missing")])
def test_a_missing_file_tells_how_to_get_it(folder, gone, says):
    (folder / gone).unlink()
    with pytest.raises(CheckpointError, match=says) as caught:
        load_gpt2(folder)
    assert "save_pretrained('gpt2')" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"config\.json and model\.safetensors missing"):
        load_gpt2(folder / "nowhere")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"model_type": "llama"}, "model_type = 'llama'"),
        ({"activation_function": "gelu"}, r"activation_function = 'gelu' \(GPT-2: 'gelu_new'\)"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"n_inner": 48}, r"n_inner = 48 \(GPT-2: 64\)"),
        ({"n_positions": 32}, "says 32 positions of width 16, the weights have 24"),
        ({"n_head": 3}, "n_head must divide n_embd, got 3 and 16"),
    ],
)
def test_another_network_is_refused(folder, entries, says):
    change(folder, **entries)
    with pytest.raises(CheckpointError, match=says):
        load_gpt2(folder)


def test_damage_is_named(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_gpt2(folder)
    (folder / WEIGHTS).unlink()
    (folder / OLD_WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_gpt2(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_gpt2(folder)


def test_a_head_of_its_own_is_refused(folder):
    weights = load_file(folder / WEIGHTS)
    save_file({**weights, "lm_head.weight": weights["transformer.wte.weight"] + 1}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"head .* is not the embedding"):
        load_gpt2(folder)
    del weights["transformer.h.1.ln_2.bias"]
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"lacks h\.1\.ln_2\.bias"):
        load_gpt2(folder)


def test_a_file_that_would_run_code_does_not(folder):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    (folder / WEIGHTS).unlink()
    torch.save({"x": Evil()}, folder / OLD_WEIGHTS)
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_gpt2(folder)
