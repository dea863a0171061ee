"""Training logs: both forms, resumed runs, cut-off lines, values that are not finite."""

import math

import pytest

from fairseq_ki.evaluation.logs import ended, interpolate, parse_log, read_log
from fairseq_ki.evaluation.results import guidance_end, run_curves

# as fairseq-train printed them, shortened
CONFIG = "2026-01-31 07:32:00 | INFO | fairseq_cli.train | {'_name': None, 'common': {'_name': 1}}"
PRINTED = """\
2026-01-31 07:32:02 | INFO | train_inner | {"epoch": 1, "update": 0.333, "loss": "7.765", \
"ki_rate": "1", "ki_teacher_ppl": "128.07", "ppl": "217.55", "wpb": "4096", "num_updates": "1", \
"lr": "0.000233333", "train_wall": "1", "wall": "2"}
2026-01-31 07:32:03 | INFO | train_inner | {"epoch": 1, "update": 0.667, "loss": "7.7", \
"ki_rate": "0.5", "ppl": "207.94", "wpb": "4096", "num_updates": "2", "wall": "3"}
2026-01-31 07:32:04 | INFO | valid | {"epoch": 1, "valid_loss": "7.679", "valid_ppl": "204.93", \
"valid_wps": "0", "valid_num_updates": "2", "valid_best_loss": "7.679"}
2026-01-31 07:32:04 | INFO | train | {"epoch": 1, "train_loss": "7.75", "train_ppl": "215.26", \
"train_num_updates": "2", "train_train_wall": "3", "train_wall": "4"}
2026-01-31 07:32:04 | INFO | fairseq_cli.train | done training in 3.9 seconds
"""


def inner(updates, loss=5.0, wall=0, **more):
    pairs = {"loss": loss, "num_updates": updates, "wall": wall, **more}
    return '{"epoch": 1, ' + ", ".join(f'"{k}": "{v}"' for k, v in pairs.items()) + "}"


def valid(updates, loss):
    return f'{{"valid_loss": "{loss}", "valid_ppl": "1", "valid_num_updates": "{updates}"}}'


def test_printed_form():
    log = parse_log([CONFIG, *PRINTED.splitlines()])
    assert [r["updates"] for r in log.train] == [1, 2]
    assert log.train[0]["ki_teacher_ppl"] == 128.07
    assert log.valid == {
        "valid": [
            {"epoch": 1, "loss": 7.679, "ppl": 204.93, "wps": 0, "best_loss": 7.679, "updates": 2}
        ]
    }
    assert log.done
    assert log.updates == 2
    assert log.wall_at(2) == 3


@pytest.mark.parametrize(
    "line",
    [
        '{"a":' + "[" * 5000 + "]" * 5000 + "}",
        '{"num_updates": 3, "loss": ' + "1" * 5000 + "}",
        '{"num_updates": 1e300, "loss": 3}',
        '{"num_updates": -3, "loss": 3}',
        '{"num_updates": NaN, "loss": 3}',
    ],
    ids=["deep", "digits", "huge", "negative", "nan"],
)
def test_lines_that_fairseq_does_not_write_hold_no_record(line):
    log = parse_log([inner(1), line, inner(4)])
    assert [record["updates"] for record in log.train] == [1, 4]


def test_a_number_that_no_float_holds_is_left_out():
    log = parse_log([inner(1), '{"num_updates": 3, "loss": ' + "1" * 400 + ', "lr": 2}'])
    assert log.train[-1] == {"updates": 3, "lr": 2}


def test_a_validation_without_loss_or_ppl_is_one_without_their_numbers():
    log = parse_log([inner(1, wall=1), '{"valid_num_updates": "2"}', valid(3, 5.0)])
    assert [r["updates"] for r in log.valid["valid"]] == [2, 3]
    columns, _ = run_curves(parse_log([inner(1, wall=1), '{"valid_num_updates": "2"}']))
    assert math.isnan(columns["loss"][0])
    assert math.isnan(columns["ppl"][0])


def test_log_file_form_repeats_lines(tmp_path):
    # --log-file has no tags, and fairseq adds one more handler with every epoch
    bare = [line[line.index("{") :] for line in PRINTED.splitlines() if '{"' in line]
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(line for line in bare for _ in range(3)))
    log = read_log(file)
    assert [r["updates"] for r in log.train] == [1, 2]
    assert len(log.valid["valid"]) == 1


def test_resumed_run_replaces_what_it_repeats_and_adds_up_its_time():
    first = [CONFIG, *(inner(u, loss=9, wall=u) for u in (10, 20, 30)), valid(30, 9)]
    again = [CONFIG, inner(20, loss=5, wall=7), inner(30, loss=4, wall=17), valid(30, 4)]
    log = parse_log(first + again)
    assert [(r["updates"], r["loss"]) for r in log.train] == [(10, 9), (20, 5), (30, 4)]
    assert [r["loss"] for r in log.valid["valid"]] == [4]
    # 10 s until update 10, then 17 s in the second session
    assert log.wall_at(30) == 27
    assert log.wall_at(15) == pytest.approx(10 + 3.5)


def test_a_clock_that_stands_still_after_a_resume_is_read_from_the_lines_stamps():
    first = [CONFIG, inner(10, wall=10), inner(20, wall=20)]
    again = [
        CONFIG.replace("07:32:00", "23:59:50"),
        f"2026-01-31 23:59:58 | INFO | train_inner | {inner(20, wall=0)}",
        f"2026-02-01 00:00:05 | INFO | train_inner | {inner(30, wall=0)}",
    ]
    log = parse_log(first + again)
    assert [log.wall_at(u) for u in (10, 20, 30)] == [10, 18, 25]
    # a third session, of the few lines that a file without stamps has
    log = parse_log([*first, *again, CONFIG, inner(30, wall=0)])
    assert log.wall_at(20) == 18
    assert math.isnan(log.wall_at(30))


def test_resume_is_seen_without_the_configuration_line():
    lines = [inner(10, wall=10), inner(20, wall=20), inner(15, wall=3), inner(20, wall=6)]
    log = parse_log(lines)
    assert [r["updates"] for r in log.train] == [10, 15, 20]
    assert log.wall_at(20) == 16


def test_resume_past_the_last_logged_update_still_adds_time():
    log = parse_log([CONFIG, inner(10, wall=10), CONFIG, inner(20, wall=12)])
    assert log.wall_at(20) == 22


def test_a_new_session_is_not_done():
    log = parse_log([*PRINTED.splitlines(), CONFIG])
    assert not log.done


def test_lines_that_are_cut_off_or_foreign_are_passed_over():
    cut = inner(30)[:25]
    log = parse_log([inner(10), "Traceback {", '{"other": 1}', cut, cut + inner(40), inner(20)])
    assert [r["updates"] for r in log.train] == [10, 20]


def test_values_that_are_not_finite():
    log = parse_log([inner(10, loss="nan", gnorm="inf"), inner(20, loss="1e400", text="abc")])
    assert math.isnan(log.train[0]["loss"])
    assert log.train[0]["gnorm"] == math.inf
    assert log.train[1]["loss"] == math.inf
    assert "text" not in log.train[1]


def test_subsets_are_kept_apart():
    line = '{"epoch": 1, "valid_wb_loss": "3", "valid_wb_num_updates": "5"}'
    log = parse_log([valid(5, 4), line])
    assert [r["loss"] for r in log.valid["valid_wb"]] == [3]
    assert [r["loss"] for r in log.valid["valid"]] == [4]


def test_a_log_without_records_is_refused(tmp_path):
    file = tmp_path / "x.log"
    file.write_text("epoch 001 | loss 5\n")
    with pytest.raises(ValueError, match=r"x\.log: expected JSON lines.*--log-format json"):
        read_log(file)


def test_columns_and_curves():
    log = parse_log([inner(10, wall=4), valid(15, 7), inner(20, wall=8, ki_rate=0.5)])
    columns = log.columns(log.train)
    assert columns["updates"] == [10, 20]
    assert math.isnan(columns["ki_rate"][0])
    curve, train = run_curves(log)
    assert curve == {"updates": [15], "loss": [7], "ppl": [1], "wall": [6]}
    assert train["loss"] == [5, 5]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (None, 30),  # to within a log interval
        (25, 25),
        (30, 30),
        (100, 30),  # let go before its time
        (20, 30),  # does not agree with the log
    ],
)
def test_end_of_guidance(steps, expected):
    train = {"updates": [10, 20, 30, 40], "ki_rate": [0.9, 0.5, 0.1, 0.0]}
    assert guidance_end(train, steps) == expected


def test_no_guidance():
    assert guidance_end({"updates": [10], "loss": [1.0]}, 50) == 0


def test_interpolate():
    points = [(0.0, 0.0), (10.0, 20.0), (20.0, 20.0)]
    assert [interpolate(points, x) for x in (-1, 0, 5, 10, 15, 30)] == [0, 0, 10, 20, 20, 20]


def test_a_training_that_ended_by_itself(tmp_path):
    log = tmp_path / "train.log"
    assert not ended(log, 1)
    log.write_text("nothing yet\n")
    assert not ended(log, 1)
    log.write_text(f"{CONFIG}\n{inner(20)}\n")
    assert not ended(log, 20)  # it may have been killed
    log.write_text(PRINTED)
    updates = read_log(log).updates
    assert ended(log, updates)
    assert not ended(log, updates + 1)
