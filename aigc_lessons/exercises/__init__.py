from aigc_lessons.exercises.core import CheckResult, check

__all__ = ["CheckResult", "check"]
