# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score images with an exported model: needs NumPy, Pillow and ONNX Runtime, and nothing of anomalyclip_hf.

python examples/onnx_minimal.py EXPORTED_FOLDER IMAGES... [--maps DIR]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def prepare(image: Image.Image, settings: dict) -> np.ndarray:
    """Resize and normalise an image: float32 of shape (3, height, width)."""
    height, width = settings["size"]
    resized = image.resize((width, height), Image.Resampling(settings["resample"]))
    pixels = np.asarray(resized, dtype=np.float32) / 255
    return ((pixels - np.float32(settings["mean"])) / np.float32(settings["std"])).transpose(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Score images with an exported model.")
    parser.add_argument("model", type=Path, help="folder that `anomalyclip export --to onnx` has written")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--maps", type=Path, help="folder for the anomaly maps, as NAME.npy")
    arguments = parser.parse_args()

    if not (arguments.model / "model.onnx").is_file() or not (arguments.model / "anomalyclip.json").is_file():
        sys.exit(f"{arguments.model} has no model.onnx with anomalyclip.json; expected an export to ONNX")
    description = json.loads((arguments.model / "anomalyclip.json").read_text())
    if description["input"] != "pixel_values":
        sys.exit("this program resizes by itself; export the model without --preprocessing")
    if description["image_score"] != "paper":
        sys.exit("this program knows the paper's image score only")
    threshold = (description["calibration"] or description)["threshold"]
    session = onnxruntime.InferenceSession(arguments.model / "model.onnx", providers=["CPUExecutionProvider"])
    for path in arguments.images:
        try:
            image = ImageOps.exif_transpose(Image.open(path))
        except (OSError, SyntaxError, ValueError) as error:
            sys.exit(f"{path} cannot be read: {error}")
        if image.mode.startswith(("I", "F")):
            sys.exit(f"{path} has more than 8 bits per channel; this program knows 8 bits only")
        pixel_values = prepare(image.convert("RGB"), description["preprocessing"])[None]
        scores, maps = session.run(["image_scores", "anomaly_maps"], {"pixel_values": pixel_values})
        label = description["labels"][int(scores[0] >= threshold)]
        print(f"{scores[0]:.6f} {label} {path}")
        if arguments.maps:
            arguments.maps.mkdir(parents=True, exist_ok=True)
            np.save(arguments.maps / f"{path.stem}.npy", maps[0])  # at the model's size, from 0 to map_maximum


if __name__ == "__main__":
    main()
