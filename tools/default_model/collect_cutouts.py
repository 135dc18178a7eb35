# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Add freely licensed pictures of things, with transparent surroundings, to a bank made by collect_textures.py.

    python collect_cutouts.py --output texture_bank [--work scratch_folder]

The pictures are drawings (glossy, shaded or flat) of tools, fruit, instruments, devices, and symbols.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from collect_textures import fetch, fingerprint, pictures, split_of


# Package -> (folder with pictures, license in the package's copyright file, which covers all of them).
PACKAGES = {
    "openclipart-png": ("usr/share/openclipart/png", "public-domain"),
    "oxygen-icon-theme": ("usr/share/icons/oxygen/base/256x256", "LGPL-3+"),
}
LONGER_SIDE = 320
MOST_OF_A_FOLDER = 120  # thousands of stars would drown everything else


def decode_cutout(data: bytes) -> Image.Image | None:
    """RGBA picture cut to what is opaque, or None when there is no clear thing in it."""
    try:
        image = Image.open(io.BytesIO(data))
        if min(image.size) < 64 or max(image.size) > 4000:
            return None
        image = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    alpha = np.asarray(image)[..., 3]
    opaque = Image.fromarray(((alpha > 128) * 255).astype(np.uint8)).getbbox()
    # Less than a tenth is a sketch of thin lines; almost all is a picture with a frame.
    if opaque is None or not 0.1 < (alpha > 128).mean() < 0.97:
        return None
    image = image.crop(opaque)
    if min(image.size) < 48 or max(image.size) > 4 * min(image.size):
        return None
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
    return image


def main() -> None:
    """Write the cut-outs and their list, and print how many came from where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("texture_bank"))
    parser.add_argument("--work", type=Path, default=Path("texture_work"), help="downloads are kept here")
    arguments = parser.parse_args()
    (arguments.output / "cutouts").mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, str]] = []
    seen: set[bytes] = set()
    for package, (folder, license) in PACKAGES.items():
        got = fetch(package, arguments.work.resolve())
        if got is None:
            print(f"{package}: not available")
            continue
        unpacked, version = got
        from_folder: Counter[str] = Counter()
        for path, data in pictures(unpacked / folder):
            image = decode_cutout(data)
            parent = str(Path(path).parent)
            if image is None or from_folder[parent] >= MOST_OF_A_FOLDER or fingerprint(image) in seen:
                continue
            seen.add(fingerprint(image))
            from_folder[parent] += 1
            name = f"cutouts/{package}_{hashlib.sha256(path.encode()).hexdigest()[:12]}.png"
            image.save(arguments.output / name)
            entry = {"file": name, "package": package, "version": version, "license": license, "path": path}
            entries.append(entry | {"split": split_of(Path(path).stem)})
    (arguments.output / "cutouts.json").write_text(json.dumps(entries, indent=1) + "\n")
    for key in ("package", "split"):
        print(key, dict(Counter(entry[key] for entry in entries)))


if __name__ == "__main__":
    main()
