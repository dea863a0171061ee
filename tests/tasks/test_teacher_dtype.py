"""--ki-teacher-dtype: what the teacher computes in is no business of the student's."""

import pytest
import torch

from fairseq_ki.teachers.live import LiveTeacher

KI = "--task ki_mlm --criterion ki --ki-steps 100 --max-update 6"


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_half_precision_teacher_says_nearly_the_same(
    fairseq_train, data_bin, teacher, tmp_path, dtype, monkeypatch
):
    said = []
    signal = LiveTeacher.signal

    def listen(self, *args):
        said.append(signal(self, *args))
        return said[-1]

    monkeypatch.setattr(LiveTeacher, "signal", listen)
    full = fairseq_train(data_bin, tmp_path / "full", f"{KI} --ki-teacher {teacher}")
    half = fairseq_train(
        data_bin, tmp_path / dtype, f"{KI} --ki-teacher {teacher} --ki-teacher-dtype {dtype}"
    )
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    assert [s.features.dtype for s in said] == [torch.float32] * 6 + [types[dtype]] * 6
    for a, b in zip(full.train, half.train, strict=True):
        for key in ("loss", "ki_loss", "ki_objective", "ki_teacher_ppl"):
            assert float(b[key]) == pytest.approx(float(a[key]), rel=0.03, abs=0.02), key
    # the student, in float32, is saved in it
    weights = half.state()["model"]
    assert {str(w.dtype) for w in weights.values() if w.is_floating_point()} == {"torch.float32"}


def test_fp32_is_what_a_student_in_fp32_gets_anyway(fairseq_train, data_bin, teacher, tmp_path):
    named = f"{KI} --ki-teacher {teacher} --ki-teacher-dtype fp32"
    one = fairseq_train(data_bin, tmp_path / "named", named)
    other = fairseq_train(data_bin, tmp_path / "default", f"{KI} --ki-teacher {teacher}")
    assert one.losses == other.losses


def test_the_type_of_no_teacher_is_refused(fairseq_train, data_bin, tmp_path):
    with pytest.raises(ValueError, match="--ki-teacher-dtype: expected a live teacher"):
        fairseq_train(data_bin, tmp_path, f"{KI} --ki-store nowhere --ki-teacher-dtype bf16")
