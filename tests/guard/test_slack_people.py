"""How long Slack is asked who is in a channel."""

from itertools import count

import pytest

from cheapdeep_ops.guard.slack_actions.clicks import silent_client
from cheapdeep_ops.guard.slack_actions.people import People, UnknownPersonError
from cheapdeep_ops.testing import SimulatedSlack
from tests.clicks import CHANNEL, settings_for


@pytest.mark.thorough
def test_a_search_among_many_members_has_a_total_time_limit():
    with SimulatedSlack() as slack:
        for number in range(3_100):
            slack.people.add(f"U{number:05}")
        settings = settings_for(slack, "sqlite:///unused.db")
        # Each look at the clock comes two seconds after the last one.
        slow = People(silent_client(settings), settings, monotonic=count(step=2.0).__next__)
        assert slow.person("U01500", CHANNEL).id == "U01500", "found on the second page"
        with pytest.raises(UnknownPersonError, match=r"within 5 s .* CHEAPDEEP_SLACK_MAY_ACT"):
            slow.person("U03099", CHANNEL)
        quick = People(silent_client(settings), settings, monotonic=lambda: 0.0)
        assert quick.person("U03099", CHANNEL).id == "U03099"
