"""The version of the grader, by which grades are told apart."""

from cheapdeep_ops.claude.rubric import PROMPT_VERSION
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.grades import GraderVersion

# A module of its own, because reports need it and nothing else of the grader.


def grader_version(settings: Settings) -> GraderVersion:
    """The version of the grader that `settings` name: its model and the rubric."""
    return GraderVersion(model=settings.grader_model, prompt=PROMPT_VERSION)
