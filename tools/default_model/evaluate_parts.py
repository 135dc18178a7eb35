# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure what each part of the default model contributes, on test families and on real images.

    python evaluate_parts.py --model default_model --tower tower/clip [--bank texture_bank] [--real FOLDER …]

Rows: the model as it ships; hand-written prompts instead of learned ones; no local path; other selected layers; no
smoothing. Prints a table in Markdown and one line of JSON.
"""

import argparse
import json
from pathlib import Path

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor
from learn_prompts import draw
from losses_tower import SELECTED_LAYERS
from scenes import TextureBank
from scoring import auroc, load_folder, score_scenes
from surfaces import FAMILIES


def test_sets(count: int, bank: TextureBank | None, real: list[Path]) -> dict:
    """Return synthetic scenes of test families by kind, and the real folders."""
    scenes = draw(count, 256, "test", bank, seed=3)
    kinds = {"textures": [], "objects": [], "photographs": [], "cut-outs": []}
    for scene in scenes:
        family = FAMILIES.get(scene.family)
        from_bank = "cut-outs" if scene.family == "cutout" else "photographs"
        kinds[from_bank if family is None else "objects" if family.is_object else "textures"].append(scene)
    sets = {"all unseen families": scenes, **{f"unseen {kind}": group for kind, group in kinds.items() if group}}
    return sets | {folder.name: load_folder(folder) for folder in real}


def variants(model_folder: Path, tower: Path) -> dict[str, tuple[AnomalyCLIPModel, AnomalyCLIPProcessor]]:
    shipped = AnomalyCLIPModel.from_pretrained(model_folder)
    processor = AnomalyCLIPProcessor.from_pretrained(model_folder)
    settings = {name: getattr(shipped.config, name) for name in ("image_size", "feature_layers", "dpam_layers")}
    ensemble = AnomalyCLIPModel.from_clip_pretrained(str(tower), prompts="ensemble", **settings)
    plain = AnomalyCLIPModel.from_pretrained(model_folder)
    plain.config.dpam_layers = 0
    last, all_selected = (
        AnomalyCLIPModel.from_pretrained(model_folder, feature_layers=list(layers))
        for layers in (SELECTED_LAYERS[-1:], SELECTED_LAYERS)
    )
    unsmoothed = AnomalyCLIPProcessor.from_config(shipped.config, smoothing_sigma=0.0)
    return {
        "as shipped": (shipped, processor),
        "`ensemble` prompts": (ensemble, processor),
        "DPAM off": (plain, processor),
        "last layer selected": (last, processor),
        "all layers selected": (all_selected, processor),
        "no smoothing": (shipped, unsmoothed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tower", type=Path, required=True)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="folders in MVTec AD layout")
    parser.add_argument("--scenes", type=int, default=400, help="synthetic pairs")
    args = parser.parse_args()
    sets = test_sets(args.scenes, TextureBank(args.bank) if args.bank else None, args.real)
    metrics = {}
    print(f"| image / pixel AUROC | {' | '.join(f'{name} ({len(group)})' for name, group in sets.items())} |")
    print(f"| --- |{' --- |' * len(sets)}")
    for row, (model, processor) in variants(args.model, args.tower).items():
        metrics[row] = {name: auroc(group, *score_scenes(model, processor, group)) for name, group in sets.items()}
        cells = [f"{cell['image_auroc']:.3f} / {cell['pixel_auroc']:.3f}" for cell in metrics[row].values()]
        print(f"| {row} | {' | '.join(cells)} |", flush=True)
    print(json.dumps(metrics))


if __name__ == "__main__":
    main()
