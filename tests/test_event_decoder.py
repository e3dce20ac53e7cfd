"""Server-sent events are decoded as the SDK decodes them, whatever their form and wherever they are cut."""

import json

import pytest
from anthropic._streaming import SSEDecoder
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.claude.event_decoder import DecodedEvent, EventDecoder

LINES = (
    "event: message_start\n", "event: ping\n", "event: error\n", "event: errors\n", "event:ping\n",
    "event: Ping 2\n", "data: {}\n",
    'data: {"text": "é東🙂 \u2028\x85"}\n', "data:\n", "data: \n", "data: [1,\n", ": alive\n", "id: 7\n", "retry: 5\n",
    "\n", "\r\n", "\r", "data: {}\r\n", "e", "event", "tomorrow: x\n",
)  # fmt: skip
WELL = "".join(f'event: {kind}\ndata: {{"type": "{kind}"}}\n\n' for kind in ("message_start", "ping", "message_stop"))
FORMS = (
    WELL, WELL.replace("\n", "\r\n"), WELL.replace("\n", "\r"), WELL.replace("data", "id: 3\ndata"),
    f": alive\n\n{WELL}", WELL.replace("event: ", "event:"), WELL.replace("message_", "Message "),
    WELL.replace("}", "\ndata: }"),
)  # fmt: skip
bodies = st.lists(st.sampled_from([*LINES, WELL]), max_size=12).map("".join).map(str.encode)


def told(events):
    return [(each.event, each.data) for each in events]


@st.composite
def cut_bodies(draw):
    body = draw(bodies)
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


@given(cut_bodies())
async def test_events_are_those_of_the_sdks_decoder(chunks):
    async def arriving():
        for chunk in chunks:
            yield chunk

    expected = told(SSEDecoder().iter_bytes(iter(chunks)))
    assert told(EventDecoder(SSEDecoder()).iter_bytes(iter(chunks))) == expected
    assert told([event async for event in EventDecoder(SSEDecoder()).aiter_bytes(arriving())]) == expected


def when_told(decoder, chunks):
    """How many events have come when each chunk is asked for."""
    counts, events = [], []

    def arriving():
        for chunk in chunks:
            counts.append(len(events))
            yield chunk

    for event in decoder.iter_bytes(arriving()):
        events.append(event)  # noqa: PERF402 - counted while they come
    return counts


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("form", FORMS)
def test_no_event_comes_later_than_by_the_sdks_decoder(form, size):
    body = (form * 3).encode()
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    pairs = zip(when_told(EventDecoder(SSEDecoder()), chunks), when_told(SSEDecoder(), chunks), strict=True)
    assert all(own >= sdks for own, sdks in pairs)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_events_in_the_apis_form_do_not_need_the_sdks_decoder_and_come_as_soon_as_they_are_whole(size):
    body = WELL.encode()
    read = []

    def arriving():
        for at in range(0, len(body), size):
            read.append(at + size)
            yield body[at : at + size]

    events = EventDecoder(SSEDecoder()).iter_bytes(arriving())
    for event, end in zip(events, [i + 2 for i in range(len(body)) if body.startswith(b"\n\n", i)], strict=True):
        assert isinstance(event, DecodedEvent)
        assert event.json() == json.loads(event.data)
        assert read[-1] - size < end <= read[-1]


def test_a_decoder_of_another_kind_gets_each_chunk_at_once():
    class Frames:
        def iter_bytes(self, chunks):
            return iter(chunks)

    chunks = [b"\x00\x00\x01", b"abc", b"event: ping\ndata: {}\n\n"]
    assert when_told(EventDecoder(Frames()), chunks) == [0, 1, 2]
