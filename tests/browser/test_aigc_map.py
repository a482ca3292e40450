"""Lesson 01 in JupyterLab, in a browser: the map of AIGC by keyboard and by mouse, and the width of a density."""

import pytest
from browser.harness import latencies, shot

from aigc_lessons.lessons import course_map
from aigc_lessons.studio import taxonomy

LESSON = "01_what_is_aigc.ipynb"
CHOSEN = "document.querySelector('.al-aigc').dataset.chosen"


@pytest.fixture
def page(lesson):
    """Back to the root of the map, and its keyboard focus."""
    lesson.page.locator(".al-aigc").scroll_into_view_if_needed()
    node(lesson.page, "aigc").click()
    return lesson.page


def node(page, key):
    return page.locator(f'.al-node[data-key="{key}"]')


def card(page):
    return page.locator(".al-aigc .al-card")


def leaves(page):
    return page.locator('.al-node[aria-level="3"] b').all_text_contents()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
    return page.evaluate(CHOSEN)


def test_at_first_the_definition_stands_there(page):
    assert taxonomy.MEANS in card(page).text_content()
    assert leaves(page) == []
    assert page.locator('.al-node[aria-level="2"] b').all_text_contents() == [b.name for b in taxonomy.BRANCHES]
    shot(page, "01_map_root")


def test_a_branch_opens_by_mouse_and_closes_the_other(page):
    node(page, "image").click()
    assert leaves(page) == [leaf.name for leaf in taxonomy.IMAGE.leaves]
    assert node(page, "image").get_attribute("aria-expanded") == "true"
    node(page, "audio").click()
    assert leaves(page) == [leaf.name for leaf in taxonomy.AUDIO.leaves]
    assert node(page, "image").get_attribute("aria-expanded") == "false"
    shot(page, "01_map_audio")


def test_a_leaf_tells_its_two_sentences_its_lesson_and_its_sample(page):
    node(page, "image").click()
    node(page, "image_generation").click()
    leaf, said = taxonomy.leaves()["image_generation"], card(page).text_content()
    assert f"{leaf.means} {leaf.works}" in said
    assert leaf.chinese in said
    assert all(product in said for product in leaf.products)
    assert card(page).locator("img").evaluate("e => e.naturalWidth") == 10 * 30 - 2
    assert "Built in lesson 13" in said
    assert card(page).locator("a").get_attribute("href").endswith("/lab/tree/13_ddpm_on_images.ipynb")
    shot(page, "01_map_image_generation")


def test_planned_lessons_are_called_planned_and_show_no_sample(page):
    ready = {lesson["number"] for part in course_map() for lesson in part["lessons"] if lesson["ready"]}
    for branch in taxonomy.BRANCHES:
        node(page, branch.key).click()
        for leaf in branch.leaves:
            node(page, leaf.key).click()
            said = card(page).locator(".al-lesson").text_content()
            written = leaf.built_by in ready
            assert said.startswith(f"{'Built in' if written else 'Planned for'} lesson {leaf.built_by}")
            assert ("not written yet" in said) == (not written)
            assert card(page).locator("a").count() == written
            expected = {"image_generation", "article_writing"}
            assert card(page).locator("figure").count() == (leaf.key in expected)


def test_the_arrow_keys_walk_through_the_tree(page):
    assert press(page, "ArrowRight") == "text"
    assert press(page, "ArrowRight") == "article_writing"
    assert "JULIET" in card(page).locator("pre").text_content()
    shot(page, "01_map_article_writing")
    assert press(page, "ArrowDown") == "text_style_transfer"
    assert press(page, "ArrowDown", "ArrowDown") == "audio"
    assert leaves(page) == [leaf.name for leaf in taxonomy.AUDIO.leaves]
    assert press(page, "ArrowUp") == "text"
    assert press(page, "ArrowLeft") == "aigc"
    assert press(page, "ArrowUp") == "aigc"
    assert press(page, "End") == "areas"
    assert press(page, "End") == taxonomy.AREAS.leaves[-1].key
    assert press(page, "Home") == "aigc"
    assert page.evaluate("document.activeElement.dataset.key") == "aigc"


def test_one_entry_at_a_time_is_selected_and_in_the_order_of_tabs(page):
    press(page, "ArrowRight", "ArrowRight")
    for mark in ('[aria-selected="true"]', '[tabindex="0"]'):
        found = page.locator(f".al-aigc .al-node{mark}")
        assert found.count() == 1
        assert found.get_attribute("data-key") == "article_writing"


def test_areas_and_techniques_lead_to_one_another(page):
    node(page, "areas").click()
    node(page, "film").click()
    shot(page, "01_map_film")
    card(page).locator("button", has_text="Voice conversion").click()
    assert page.evaluate(CHOSEN) == "voice_conversion"
    assert leaves(page) == [leaf.name for leaf in taxonomy.AUDIO.leaves]
    card(page).locator("button", has_text="Film").click()
    assert page.evaluate(CHOSEN) == "film"


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, '.al-aigc [tabindex="0"]', CHOSEN, presses=10)) == 10


def test_the_width_of_the_density_can_be_scrubbed(lesson):
    page = lesson.page
    slider, picture = page.locator(".al-player input"), "document.querySelectorAll('.al-player canvas')[1].toDataURL()"
    slider.scroll_into_view_if_needed()
    slider.focus()
    page.keyboard.press("Home")
    copies = page.evaluate(picture)
    assert "h = 0.010" in page.locator(".al-player output").text_content()
    shot(page, "01_width_narrow")
    page.keyboard.press("End")
    assert page.evaluate(picture) != copies
    assert "h = 1.000" in page.locator(".al-player output").text_content()


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
