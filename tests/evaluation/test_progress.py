# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from anomalyclip_hf.evaluation.progress import Progress, evaluation_key


@pytest.fixture
def scored(make_scorer):
    """Give an evaluation of some images of the parts."""
    scorer = make_scorer()

    def score(indices):
        evaluation = Progress.fresh(0.3)
        for _ in scorer.score(indices, 2, evaluation):
            pass
        return evaluation

    return score


def test_what_was_done_comes_back(tmp_path, scored):
    Progress(tmp_path, "key").save(scored([0, 5]))
    Progress(tmp_path, "key").save(scored([3]))  # another process
    loaded = Progress(tmp_path, "key").load(0.3)
    assert loaded.done == {0, 3, 5}
    whole = scored([0, 5, 3])
    assert sorted(map(str, loaded.rows)) == sorted(map(str, whole.rows))
    assert loaded.metric.compute() == whole.metric.compute()


def test_a_part_that_continues_others_replaces_them(tmp_path, scored):
    Progress(tmp_path, "key").save(scored([0, 5]))
    first = next(tmp_path.glob("*.npz"))
    kept = first.read_bytes()
    second = Progress(tmp_path, "key")
    evaluation = second.load(0.3)
    evaluation.merge(scored([7]))
    second.save(evaluation)
    assert not first.exists()
    first.write_bytes(kept)  # as if the kill had come before it was deleted
    assert len(Progress(tmp_path, "key").load(0.3).metric) == 3


def test_progress_of_another_evaluation_is_refused(tmp_path, scored):
    Progress(tmp_path, "key").save(scored([0]))
    with pytest.raises(ValueError, match="another model, data set or setting; .* --restart"):
        Progress(tmp_path, "other").load(0.3)


@pytest.mark.parametrize("damage", ["half-written", "cut", "empty", "text"])
def test_what_a_kill_or_a_bad_disk_left_is_done_again(tmp_path, scored, damage):
    Progress(tmp_path, "key").save(scored([0, 5]))
    whole = next(tmp_path.glob("*.npz"))
    content = {"cut": whole.read_bytes()[:-200], "empty": b"", "text": b"no archive"}
    name = ".0.partial-7.npz" if damage == "half-written" else "0.npz"
    (tmp_path / name).write_bytes(content.get(damage, whole.read_bytes()[:300]))
    assert Progress(tmp_path, "key").load(0.3).done == {0, 5}


def test_clear(tmp_path, scored):
    progress = Progress(tmp_path / "progress", "key")
    progress.clear()
    progress.save(scored([0]))
    progress.clear()
    assert not (tmp_path / "progress").exists()


def test_the_key_knows_weights_files_and_settings(make_scorer, model, parts_folder):
    key = evaluation_key(make_scorer(), {"aupro_limit": 0.3})
    assert key == evaluation_key(make_scorer(), {"aupro_limit": 0.3})
    assert key != evaluation_key(make_scorer(), {"aupro_limit": 0.2})
    scorer = make_scorer()
    scorer.processor.smoothing_sigma = 2.0
    assert key != evaluation_key(scorer, {"aupro_limit": 0.3})
    model.prompt_learner.get_parameter(next(iter(dict(model.prompt_learner.named_parameters())))).data[0] += 1e-3
    changed = evaluation_key(make_scorer(), {"aupro_limit": 0.3})
    assert key != changed
    (parts_folder / "nut" / "test" / "good" / "003.png").unlink()
    assert changed != evaluation_key(make_scorer(), {"aupro_limit": 0.3})
