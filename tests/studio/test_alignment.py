"""The stage of lesson 37 and its series: prompts, comparisons, the report; what is shipped is complete and repeatable."""

import copy
import dataclasses

import pytest
import torch

from aigc_lessons import experiments
from aigc_lessons.language import rollout
from aigc_lessons.studio import alignment, alignment_series
from aigc_lessons.studio.alignment_series import SEEDS, TUNING_SEED, Setting


@pytest.fixture(scope="module")
def there():
    return alignment.stage()


@pytest.fixture(scope="module")
def shipped():
    return experiments.results("alignment")


def test_prompts_end_where_a_speech_begins(there):
    for ids in (*there.prompts[:20], *there.held_out[:20], *there.fresh(7)):
        assert there.tokenizer.decode(ids).endswith(":\n")
    assert torch.equal(there.batches(4, 1)(3), there.batches(4, 1)(3))
    assert not torch.equal(there.batches(4, 1)(3), there.batches(4, 2)(3))


def test_readers_prefer_by_q(there):
    """300 comparisons: as often for the better one as Bradley and Terry say, within 4 standard errors."""
    c = alignment.compare(there, 300, seed=5)
    p = torch.sigmoid((c.q_first - c.q_second).abs() / alignment.FICKLE)
    better = torch.where(c.q_first > c.q_second, c.prefers_first, ~c.prefers_first)
    clear = c.q_first != c.q_second
    off = (better.float() - p)[clear]
    assert abs(off.mean()) < 4 * ((p * (1 - p))[clear].mean() / clear.sum()).sqrt()
    chosen, rejected = c.sorted()
    assert torch.equal(there.quality(chosen), torch.where(c.prefers_first, c.q_first, c.q_second))
    assert torch.equal(there.quality(rejected), torch.where(c.prefers_first, c.q_second, c.q_first))


def test_a_bag_of_letters_counts_what_was_said(there):
    answers = there.draw(there.reference, there.fresh(5), seed=1)
    counts = alignment.letter_counts(answers, there.tokenizer.vocab_size)
    for line, ended, row in zip(there.lines(answers), answers.ended(there.stop), counts, strict=True):
        assert row.sum() == len(line) + ended
        assert row[there.tokenizer.encode("e")[0]] == line.count("e")


def test_variety_punishes_what_is_said_again(there):
    assert alignment.variety("to be or not to be") == pytest.approx(4 / 6)
    assert alignment.variety("") == 1
    answers = there.draw(there.reference, there.fresh(6), seed=2)
    wanted = [
        q * alignment.variety(line) for q, line in zip(there.quality(answers).tolist(), there.lines(answers), strict=True)
    ]
    assert alignment.varied(there, answers).tolist() == pytest.approx(wanted)


def test_the_report_measures_the_reference_and_a_moved_network(there):
    answers = there.draw(there.reference, there.fresh(16), seed=0)
    told = alignment.report(there, there.reference, answers)
    assert told["kl"] == pytest.approx(0, abs=1e-5)
    assert told["q"] == pytest.approx(there.quality(answers).mean().item())
    moved = copy.deepcopy(there.reference)
    moved.head.weight.data *= 1.3  # as if at a lower temperature
    assert alignment.report(there, moved, answers)["kl"] > 0.5
    nats = -rollout.weigh(there.reference, answers).sum() / answers.mask.sum()
    assert told["odd"] == pytest.approx(nats.item())


def test_the_shipped_series_is_complete(shipped):
    rows = shipped["rows"]
    planned = [dataclasses.asdict(setting) for setting in alignment_series.settings(rows)]
    assert [{name: row[name] for name in planned[0]} for row in rows] == planned
    for method, rates in alignment_series.RATES.items():
        tried = [r for r in rows if (r["method"], r["seed"]) == (method, TUNING_SEED)]
        assert {r["lr"] for r in tried} == set(rates)
    for row in rows:
        assert row["path"][-1]["step"] == row["steps"]


def test_the_bar_is_cleared(shipped):
    """GRPO on the rule: at least 60 % of the gap to the maximum, each of three seeds, at a KL below 20 nats."""
    start = shipped["rows"][0]["path"][0]["q"]
    ends = [r["path"][-1] for r in shipped["rows"] if (r["method"], r["reward"], r["beta"]) == ("grpo", "rule", 0.05)]
    assert len(ends) == len(SEEDS)
    for end in ends:
        assert (end["q"] - start) / (1 - start) >= 0.6
        assert end["kl"] < 20


def test_a_shipped_row_is_reproduced(there, shipped):
    """The reference anew; and a short imitation does what the shipped one does."""
    row = shipped["rows"][0]
    again = alignment_series.measure(Setting("reference", "", 0.0, 0.0, 0, 0), there, there.quality)["path"][0]
    assert again["q"] == pytest.approx(row["path"][0]["q"], abs=0.01)
    assert again["odd"] == pytest.approx(row["path"][0]["odd"], abs=0.02)
    setting = Setting("chosen", "", 0.0, 1e-3, 5, 0)
    steps = list(alignment_series.align(setting, there))
    assert [step for step, _ in steps] == [5]
    answers = there.draw(steps[-1][1], there.fresh(32), seed=0)
    assert alignment.report(there, steps[-1][1], answers)["kl"] > 0.1
