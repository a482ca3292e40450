"""The course on one page: every lesson, what it needs first, and how long it takes."""

from pathlib import Path

import anywidget
import traitlets


class CourseMap(anywidget.AnyWidget):
    """Lessons as tiles, one row a part. Choosing one tells what it promises and marks what to know first.

    Args:
        parts: from `lessons.course_map()`: [{"title", "lessons": [{"number", "title", "ready", "after", "file", "promise",
               "reading_minutes", "running"}]}].
    """

    _esm = Path(__file__).with_name("course_map.js")
    _css = Path(__file__).with_name("course_map.css")
    parts = traitlets.List().tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)

    def __init__(self, parts: list[dict]):
        super().__init__(parts=parts)

    def __repr__(self) -> str:
        return "the course map, interactive (needs a running kernel)"
