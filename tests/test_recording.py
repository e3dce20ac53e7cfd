import pytest

from cheapdeep_ops.demo.recording import read_recording
from cheapdeep_ops.errors import RecordingError
from tests.corpus import pair_rows, write_csv

HEADER = "id,question,cheap_confidence,cheap_correct,deep_correct,domain\n"


@pytest.fixture
def recording(tmp_path):
    """Writes a file with this content, and gives its path."""

    def written(content):
        path = tmp_path / "pairs.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


def only(path, **where):
    (row,) = read_recording(path, where)
    return row


def refusal(path, **where):
    with pytest.raises(RecordingError) as refused:
        read_recording(path, where)
    return str(refused.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0.8000", 0.8),
        ("1", 1.0),
        ("1.0", 1.0),
        ("0", 0.0),
        ("-0", 0.0),
        ("1e-3", 0.001),
        ("9E-1", 0.9),
        (" 0.9 ", 0.9),
        (".85", 0.85),
        ("0.79999999999999999", 0.8),
        ("0.7999999", 0.7999999),
        ("", None),
        ("  ", None),
    ],
)
def test_a_confidence_is_read_as_the_number_that_it_is(recording, written, read):
    assert only(recording(f"{HEADER}a,q,{written},1,0,d\n")).confidence == read


@pytest.mark.parametrize(("written", "read"), [("1", True), ("0", False), ("", None), (" ", None), (" 1", True)])
def test_truth_is_one_zero_or_unknown(recording, written, read):
    row = only(recording(f"{HEADER}a,q,0.9,{written},{written},d\n"))
    assert row.cheap_correct is read
    assert row.deep_correct is read


def test_columns_beyond_the_two_that_are_needed_may_be_missing(recording):
    row = only(recording("cheap_correct,cheap_confidence\n1,0.9\n"))
    assert (row.confidence, row.cheap_correct) == (0.9, True)
    assert (row.deep_correct, row.domain, row.question) == (None, "", "")


def test_a_byte_order_mark_is_no_part_of_the_first_column(recording):
    assert only(recording(b"\xef\xbb\xbfcheap_confidence,cheap_correct\n0.9,1\n")).confidence == 0.9


def test_a_quoted_field_may_hold_newlines_commas_and_quotes(recording):
    first, second = read_recording(
        recording(HEADER + 'a,"Is ""it"" so,\nor\r\nnot?",0.9,1,0,d\nb,plain,0.7,0,1,e\n'), {}
    )
    assert first.question == 'Is "it" so,\nor\r\nnot?'
    assert (second.question, second.confidence) == ("plain", 0.7)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system_and_blank_ones_are_no_rows(recording, newline):
    text = "cheap_confidence,cheap_correct\n0.9,1\n\n0.8,0\n\n".replace("\n", newline)
    assert [row.confidence for row in read_recording(recording(text), {})] == [0.9, 0.8]


def test_rows_keep_the_order_of_the_file_and_ids_may_repeat(recording):
    text = HEADER + "".join(f"same,q,0.{n},1,0,d\n" for n in (9, 5, 7, 5))
    rows = read_recording(recording(text), {})
    assert [row.confidence for row in rows] == [0.9, 0.5, 0.7, 0.5]
    assert [row.number for row in rows] == [0, 1, 2, 3]


def test_conditions_pick_the_rows_that_fit_all_of_them_and_number_those(recording):
    text = HEADER + "a,q,0.1,1,,x\nb,q,0.2,1,,y\nc,q,0.3,1,,x\nd,q,0.4,0,,x\n"
    rows = read_recording(recording(text), {"domain": "x", "cheap_correct": "1"})
    assert [(row.number, row.confidence) for row in rows] == [(0, 0.1), (1, 0.3)]


def test_a_condition_may_ask_for_what_is_blank(recording):
    assert only(recording(f"{HEADER}a,q,0.1,1,,x\nb,q,0.2,1,,\n"), domain="").confidence == 0.2


def test_faults_of_rows_that_were_not_picked_do_not_matter(recording):
    assert only(recording(f"{HEADER}a,q,ninety,1,,x\nb,q,0.2,1,,y\n"), domain="y").confidence == 0.2


def test_rows_that_the_generator_wrote_come_back_as_they_were(tmp_path):
    written = pair_rows(n=50)
    rows = read_recording(write_csv(tmp_path / "pairs.csv", written), {})
    assert [row.confidence for row in rows] == [each["cheap_confidence"] or None for each in written]
    assert [row.domain for row in rows] == [each["domain"] for each in written]


@pytest.mark.parametrize("value", ["ninety", "1.01", "-0.1", "90", "nan", "inf", "1e9", "0,9", "0x1", "true", "1e999"])
def test_a_confidence_that_is_none_is_named_with_file_line_and_column(recording, value):
    path = recording(f'{HEADER}a,q,0.9,1,0,d\nb,q,"{value}",1,0,d\n')
    assert refusal(path) == f"{path}, line 3: cheap_confidence is {value!r}; it must be from 0 to 1, or blank"


@pytest.mark.parametrize("column", ["cheap_correct", "deep_correct"])
@pytest.mark.parametrize("value", ["yes", "true", "2", "1.0", "-1", "None"])
def test_a_truth_value_that_is_none_is_named_with_file_line_and_column(recording, column, value):
    fields = {"cheap_correct": "1", "deep_correct": "0", column: value}
    path = recording(f"{HEADER}a,q,0.9,{fields['cheap_correct']},{fields['deep_correct']},d\n")
    assert refusal(path) == f"{path}, line 2: {column} is {value!r}; it must be 0, 1 or blank"


def test_the_line_of_a_fault_counts_the_lines_in_quoted_fields(recording):
    path = recording(HEADER + 'a,"two\nlines",0.9,1,0,d\nb,q,x,1,0,d\n')
    assert refusal(path).startswith(f"{path}, line 4: cheap_confidence")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no column cheap_confidence, cheap_correct; it has none"),
        ("\n", "has no column cheap_confidence, cheap_correct; it has none"),
        ("id,cheap_correct\n1,1\n", "has no column cheap_confidence; it has id, cheap_correct"),
        ("Cheap_Confidence,cheap_correct\n1,1\n", "has no column cheap_confidence"),
        ("cheap_confidence;cheap_correct\n1;1\n", "has no column cheap_confidence, cheap_correct"),
        ("cheap_confidence,cheap_correct,cheap_correct\n1,1,0\n", "has more than one column cheap_correct"),
        ("cheap_confidence,cheap_correct\n", "has no row"),
        ("cheap_confidence,cheap_correct\n0.9,1\n0.9\n", "line 3: fewer fields than the header has"),
        ("cheap_confidence,cheap_correct\n0.9,1,5\n", "line 2: more fields than the header has"),
        ('cheap_confidence,cheap_correct\n0.9,1\n0.9,"1"x\n', "line 3: ',' expected after '\"'"),
        ('cheap_confidence,cheap_correct\n0.9,"1\n', "line 2: unexpected end of data"),
        ('"cheap_confidence"x,cheap_correct\n0.9,1\n', "line 1: ',' expected"),
        (f"cheap_confidence,cheap_correct\n{'9' * 200_000},1\n", "line 2: field larger than field limit"),
        (b"cheap_confidence,cheap_correct\n0.9,1\n\xff,1\n", "line 3: not UTF-8 (invalid start byte)"),
        ("cheap_confidence,cheap_correct\n0.9,1\n".encode("utf-16"), "line 1: not UTF-8"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_in_one_line_that_names_it(recording, content, says):
    path = recording(content)
    message = refusal(path)
    assert says in message
    assert str(path) in message
    assert len(message.splitlines()) == 1


def test_conditions_that_fit_nothing_are_repeated(recording):
    path = recording(f"{HEADER}a,q,0.9,1,0,d\n")
    assert refusal(path, domain="law", id="a") == f"{path} has no row with domain=law, id=a"


def test_a_condition_on_a_column_that_is_not_there_names_the_columns(recording):
    path = recording("cheap_confidence,cheap_correct\n1,1\n")
    assert refusal(path, colour="red") == f"{path} has no column colour; it has cheap_confidence, cheap_correct"


def test_a_condition_on_a_column_that_is_there_twice_is_refused(recording):
    path = recording("cheap_confidence,cheap_correct,x,x\n1,1,a,b\n")
    assert refusal(path, x="a") == f"{path} has more than one column x"
    assert only(path).confidence == 1.0


def test_what_cannot_be_opened_is_named(tmp_path):
    assert refusal(tmp_path) == f"cannot read {tmp_path}: Is a directory"
    assert "No such file" in refusal(tmp_path / "nowhere.csv")
