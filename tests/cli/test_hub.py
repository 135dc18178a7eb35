# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import sys

import pytest
from huggingface_hub import HfApi, ModelCard

from anomalyclip_hf import AnomalyCLIPModel
from anomalyclip_hf.cli import main


REPO = "someone/bolts"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `anomalyclip hub` in this process; gives exit code, standard output and error."""

    def run_hub(*words):
        monkeypatch.setattr(sys, "argv", ["anomalyclip", "hub", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_hub


def test_there_and_back(run, hub, tmp_path, model_folder):
    code, out, err = run("push", model_folder, REPO, "--private", "--tag", "v1", "--message", "First", "--revision",
                         "try", "--include-code")  # fmt: skip
    assert code == 0, err
    commit = HfApi().list_repo_commits(REPO, revision="try")[0]
    assert (commit.title, commit.commit_id in out) == ("First", True)
    assert [(tag.name, tag.target_commit) for tag in HfApi().list_repo_refs(REPO).tags] == [("v1", commit.commit_id)]
    assert HfApi().model_info(REPO).private
    code, out, _ = run("pull", REPO, "--revision", "v1", "--output-dir", tmp_path / "again")
    assert (code, "--model" in out) == (0, True)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (model_folder, tmp_path / "again")]
    assert weights[0] == weights[1]
    assert AnomalyCLIPModel.from_pretrained(tmp_path / "again").config.image_size == 40


def test_a_pull_request(run, hub, model_folder):
    HfApi().create_repo(REPO)
    code, out, _ = run("push", model_folder, REPO, "--create-pr")
    assert (code, "/discussions/1" in out) == (0, True)
    assert "model.safetensors" not in HfApi().list_repo_files(REPO)


def test_a_card_with_metrics(run, tmp_path, model_folder):
    results = tmp_path / "results.json"
    metrics = {"image_auroc": 0.9, "per_category": {}, "notes": {}}
    metrics |= dict.fromkeys(("image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro",
                              "pixel_aupro_published"))  # fmt: skip
    results.write_text(json.dumps({"dataset": {"name": "mvtec"}, "settings": {}, "metrics": metrics}))
    code, _, err = run("card", model_folder, "--repo", REPO, "--results", results, "--license", "mit", "--dataset",
                       "me/parts", "--tag", "bolts")  # fmt: skip
    assert code == 0, err
    data = ModelCard.load(model_folder / "README.md").data
    assert (data.license, data.datasets, data.tags[-1]) == ("mit", ["me/parts"], "bolts")
    assert [entry.metric_value for entry in data.eval_results] == [0.9]
    code, _, err = run("card", model_folder)
    assert (code, "--overwrite" in err) == (2, True)
    assert run("card", model_folder, "--overwrite")[0] == 0


def test_mistakes_end_in_one_line(run, hub, tmp_path, model_folder, monkeypatch):
    for words in (
        ("push", tmp_path / "nothing", REPO),
        ("push", model_folder, "a/b/c"),
        ("push", model_folder, "another/bolts"),
        ("pull", "someone/nothing", "--output-dir", tmp_path / "out"),
        ("pull", REPO, "--output-dir", model_folder),
        ("card", tmp_path),
    ):
        code, _, err = run(*words)
        assert code == 2, words
        assert len(err.strip().splitlines()) == 1, err
        assert "Traceback" not in err


def test_no_hub_to_be_reached(run, hub, model_folder):
    hub.stop()
    code, _, err = run("push", model_folder, REPO)
    assert code == 2
    assert REPO in err
    assert len(err.strip().splitlines()) == 1


def test_a_runtime_is_only_for_a_static_space(run, tmp_path):
    code, out, err = run("space", tmp_path / "space", "--runtime-dir", tmp_path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--runtime-dir" in err
    assert not (tmp_path / "space").exists()
