"""Whatever the bytes of a trajectories file: trajectories that keep every rule, or one `ValueError`; never more."""

import json
import tracemalloc

import numpy as np
from bad_inputs import in_time
from bad_trajectories import SIGNATURE, WHOLE, chunks_of, png_of
from hypothesis import given, settings
from hypothesis import strategies as st

from trajvit.processing.trajectories import Trajectories

CHUNKS = chunks_of(WHOLE)
HEADER = json.loads(dict(CHUNKS)[b"tEXt"].split(b"\0", 1)[1])
MOST_MEMORY = 60_000_000
"""Bytes beside the file's own: room for what a volume of the largest shape drawn here takes, several times over."""

few = settings(deadline=None, max_examples=60, derandomize=True)

numbers = (
    st.integers(-3, 50)
    | st.sampled_from([2**31, -(2**31), 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 2**200])
    | st.floats()
)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
field_values = (
    anything | st.lists(numbers, min_size=3, max_size=4) | st.lists(st.integers(0, 30), min_size=3, max_size=4)
)


def edits(max_size=12):
    """Some edits of bytes: where, how many are taken out, what is put in."""
    return st.lists(st.tuples(st.floats(0, 1), st.integers(0, max_size), st.binary(max_size=max_size)), max_size=4)


def edited(data: bytes, changes) -> bytes:
    content = bytearray(data)
    for share, taken, put in changes:
        place = int(share * len(content))
        content[place : place + taken] = put
    return bytes(content)


def read(data: bytes) -> str:
    """Read the file under guard; says how it went."""
    tracemalloc.start()
    try:
        with in_time(10):
            found = Trajectories.from_bytes(data)
    except ValueError as error:
        message = str(error)
        assert message.startswith("The data is not a valid trajectories file: ")
        assert "\n" not in message
        assert len(message) < 500
        return "refused"
    else:
        # The constructor checks every rule again.
        again = Trajectories(found.ids, found.frame_indices, found.timestamps, found.key_frames)
        assert again == found == Trajectories.from_bytes(found.to_bytes())
        return "read"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_MEMORY + 10 * len(data)


@few
@given(edits(), st.booleans(), st.integers(0, len(CHUNKS) - 1))
def test_edited_bytes(changes, is_repaired, number):
    if not is_repaired:
        data = edited(WHOLE, changes)
        assert read(data) == ("read" if data == WHOLE else "refused")
        return
    chunks = [(kind, edited(content, changes) if i == number else content) for i, (kind, content) in enumerate(CHUNKS)]
    read(png_of(chunks))


@few
@given(st.dictionaries(st.sampled_from([*HEADER, "other"]), field_values, min_size=1, max_size=3), st.booleans())
def test_headers_that_say_something_else(changes, are_removed):
    told = {name: value for name, value in HEADER.items() if not (are_removed and name in changes)}
    if not are_removed:
        told.update(changes)
    text = b"trajectories\0" + json.dumps(told).encode()
    read(png_of([(kind, text if kind == b"tEXt" else content) for kind, content in CHUNKS]))


@few
@given(
    st.lists(st.sampled_from(CHUNKS) | st.tuples(st.binary(min_size=4, max_size=4), st.binary(max_size=30)), max_size=8)
)
def test_chunks_in_any_order_and_number(chunks):
    read(png_of(chunks))


@few
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data, has_signature):
    assert read(SIGNATURE * has_signature + data) == "refused"


@few
@given(st.binary(max_size=300))
def test_any_stream_of_ids(stream):
    read(png_of([(kind, stream if kind == b"trAJ" else content) for kind, content in CHUNKS]))


def test_the_fuzzer_can_read_what_is_whole():
    assert read(WHOLE) == read(png_of(CHUNKS)) == "read"
    assert np.array_equal(Trajectories.from_bytes(png_of(CHUNKS)).ids, Trajectories.from_bytes(WHOLE).ids)
