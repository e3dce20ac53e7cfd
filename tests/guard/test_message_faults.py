"""What a person reads in Slack after faults and kills in a random order, over real HTTP and in virtual time."""

from random import Random

import pytest

from .test_doubts import EDIT, POST, KilledError, clock, office, server, slack

__all__ = ["clock", "office", "server", "slack"]
SEEDS = range(6)


class Faults:
    """Faults and kills in a random order; each lasts for one delivery run at most."""

    def __init__(self, office, random):
        self.office, self.random = office, random
        self.open_ones = {}
        """The open incidents by their routes."""
        self.applied_at = office.clock()

    def is_open(self, post):
        return any(f"`{route}`" in post.text for route in self.open_ones)

    def pass_time(self):
        """Have late requests arrive within two minutes: what comes hours later is not expected."""
        if self.office.clock() - self.applied_at > 80:
            self.applied_at = self.office.clock()
            self.office.slack.apply_late()

    def strike(self):
        slack, office, pick = self.office.slack, self.office, self.random.choice
        method = pick([POST, POST, EDIT, "conversations.history", "conversations.replies", "chat.delete"])
        faults = [
            lambda: slack.lose_answers(method=method),
            lambda: slack.lose_answers(method=method),
            lambda: slack.lose_answers(method=method, status=500),
            lambda: slack.delay(method=method),
            lambda: slack.delay(method=method),
            lambda: slack.rate_limit(method=method, retry_after_s=self.random.randrange(1, 20)),
            lambda: slack.fail_with(pick(["internal_error", "fatal_error"]), method=method),
            lambda: setattr(slack, "down", not slack.down),
            lambda: setattr(office.bot, "ends", "before"),
            lambda: setattr(office.bot, "ends", "after"),
            slack.apply_late,
            office.restart,
            self.delete,
        ]
        pick(faults)()

    def delete(self):
        """Delete the message of an incident that goes on, as a person does; the next change posts it again."""
        posts = [each for each in self.office.slack.posts if self.is_open(each)]
        if posts:
            self.office.slack.delete(self.random.choice(posts))

    def end(self):
        slack = self.office.slack
        slack.down = False
        slack.apply_late()
        self.office.restart()


def live(office, random, incidents_in_all=8):
    """Incidents begin, change and end while faults strike."""
    faults, begun = Faults(office, random), 0
    open_ones = faults.open_ones
    while begun < incidents_in_all or open_ones:
        if begun < incidents_in_all and random.random() < 0.4:
            route = f"route-{begun}"
            open_ones[route] = office.begin(route)
            begun += 1
        for route in [each for each in open_ones if random.random() < 0.3]:
            kind = random.choice(["changed", "changed", "resolved"])
            office.say(open_ones[route], kind, route)
            if kind == "resolved":
                del open_ones[route]
        if random.random() < 0.6:
            faults.strike()
        faults.pass_time()
        try:
            office.deliver(random.choice([1, 1, 3, 10, 40]))
        except KilledError:
            office.restart()
    faults.end()
    office.rest(1_500)
    return {f"route-{number}" for number in range(begun)}


@pytest.mark.thorough
@pytest.mark.parametrize("seed", SEEDS)
def test_at_rest_each_incident_is_one_message_or_a_line_that_says_it_is_over(office, seed):
    office.has_threads = bool(seed % 2)
    routes = live(office, Random(seed))
    digests = [each for each in office.slack.posts if "began and ended" in each.text]
    messages = [each for each in office.slack.posts if each not in digests]
    lines = str([each.blocks for each in digests])
    shown = [next(route for route in routes if f"`{route}`" in each.text) for each in messages]
    assert sorted(shown) == sorted(set(shown)), "one message for each incident"
    assert all("resolved" in each.text for each in messages)
    assert all(f"`{route}`" in lines for route in routes - set(shown)), "what has no message is a line of a digest"
    for post in messages:
        replies = [each.metadata["event_payload"]["delivery_id"] for each in office.slack.thread(post)]
        assert len(replies) == len(set(replies)), "no reply twice"
    assert office.doubts == []
