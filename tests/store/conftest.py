import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """SQL is the subject here: the fast tests run on both engines."""
    name: str = request.param
    return name
