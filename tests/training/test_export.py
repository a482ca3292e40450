"""The exported folder, read by libraries that know nothing of this package; and what cannot be exported."""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from aigc_lessons.language.generation import generate
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.training import export
from aigc_lessons.training.export import CARD, ExportError, export_gpt2, tokenizer_json
from aigc_lessons.training.pretrained_gpt2 import load_gpt2

END = "<|end|>"
TEXT = "To be, or not to be: that is the question.\n'Tis nobler in the mind's eye; 12 to 4568 souls, été 四海。 " * 20
CARD_TEXT = {heading: f"about: {wanted}" for heading, wanted in CARD.items()}
STRINGS = [
    TEXT[:200],
    "  two  spaces\t\ttabs \r\n ends ",
    "don't I'LL we've",
    f"{END}to be{END}{END}",
    "四海之内皆兄弟 été 😀 \u00a0 x",
    "\x00\x01\x7f\xad\xff",
    "",
]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT, 318, special_tokens=(END, "<|user|>"))


def small(dtype=torch.float32, style="gpt2", vocab_size=318):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT(GPTConfig(vocab_size, 32, 2, 2, 16, style=style)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.3)
    return model if dtype == torch.float32 else model.to(dtype)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    return export_gpt2(tmp_path_factory.mktemp("out") / "small", small(), tokenizer, CARD_TEXT, end=END)


@pytest.fixture
def quiet():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity_warning()


def load(folder, dtype):
    with torch.random.fork_rng():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_transformers_gives_the_same_logits(folder, tokenizer, quiet, dtype, limit):
    ids = torch.tensor([tokenizer.encode(TEXT)[:32]])
    with torch.no_grad():
        ours, theirs = small().to(dtype)(ids), load(folder, dtype)(ids).logits
    assert (ours - theirs).abs().max() <= limit * ours.abs().max()


def test_transformers_writes_the_same_text(folder, tokenizer, quiet):
    model, theirs = load(folder, torch.float32), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer.encode("To be, or")])
    with torch.random.fork_rng():
        written = model.generate(ids, max_new_tokens=20)[0]
    ours = torch.cat([ids[0], *generate(small(), ids, 20, temperature=0)])
    end = (ours == tokenizer.special_tokens[END]).nonzero()
    ours = ours[: int(end[0]) + 1] if len(end) else ours
    assert torch.equal(written, ours)
    assert theirs.decode(written) == tokenizer.decode(ours)
    assert theirs.eos_token == END
    assert not GenerationConfig.from_pretrained(folder).do_sample


def test_the_weights_come_back_identical(folder, quiet, tmp_path):
    state = small().state_dict()
    load(folder, None).save_pretrained(tmp_path / "back")
    for source in (folder, tmp_path / "back"):
        assert all(torch.equal(tensor, load_gpt2(source).state_dict()[name]) for name, tensor in state.items())
    for back in (
        GPT.from_gpt2(load_file(folder / "model.safetensors"), 2),
        GPT.from_gpt2(load(folder, None).state_dict(), 2),
    ):
        assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize("text", STRINGS)
def test_the_tokenizers_library_gives_the_same_ids(folder, tokenizer, text):
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text, [END])
    assert theirs.encode(text).ids == ids
    assert theirs.decode(ids, skip_special_tokens=False) == text
    assert theirs.get_vocab_size() == tokenizer.vocab_size


def test_another_pattern_travels_too():
    ours = BPETokenizer.train(TEXT, 300, pattern=r"\S+|\s+")
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(ours)))
    assert theirs.encode(TEXT).ids == ours.encode(TEXT)


def test_the_card_has_every_heading(folder):
    card = (folder / "README.md").read_text()
    assert card.startswith("# small\n")
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == [*CARD]
    assert {path.name for path in folder.iterdir()} == {*export.FILES}


def test_an_export_is_replaced_and_nothing_else(folder, tokenizer, tmp_path):
    again = export_gpt2(tmp_path / "small", small(), tokenizer, CARD_TEXT)
    assert export_gpt2(again, small(), tokenizer, CARD_TEXT | {"Licence": "MIT"}) == again
    assert "MIT" in (again / "README.md").read_text()
    assert json.loads((again / "config.json").read_text())["eos_token_id"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]
    (again / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"precious\.txt"):
        export_gpt2(again, small(), tokenizer, CARD_TEXT)
    assert (again / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "modern"}, "only the 'gpt2' style .* 'modern'"),
        ({"model": "other size"}, "the model has 319 tokens and the tokenizer 318"),
        ({"end": "<|eos|>"}, "no special token here; there are"),
        ({"card": CARD_TEXT | {"Data": " "}}, "nothing under 'Data': what it has read"),
        ({"card": CARD_TEXT | {"Fame": "much"}}, "no heading 'Fame'"),
    ],
)
def test_what_cannot_be_exported_says_why(tokenizer, tmp_path, change, says):
    models = {"modern": small(style="modern"), "other size": small(vocab_size=319)}
    given = {"card": CARD_TEXT, "end": None} | change
    with pytest.raises(ExportError, match=says):
        export_gpt2(tmp_path / "x", models.get(given.get("model"), small()), tokenizer, given["card"], end=given["end"])
    assert not (tmp_path / "x").exists()


def test_planted_mistakes_are_caught(tokenizer, tmp_path, quiet, monkeypatch):
    config = export.config_json
    for key, wrong in (("activation_function", "gelu"), ("layer_norm_epsilon", 1e-2), ("n_head", 4)):
        monkeypatch.setattr(export, "config_json", lambda *a, key=key, wrong=wrong: config(*a) | {key: wrong})
        folder = export_gpt2(tmp_path / key, small(), tokenizer, CARD_TEXT)
        with pytest.raises(AssertionError):
            test_transformers_gives_the_same_logits(folder, tokenizer, None, torch.float64, 1e-9)
