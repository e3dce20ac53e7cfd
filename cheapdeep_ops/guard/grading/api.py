"""What a grader needs of the API."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.values import GradeResult, ListedBatch


class GradingApi(Protocol):
    """The API as a grader uses it."""

    def grade(self, request: Mapping[str, object]) -> GradeResult:
        """Request the grade of one answer. Raises GraderError."""

    def submit(self, requests: Mapping[str, Mapping[str, object]]) -> str:
        """Submit a batch of requests by custom id; returns the batch's id. Raises GraderError."""

    def results(self, batch_id: str) -> dict[str, GradeResult | GraderError] | None:
        """The results of a batch by custom id, None until it has ended; results that cannot be read are left out.

        Raises GraderError; BatchMissingError if the API does not find the batch or its results.
        """

    def batches(self, *, since: float) -> Sequence[ListedBatch]:
        """The batches of this key's workspace created since `since` (Unix time), newest first. Raises GraderError."""

    def close(self) -> None:
        """Close the connections."""
