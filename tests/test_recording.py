import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.demo.recorded_values import RowReader
from cheapdeep_ops.demo.recording import RecordedTokens, read_recording
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


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1", True), ("0", False), ("", None), (" ", None), (" 1", True), ("1.0", True), ("0.0", False), ("1.", True),
        ("true", True), ("FALSE", False), ("True", True), ("yes", True), ("No", False), ("t", True), ("f", False),
        ("Y", True), ("n", False), ("correct", True), ("incorrect", False), ("right", True), ("WRONG", False),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_files_of_spreadsheets_are_read_whatever_they_are_encoded_and_separated_with(
    recording, encoding, delimiter, newline
):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline)
    writer.writerows(
        [["cheap_confidence", "cheap_correct", "question"], ["0.9", "1", "Ist, das;\tso|?"], ["", "0", "é"]]
    )
    first, second = read_recording(recording(text.getvalue().encode(encoding)), {})
    assert (first.confidence, first.cheap_correct, first.question) == (0.9, True, "Ist, das;\tso|?")
    assert (second.confidence, second.cheap_correct, second.question) == (None, False, "é")


def test_a_mark_in_the_name_of_a_column_is_no_delimiter(recording):
    header = '"a;b;c;d;e",what (a|b|c|d|e),cheap_confidence,cheap_correct'
    assert only(recording(f"{header}\n1,2,0.9,1\n")).confidence == 0.9


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans(), st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_program_writes_comes_back_as_it_was(tmp_path_factory, rows, delimiter, encoding):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["cheap_confidence", "cheap_correct", "question"], *rows])
    read = [(row.confidence, row.cheap_correct, row.question) for row in read_recording(path, {})]
    assert read == rows


def test_the_line_with_which_a_spreadsheet_names_the_delimiter_is_followed(recording):
    assert only(recording("sep=;\r\ncheap_confidence;cheap_correct;a,b,c,d\r\n0,9;1;x\r\n")).confidence == 0.9


@pytest.mark.parametrize(
    "header",
    [
        "Cheap_Confidence,CHEAP_CORRECT,Deep_Correct,Question,Domain",
        " cheap_confidence , cheap_correct,deep_correct ,question,domain",
        "Cheap Confidence,Cheap Correct,deep-correct,Question,Domain",
        "confidence,correct,deep correct,question,domain",
    ],
)
def test_a_column_is_known_in_any_case_and_with_spaces(recording, header):
    row = only(recording(f"{header}\n0.9,1,0,q,d\n"), Domain="d")
    assert (row.confidence, row.cheap_correct, row.deep_correct) == (0.9, True, False)
    assert (row.question, row.domain) == ("q", "d")


def test_a_column_of_the_exact_name_wins_over_one_that_is_like_it(recording):
    row = only(recording("confidence,cheap_confidence,correct,cheap_correct,Question,question\n0.1,0.9,0,1,a,b\n"))
    assert (row.confidence, row.cheap_correct, row.question) == (0.9, True, "b")
    path = recording("Cheap Confidence,CHEAP_CONFIDENCE,cheap_correct\n0.1,0.9,1\n")
    assert refusal(path) == f"{path} has more than one column cheap_confidence"


@pytest.mark.parametrize(
    "column",
    [
        "cheap_confidence_pct",
        "confidence_pct",
        "cheap_confidence_%",
        "Confidence (%)",
        "confidence percent",
        "confidence%",
    ],
)
def test_percentages_in_a_column_that_says_so_are_shares(recording, column):
    rows = read_recording(recording(f"{column},cheap_correct\n93,1\n80,1\n57.0,0\n100,1\n0,0\n93.5%,1\n1,0\n,0\n"), {})
    assert [row.confidence for row in rows] == [0.93, 0.8, 0.57, 1.0, 0.0, 0.935, 0.01, None]


def test_a_value_with_a_sign_of_percent_is_a_percentage_in_any_column(recording):
    rows = read_recording(recording("cheap_confidence,cheap_correct\n93%,1\n 80 % ,1\n0.5%,0\n0.5,0\n"), {})
    assert [row.confidence for row in rows] == [0.93, 0.8, 0.005, 0.5]


def test_shares_in_a_column_of_percentages_are_refused_because_either_may_be_meant(recording):
    path = recording("confidence_pct,cheap_correct\n1,1\n0.93,1\n")
    assert refusal(path) == (
        f"{path}, line 3: 0.93 stands in a column of percentages, which has no value above 1; if these are shares from "
        "0 to 1, name the column cheap_confidence"
    )


@pytest.mark.parametrize("value", ["101", "-1", "1000%", "x"])
def test_a_percentage_that_is_none_is_refused(recording, value):
    path = recording(f"confidence_pct,cheap_correct\n93,1\n{value},1\n")
    assert refusal(path) == f"{path}, line 3: cheap_confidence is {value!r}; it must be from 0 to 100 percent, or blank"


@pytest.mark.parametrize(
    ("written", "read"), [("0,9", 0.9), ("0,80", 0.8), ("1,0", 1.0), ("0.9", 0.9), ("93,5%", 0.935)]
)
def test_a_decimal_comma_is_read_where_commas_separate_nothing(recording, written, read):
    row = only(recording(f"cheap_confidence;cheap_correct\n{written};1,0\n"))
    assert (row.confidence, row.cheap_correct) == (read, True)


def test_a_question_of_any_length_is_read_and_pythons_own_limit_stays(recording):
    limit, question = csv.field_size_limit(), "word " * 28_000
    assert only(recording(f"{HEADER}a,{question},0.9,1,0,d\n")).question == question
    assert csv.field_size_limit() == limit
    refusal(recording(f"{HEADER}a,{question},ninety,1,0,d\n"))
    assert csv.field_size_limit() == limit


def test_rows_that_a_spreadsheet_leaves_blank_are_no_calls_and_an_unusable_reply_is_one(recording):
    text = HEADER + "a,q,0.9,1,0,d,,\n,,,,,\nb,q,,0,1,d\n,,,,,\n  \n,,,,,,,\n"
    assert [row.confidence for row in read_recording(recording(text), {})] == [0.9, None]
    bare = read_recording(recording("cheap_confidence,cheap_correct\n0.9,1\n,\n"), {})
    assert [(row.confidence, row.cheap_correct) for row in bare] == [(0.9, True), (None, None)]


def test_tokens_are_whole_numbers_or_unknown(recording):
    names = "input_tokens,output_tokens,deep_input_tokens,deep_output_tokens"
    text = f"cheap_confidence,cheap_correct,{names}\n0.9,1,700,200.0,1e3,0\n0.9,1,700,,, 5\n0.9,1,,,,\n"
    first, second, third = (row.tokens for row in read_recording(recording(text), {}))
    assert (first.cheap, first.deep) == ((700, 200), (1000, 0))
    assert (second.cheap, second.deep, second.deep_output) == (None, None, 5)
    assert third == RecordedTokens() == only(recording("cheap_confidence,cheap_correct\n1,1\n")).tokens
    assert only(recording("confidence,correct,Cheap Input Tokens,cheap_output_tokens\n1,1,7,8\n")).tokens.cheap == (
        7,
        8,
    )


@pytest.mark.parametrize("value", ["-1", "1.5", "1,024", "1.024", "many", "nan", "inf", "1e10", "1e999999999", "1_000"])
def test_tokens_that_are_none_are_named_with_file_line_and_column(recording, value):
    path = recording(f'cheap_confidence,cheap_correct,deep_output_tokens\n0.9,1,5\n0.9,1,"{value}"\n')
    assert refusal(path) == (
        f"{path}, line 3: deep_output_tokens is {value!r}; it must be a whole number of tokens such as 1024, or blank"
    )


@pytest.mark.parametrize("column", ["question", "domain"])
def test_a_nul_is_refused_where_it_would_be_used_and_only_there(recording, column):
    fields = {"id": "a\0", "question": "q", "domain": "d", column: "x\0y"}
    path = recording(f"{HEADER}a,q,0.9,1,0,d\n{fields['id']},{fields['question']},0.9,1,0,{fields['domain']}\n")
    assert refusal(path) == f"{path}, line 3: {column} has a NUL character: 'x\\x00y'; delete it"
    assert only(recording(f"{HEADER}a\0,q,0.9,1,0,d\n")).question == "q"


@given(st.decimals(0, 1, places=4), st.booleans(), st.booleans())
def test_one_number_is_one_number_however_it_is_written(share, comma, percent):
    written = f"{share.scaleb(2)} %" if percent else str(share)
    reader = RowReader(has_percentages=False, has_decimal_comma=comma)
    assert reader.confidence("", "", written.replace(".", ",") if comma else written) == float(share)


@given(st.text(), st.booleans(), st.booleans())
def test_any_text_is_read_as_a_share_or_refused_in_one_line(text, comma, percent):
    reader = RowReader(has_percentages=percent, has_decimal_comma=comma)
    for read in (reader.confidence, reader.truth, reader.count, reader.text):
        value, refused = None, ""
        try:
            value = read("f, line 2", "column", text)
        except RecordingError as error:
            refused = str(error)
        assert len(refused.splitlines()) <= 1
        assert refused.startswith("f, line 2: column ") == bool(refused)
        assert refused or (value is None) <= (not text.strip())
        assert not isinstance(value, float) or 0 <= value <= 1


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


@pytest.mark.parametrize(
    "value", ["ninety", "1.01", "-0.1", "900", "nan", "0_1", "1e9999999", "inf", "1e9", "0,9", "0x1", "true", "1e999"]
)
def test_a_confidence_that_is_none_is_named_with_file_line_and_column(recording, value):
    path = recording(f'{HEADER}a,q,0.9,1,0,d\nb,q,"{value}",1,0,d\n')
    assert refusal(path) == f"{path}, line 3: cheap_confidence is {value!r}; it must be from 0 to 1, or blank"


@pytest.mark.parametrize("column", ["cheap_correct", "deep_correct"])
@pytest.mark.parametrize("value", ["maybe", "2", "1.01", "0.5", "-1", "None", "nan", "100%", "ja"])
def test_a_truth_value_that_is_none_is_named_with_file_line_and_column(recording, column, value):
    fields = {"cheap_correct": "1", "deep_correct": "0", column: value}
    path = recording(f"{HEADER}a,q,0.9,{fields['cheap_correct']},{fields['deep_correct']},d\n")
    assert refusal(path) == f"{path}, line 2: {column} is {value!r}; it must be 0, 1 or blank (or false, true, no, yes)"


@pytest.mark.parametrize("value", ["90", "93.5", "2"])
def test_a_number_that_is_probably_a_percentage_is_refused_with_how_to_write_it(recording, value):
    path = recording(f"{HEADER}a,q,{value},1,0,d\n")
    assert refusal(path).endswith(
        f"cheap_confidence is {value!r}; it must be from 0 to 1, or blank; if it is a percentage, write {value}%, or "
        "name the column cheap_confidence_pct"
    )


def test_a_long_value_is_cut_in_its_error(recording):
    assert len(refusal(recording(f"{HEADER}a,q,{'9' * 200_000},1,0,d\n"))) < 400


def test_the_line_of_a_fault_counts_the_lines_in_quoted_fields(recording):
    path = recording(HEADER + 'a,"two\nlines",0.9,1,0,d\nb,q,x,1,0,d\n')
    assert refusal(path).startswith(f"{path}, line 4 (row 3): cheap_confidence")
    path = recording("\n" + HEADER + "\na,q,x,1,0,d\n")
    assert refusal(path).startswith(f"{path}, line 4: cheap_confidence")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no column cheap_confidence, cheap_correct; it has none"),
        ("\n", "has no column cheap_confidence, cheap_correct; it has none"),
        ("id,cheap_correct\n1,1\n", "has no column cheap_confidence; it has id, cheap_correct"),
        ("Cheapest_Confidence,cheap_correct\n1,1\n", "has no column cheap_confidence"),
        ("cheap_confidence:cheap_correct\n1:1\n", "has no column cheap_confidence, cheap_correct"),
        ("cheap_confidence,cheap_correct,cheap_correct\n1,1,0\n", "has more than one column cheap_correct"),
        ("cheap_confidence,cheap_correct\n", "has no row"),
        ("cheap_confidence,cheap_correct\n0.9,1\n0.9\n", "line 3: fewer fields than the header has (1 and 2)"),
        ("cheap_confidence,cheap_correct\n0.9,1,5\n", "line 2: more fields than the header has (3 and 2); put quotes"),
        ('cheap_confidence,cheap_correct\n0.9,1\n0.9,"1"x\n', "line 3: ',' expected after '\"'"),
        (
            'cheap_confidence,cheap_correct\n0.9,"1\n',
            "line 2: unexpected end of data; text in quotes ends with a quotation",
        ),
        ('cheap_confidence,cheap_correct\n0.9,1\n0.9,"1\n' + "0.9,1\n" * 99, "line 3: unexpected end of data"),
        ('"cheap_confidence"x,cheap_correct\n0.9,1\n', "line 1: ',' expected"),
        (
            b"cheap_confidence,cheap_correct\n0.9,1\n\xff,1\n",
            "line 3: not UTF-8 (invalid start byte); save the file as",
        ),
        ("cheap_confidence,cheap_correct,question\n0.9,1,é\n".encode("cp1252"), "line 2: not UTF-8"),
        ("cheap_confidence,cheap_correct\n0.9,1\n".encode("utf-16")[:-1], "not UTF-16"),
        (b"PK\x03\x04\x14\x00", "is a workbook or an archive, not CSV: save it as CSV"),
        (b"\x1f\x8b\x08\x00", "is compressed, not CSV"),
        ('{"cheap_confidence": 0.9, "cheap_correct": 1}\n', "is JSON, not CSV"),
        ("0.9,1\n0.8,0\n", "has no column cheap_confidence, cheap_correct; it has 0.9, 1"),
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
