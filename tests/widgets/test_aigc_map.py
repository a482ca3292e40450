"""The map of AIGC without a browser: what is sent to it, and its still picture."""

import base64
import io
import json

import pytest
import torch
from matplotlib import image
from matplotlib import pyplot as plt

from aigc_lessons import plots
from aigc_lessons.studio import taxonomy
from aigc_lessons.widgets.aigc_map import AigcMap, Sample, _latin, show_aigc, tree_of
from aigc_lessons.widgets.figure import summarise


def course(*ready):
    """A course map with every lesson that the taxonomy names; only `ready` ones are written."""
    numbers = sorted({leaf.built_by for leaf in taxonomy.leaves().values() if leaf.built_by})
    lessons = [{"number": n, "title": f"Title {n}", "ready": n in ready, "after": []} for n in numbers]
    for lesson in lessons:
        if lesson["ready"]:
            lesson["file"] = f"{lesson['number']}_x.ipynb"
    return [{"title": "All", "lessons": lessons}]


def leaf_of(tree, key):
    return next(leaf for branch in tree["branches"] for leaf in branch["leaves"] if leaf["key"] == key)


def test_only_written_lessons_are_promised():
    tree = tree_of(course("13"), {})
    ready = [leaf["key"] for branch in tree["branches"] for leaf in branch["leaves"] if leaf["lesson"]["ready"]]
    assert ready == ["image_generation"]
    assert leaf_of(tree, "image_generation")["lesson"]["file"] == "13_x.ipynb"
    planned = leaf_of(tree, "dialogue")["lesson"]
    assert (planned["number"], planned["title"], planned["file"]) == ("36", "Title 36", None)


def test_a_leaf_without_a_lesson_says_so(monkeypatch):
    text = taxonomy.TEXT
    orphan = taxonomy.Leaf("x", "X", "无", "It is. ", "It works.", ("A", "B"), None)
    monkeypatch.setattr(taxonomy, "BRANCHES", (taxonomy.Branch("text", "T", "文", text.means, text.works, (orphan,)),))
    assert leaf_of(tree_of(course(), {}), "x")["lesson"] is None


def test_areas_and_techniques_point_at_one_another():
    tree = tree_of(course(), {})
    for area in taxonomy.AREAS.leaves:
        for key in area.uses:
            assert area.key in leaf_of(tree, key)["used_in"]
    assert leaf_of(tree, "pose_control")["used_in"] == []


def test_samples_are_packed_where_they_belong():
    drawn = torch.linspace(-1, 1, 12 * 36).view(12, 1, 6, 6)
    tree = tree_of(course(), {"image_generation": Sample("by us", images=drawn), "dialogue": Sample("by it", text="Ay.")})
    packed = leaf_of(tree, "image_generation")["sample"]
    kind, data = packed["picture"].split(",")
    assert kind == "data:image/png;base64"
    sheet = image.imread(io.BytesIO(base64.b64decode(data)))[..., 0]
    assert sheet.shape == (14, 78)  # two rows of up to ten, two pixels between
    assert abs(sheet - plots.tile(drawn, 10)).max() < 2 / 255
    assert leaf_of(tree, "dialogue")["sample"] == {"made_by": "by it", "picture": None, "text": "Ay."}
    assert leaf_of(tree, "news")["sample"] is None
    with pytest.raises(KeyError, match="no leaf 'poetry'"):
        tree_of(course(), {"poetry": Sample("by us", text="x")})


def test_the_widget_holds_plain_data():
    widget = AigcMap(course("13"))
    assert json.loads(json.dumps(widget.tree)) == widget.tree
    assert widget.chosen == widget.tree["key"] == "aigc"
    assert "needs a running kernel" in repr(widget)


def test_the_still_map_names_every_leaf_and_its_lesson():
    figure, (ax,) = plots.panels(1)
    show_aigc(ax, course("13"))
    words = [text.get_text() for text in ax.texts]
    for leaf in taxonomy.leaves().values():
        assert leaf.name in words
        assert leaf.built_by in words
    assert summarise(figure)[0]["points"]
    assert all(ord(c) < 0x2E80 for word in words for c in word), "plots have no Chinese font"
    plt.close(figure)


@pytest.mark.parametrize(
    ("product", "latin"),
    [("可灵 (Kling)", "Kling"), ("DALL·E", "DALL·E"), ("StyleGAN (This)", "StyleGAN (This)"), ("豆包 (A (B))", "A (B)")],
)
def test_products_in_latin_letters(product, latin):
    assert _latin(product) == latin
