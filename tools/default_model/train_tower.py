# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Train the small CLIP of the default model from scratch, on scenes generated during training.

    python train_tower.py --output tower --minutes 120 [--bank texture_bank] [--start-from CLIP_FOLDER]

Run it again to resume: a checkpoint is written every two minutes. The losses are in losses_tower.py.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from captions import LONGEST_TEXT, VOCAB_SIZE, caption, state_sentences, train_tokenizer
from defects import KINDS
from losses_tower import WEIGHTS, compute_losses, embed_texts, encode, to_pixel_values
from scenes import TextureBank, draw_pair
from surfaces import FAMILIES, PATH_WORDS


PAIRS_BY_SIZE = {64: 32, 96: 16, 128: 10, 160: 6, 192: 4, 256: 2}  # about as many tokens in each batch
# Easy first: until this share of the time, these odds of the sizes, and defects at least this share of the image.
CURRICULUM = (
    (0.15, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.01),
    (0.40, (0.3, 0.5, 0.2, 0.0, 0.0, 0.0), 0.003),
    (1.00, (0.03, 0.19, 0.26, 0.19, 0.18, 0.15), 0.001),
)
LARGER = 0.012  # of the image: half of the defects are at least this large, so that the class token learns
FEWEST_PIXELS = 30  # of a defect in the picture: fewer cannot be told from noise
SECONDS_BETWEEN_CHECKPOINTS = 120
SECONDS_BETWEEN_VALIDATIONS = 600


def build_clip() -> CLIPModel:
    """A CLIP of 4.0 million parameters, 8 MB in bfloat16."""
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {"vocab_size": VOCAB_SIZE, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 3, "max_position_embeddings": LONGEST_TEXT, "projection_dim": 96} | ids
    vision = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 6, "num_attention_heads": 4}
    vision |= {"image_size": 128, "patch_size": 8, "projection_dim": 96}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=96))


@torch.no_grad()
def load_grown(clip: CLIPModel, start_from: Path) -> None:
    """Load a CLIP whose vision tower may have fewer layers; added layers change nothing at first."""
    weights = CLIPModel.from_pretrained(start_from).state_dict()
    layers, prefix = clip.vision_model.encoder.layers, "vision_model.encoder.layers"
    for layer in layers:
        for added in (layer.self_attn.out_proj, layer.mlp.fc2):
            nn.init.zeros_(added.weight)
            nn.init.zeros_(added.bias)
    given = len({name.split(".")[3] for name in weights if name.startswith(prefix)})
    places = [round(i * (len(layers) - 1) / (given - 1)) for i in range(given)]
    grown = {}
    for name, weight in weights.items():
        if name.startswith(prefix):
            _, _, _, index, *rest = name.split(".")
            name = ".".join([prefix, str(places[int(index)]), *rest])
        grown[name] = weight
    clip.load_state_dict(clip.state_dict() | grown)


@torch.no_grad()
def initialise_vision(clip: CLIPModel, images: Tensor) -> None:
    """Initialise the vision tower so that a few thousand steps are enough.

    Patches are whitened, so that brightness does not hide fine texture; positions start as sines, so that neighbouring
    patches have similar ones; values are large enough for v-v attention to start on the diagonal.
    """
    tower, config = clip.vision_model, clip.config.vision_config
    patch, width, layers = config.patch_size, config.hidden_size, config.num_hidden_layers
    patches = F.unfold(to_pixel_values(images), patch, stride=patch).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(torch.cov(patches.T))
    whitening = (directions / (variances + 0.1).sqrt()).T
    mixtures = torch.randn(width - len(whitening), len(whitening)) @ whitening / len(whitening) ** 0.5
    filters = tower.embeddings.patch_embedding.weight
    filters.copy_(torch.cat([whitening, mixtures]).reshape(filters.shape))

    positions = tower.embeddings.position_embedding.weight
    side = config.image_size // patch
    frequencies = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = (
        place.flatten()[:, None] * frequencies for place in torch.meshgrid(2 * [torch.arange(side)], indexing="ij")
    )
    positions[1:] = 0.5 * torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1)

    for layer in tower.encoder.layers:
        nn.init.normal_(layer.self_attn.v_proj.weight, std=width**-0.5)
        nn.init.normal_(layer.self_attn.out_proj.weight, std=(2 * layers * width) ** -0.5)


class PairBatches(IterableDataset):
    """Generate batches of scenes without and with defect without end, all of one size per batch."""

    def __init__(
        self, seed: int, bank_folder: Path | None, used_seconds: float, total_seconds: float, skip_easy: bool = False
    ):
        self.seed, self.bank_folder, self.skip_easy = seed, bank_folder, skip_easy
        self.used_seconds, self.total_seconds = used_seconds, total_seconds

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        bank = TextureBank(self.bank_folder) if self.bank_folder else None
        started = time.monotonic() - self.used_seconds
        while True:
            progress = 1.0 if self.skip_easy else min((time.monotonic() - started) / self.total_seconds, 1.0)
            _, odds, smallest = next(stage for stage in CURRICULUM if progress <= stage[0])
            size = int(rng.choice(list(PAIRS_BY_SIZE), p=odds))
            scenes = []
            while len(scenes) < 2 * PAIRS_BY_SIZE[size]:
                pair = draw_pair(rng, size, "train", bank)
                wanted = max(LARGER if len(scenes) % 4 else smallest, FEWEST_PIXELS / size**2)
                scenes += pair if pair[1].mask.mean() >= wanted else ()
            normal, abnormal = state_sentences(rng, 3)
            yield {
                "images": torch.from_numpy(np.stack([scene.image for scene in scenes])),
                "masks": torch.from_numpy(np.stack([scene.mask for scene in scenes])),
                "contents": [f"{scene.surface}, {scene.defect}" for scene in scenes],
                "captions": [caption(scene.surface, scene.defect, rng) for scene in scenes],
                "states": normal + abnormal,
            }


@torch.no_grad()
def validate(clip: CLIPModel, tokenizer: CLIPTokenizer, scenes: list, size: int) -> dict[str, float]:
    """Compute image and pixel AUROC on validation families, and image AUROC of photographs alone."""
    from sklearn.metrics import roc_auc_score

    normal, abnormal = state_sentences(np.random.default_rng(0), 32)
    embeds = embed_texts(clip, tokenizer, normal + abnormal).unflatten(0, (2, -1)).mean(1)
    direction = embeds[1] - embeds[0]
    scores, maps = [], []
    for start in range(0, len(scenes), 32):
        images = torch.from_numpy(np.stack([scene.image for scene in scenes[start : start + 32]]))
        image_embeds, patch_embeds, _, _ = encode(clip, images)
        scores.append(image_embeds @ direction)
        side = size // clip.config.vision_config.patch_size
        grid = (patch_embeds @ direction).mean(0).unflatten(1, (side, side))
        maps.append(F.interpolate(grid[:, None], scale_factor=2, mode="bilinear")[:, 0])
    masks = np.stack([scene.mask for scene in scenes])
    labels, values, step = masks.any((1, 2)), torch.cat(scores).numpy(), size // maps[0].shape[-1]
    metrics = {
        "image_auroc": roc_auc_score(labels, values),
        "pixel_auroc": roc_auc_score(masks[:, ::step, ::step].ravel(), torch.cat(maps).flatten()),
    }
    photographs = np.array([scene.family == "photo" for scene in scenes])
    if photographs.any():
        metrics["photographs"] = roc_auc_score(labels[photographs], values[photographs])
    return metrics


class Training:
    """State of a run that can be resumed: weights, their running average, optimiser and the time used."""

    def __init__(
        self, output: Path, minutes: float, peak_learning_rate: float, images: Tensor, start_from: Path | None = None
    ):
        self.output, self.total_seconds, self.peak = output, minutes * 60, peak_learning_rate
        self.clip, self.average = build_clip(), build_clip()
        if start_from:
            load_grown(self.clip, start_from)
        else:
            initialise_vision(self.clip, images)
        self.average.load_state_dict(self.clip.state_dict())
        self.optimizer = torch.optim.AdamW(self.clip.parameters(), lr=0.0, weight_decay=0.05, betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0
        self.checkpoint = output / "checkpoint.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.clip.load_state_dict(state["clip"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        state = {"clip": self.clip.state_dict(), "average": self.average.state_dict(), "step": self.step}
        state |= {"optimizer": self.optimizer.state_dict(), "seconds": self.seconds}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def update(self, loss: Tensor) -> None:
        progress = min(self.seconds / self.total_seconds, 1.0)
        warm_up = min((self.step + 1) / 300, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * warm_up * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.clip.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for averaged, current in zip(self.average.parameters(), self.clip.parameters(), strict=True):
                averaged.lerp_(current, 1 - keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("tower"), help="folder for checkpoints and the CLIP")
    parser.add_argument("--minutes", type=float, default=120, help="length of the whole training, over all runs")
    parser.add_argument("--bank", type=Path, help="from collect_textures.py; default: synthetic surfaces only")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--scenes", type=int, default=150, help="pairs for whitening and for each validation")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--start-from", type=Path, help="folder of such a CLIP, with its tokenizer, to start from")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor multiplies matrices in it")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    tokenizer = load_tokenizer(args.start_from)
    torch.manual_seed(0)
    bank = TextureBank(args.bank) if args.bank else None
    rng = np.random.default_rng(1)
    first = np.stack([scene.image for _ in range(args.scenes) for scene in draw_pair(rng, 96, "train", bank)])
    run = Training(args.output, args.minutes, args.learning_rate, torch.from_numpy(first), args.start_from)
    validation = [scene for _ in range(args.scenes) for scene in draw_pair(rng, 128, "validation", bank)]
    batches = DataLoader(
        PairBatches(run.step, args.bank, run.seconds, run.total_seconds, skip_easy=args.start_from is not None),
        batch_size=None,
        num_workers=args.workers,
        prefetch_factor=4,
    )
    train(run, tokenizer, batches, validation, args.bfloat16)
    run.average.save_pretrained(args.output / "clip")
    tokenizer.save_pretrained(args.output / "clip")


def load_tokenizer(start_from: Path | None) -> CLIPTokenizer:
    """Load the tokenizer stored with the given weights, or train a new one."""
    if start_from:
        return CLIPTokenizer.from_pretrained(start_from)
    surfaces = [family.words for family in FAMILIES.values()] + [words for _, words in PATH_WORDS]
    return train_tokenizer(surfaces, [word for kind in KINDS.values() for word in kind[1]])


def train(run: Training, tokenizer: CLIPTokenizer, batches: DataLoader, validation: list, bfloat16: bool) -> None:
    """Train until the time is used up, with a log line every 50 steps, validation and checkpoints."""
    saved = validated = run.seconds
    sums: dict[str, float] = {}
    before = time.monotonic()
    for batch in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            losses = compute_losses(run.clip, tokenizer, batch)
        run.update(sum(WEIGHTS[name] * loss for name, loss in losses.items()))
        sums = {name: sums.get(name, 0.0) + loss.item() for name, loss in losses.items()}
        now = time.monotonic()
        run.seconds, before = run.seconds + now - before, now
        finished = run.seconds >= run.total_seconds
        if run.step % 50 == 0:
            log(run, {name: total / 50 for name, total in sums.items()})
            sums = {}
        if finished or run.seconds - validated > SECONDS_BETWEEN_VALIDATIONS:
            validated = run.seconds
            log(run, validate(run.average, tokenizer, validation, 128))
            run.average.save_pretrained(run.output / f"clip_after_{run.step}_steps")
        if finished or run.seconds - saved > SECONDS_BETWEEN_CHECKPOINTS:
            saved = run.seconds
            run.save()
        if finished:
            break


def log(run: Training, metrics: dict[str, float]) -> None:
    line = {"step": run.step, "minutes": round(run.seconds / 60, 1), **{k: round(v, 4) for k, v in metrics.items()}}
    print(json.dumps(line), flush=True)
    with (run.output / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
