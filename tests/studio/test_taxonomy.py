"""The map of AIGC: everything the syllabus names is there, each entry is complete, and no lesson is invented."""

import json
import re

import pytest

from aigc_lessons.lessons import checkout
from aigc_lessons.studio import taxonomy

LEAVES = taxonomy.leaves()
CLASSES = {
    "Text": "article writing, style transfer, question answering, dialogue",
    "Audio": "text to speech, voice conversion, voice attribute editing, music synthesis,"
    " scene-sound generation and editing",
    "Image and video": "face generation, replacement, attribute editing, manipulation, pose control,"
    " image and video editing, image generation, video generation, enhancement, restoration, style replication",
    "Virtual space": "3-d reconstruction, digital simulation, digital humans, virtual scenes",
    "Areas of use": "content creation, advertising, news, film, games, education, marketing",
}


def missing(branches, named=CLASSES):
    """What the syllabus names and the branches do not."""
    found = {branch.name: " | ".join(leaf.name.lower() for leaf in branch.leaves) for branch in branches}
    return [term for name, terms in named.items() for term in terms.split(", ") if term not in found.get(name, "")]


def test_everything_the_syllabus_names_is_on_the_map():
    assert [branch.name for branch in taxonomy.BRANCHES] == list(CLASSES)
    assert missing(taxonomy.BRANCHES) == []
    assert len(taxonomy.AREAS.leaves) == 7


def test_the_search_for_missing_entries_can_fail():
    assert missing(taxonomy.BRANCHES, CLASSES | {"Text": "translation"}) == ["translation"]
    assert "news" in missing(taxonomy.CLASSES)


def test_the_definition_is_the_course_s():
    assert taxonomy.MEANS == "AIGC is content produced by a program from rules, models and data, not by a person."
    assert "learns a high-dimensional distribution by learning to reverse a gradual noising" in taxonomy.WORKS
    assert "pretrained without labels on text, then fine-tuned with labels for a task" in taxonomy.WORKS


@pytest.mark.parametrize("entry", [*taxonomy.BRANCHES, *LEAVES.values()], ids=lambda entry: entry.key)
def test_an_entry_says_in_two_sentences_what_it_means_and_how_it_works(entry):
    for sentence in (entry.means, entry.works):
        assert re.fullmatch(r"[A-Z][^.!?]{20,250}\.", sentence)
    assert re.fullmatch(r"[\u4e00-\u9fff]{2,}", entry.chinese)


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=lambda leaf: leaf.key)
def test_a_leaf_has_products_and_a_lesson_of_the_syllabus(leaf):
    syllabus = json.loads((checkout() / "course" / "syllabus.json").read_text(encoding="utf-8"))
    numbers = {lesson["number"] for part in syllabus["parts"] for lesson in part["lessons"]}
    assert leaf.built_by is None or leaf.built_by in numbers
    assert 2 <= len(leaf.products) <= 4
    assert len(set(leaf.products)) == len(leaf.products)


def test_keys_are_unique_and_areas_use_techniques_that_exist():
    keys = [leaf.key for branch in taxonomy.BRANCHES for leaf in branch.leaves]
    assert len(keys) == len(set(keys)) == len(LEAVES)
    assert not set(keys) & {branch.key for branch in taxonomy.BRANCHES}
    techniques = {leaf.key for branch in taxonomy.CLASSES for leaf in branch.leaves}
    for area in taxonomy.AREAS.leaves:
        assert area.uses
        assert set(area.uses) <= techniques
    assert not any(LEAVES[key].uses for key in techniques)
