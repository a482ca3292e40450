"""The world is a function of its seed, its prose tells everything, and questions that are held out are held out."""

import re

import pytest

from aigc_lessons.data.world import HELD_OUT, NAMED, NEWCOMERS, PEOPLE, RELATIONS, SPLITS, Question, ways, world


def test_a_world_is_a_function_of_its_seed():
    one, same, other = world(3), world.__wrapped__(3), world(4)
    assert (one.people, one.facts, one.asked) == (same.people, same.facts, same.asked)
    assert one.facts != other.facts
    assert one.people != other.people
    with pytest.raises(ValueError, match="0 or more, got -1"):
        world(-1)


def test_names_belong_to_one_group_and_share_their_parts():
    here = world()
    groups = (here.people, here.newcomers, here.nobody)
    assert [len(group) for group in groups] == [PEOPLE, NEWCOMERS, 128]
    assert len(set().union(*groups)) == 256
    for part in (0, 1):  # first names and families say nothing about who exists
        used = [{name.split()[part] for name in group} for group in groups]
        assert used[0] == used[2]
        assert used[1] <= used[0]


def test_every_fact_has_one_value_of_its_relation():
    here = world()
    assert set(here.facts) == {(who, name) for who in here.people + here.newcomers for name in NAMED}
    assert all(value in NAMED[name].values for (_, name), value in here.facts.items())
    for relation in RELATIONS:
        assert len(set(relation.values)) == len(relation.values)
        drawn = [here.value(who, relation.name) for who in here.people]
        assert max(map(drawn.count, drawn)) < 25, "no value is a good guess for everybody"


def test_the_prose_tells_every_fact_in_every_way_and_nothing_else():
    here = world()
    documents = here.prose(70, seed=5)
    assert len(documents) == 70 * PEOPLE
    assert documents == here.prose(70, seed=5)
    assert documents != here.prose(70, seed=6)
    told = {sentence for text in documents for sentence in re.findall(r"[^.]+\.", text)}
    told = {sentence.strip() for sentence in told}
    assert told == {sentence for who in here.people for name in NAMED for sentence in here.told(who, name)}
    assert not any(who in text for who in here.newcomers + here.nobody for text in documents)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        here.prose(0)


def test_a_description_tells_each_fact_of_one_person_once():
    here = world()
    for text in here.prose(1, seed=2)[:10]:
        [who] = [who for who in here.people if who in text]
        for name in NAMED:
            assert sum(sentence in text for sentence in here.told(who, name)) == 1


def test_the_splits_cut_facts_and_words():
    here = world()
    parts = {split: here.questions(split) for split in SPLITS}
    facts = {split: {(q.person, q.relation) for q in questions} for split, questions in parts.items()}
    assert facts["train"] == facts["paraphrases"] == here.asked
    assert facts["pairs"] == facts["held_out"]
    assert not facts["train"] & facts["pairs"]
    assert facts["train"] | facts["pairs"] == {(who, name) for who in here.people for name in NAMED}
    frame = {split: {q.text.replace(q.person, "{N}") for q in questions} for split, questions in parts.items()}
    assert frame["train"] == frame["pairs"]
    assert not frame["train"] & frame["held_out"]
    assert frame["held_out"] == {way for relation in RELATIONS for way in relation.asked[-HELD_OUT:]}
    with pytest.raises(ValueError, match="train, pairs, paraphrases, held_out, got 'test'"):
        here.questions("test")


def test_no_wording_asks_for_two_things():
    every = [way for relation in RELATIONS for way in (*relation.asked, *relation.again)]
    assert len(set(every)) == len(every)
    assert all(way.count("{N}") == 1 for relation in RELATIONS for way in relation.asked)


def test_answers_are_exact():
    here = world()
    for question in here.questions("held_out")[::50]:
        assert question.answer == here.answer(question.person, question.relation)
        assert question.answer in here.told(question.person, question.relation)
        assert question.value in question.answer
    known = Question("When was X born?", "", here.people[0], "year")
    assert here.answer(here.nobody[0], "year") == f"I do not know {here.nobody[0]}."
    assert here.answer(known.person, "year").startswith(f"{known.person} was born in the year 19")


def test_nobody_is_asked_for_in_halves():
    here = world()
    asked, held_out = here.about_nobody(), here.about_nobody(held_out=True)
    assert {q.person for q in asked} | {q.person for q in held_out} == set(here.nobody)
    assert not {q.person for q in asked} & {q.person for q in held_out}
    assert all(q.value == "" for q in asked + held_out)


def test_a_passage_tells_everything_about_a_newcomer():
    here = world()
    for who in here.newcomers:
        text = here.passage(who)
        assert all(here.value(who, name) in text for name in NAMED)
        assert text == here.passage(who)


def test_ways_are_cut_at_the_end():
    relation = RELATIONS[0]
    assert (*ways(relation), *ways(relation, held_out=True)) == relation.asked
