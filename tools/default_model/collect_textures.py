# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Collect a bank of freely licensed photographic textures from Debian packages and scikit-image.

    python collect_textures.py --output texture_bank [--work scratch_folder]

Each package is fetched with ``apt-get download``, unpacked, and its pictures are chosen by simple rules. The license
of every picture is read from the package's own copyright file; pictures without a recognised free license are left
out.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import json
import re
import subprocess
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


PACKAGES = [
    "openarena-081-textures",
    "ufoai-textures",
    "trigger-rally-data",
    "supertuxkart-data",
    "mate-backgrounds",
]
FREE = re.compile(r"^(CC0|CC-BY(-SA)?(-|$)|GPL|LGPL|MIT|Expat|BSD|Apache|zlib|public-domain|PD)", re.IGNORECASE)
NOT_FREE = re.compile(r"-(NC|ND)\b", re.IGNORECASE)
# Each of these is declared CC0 in its scikit-image docstring.
SKIMAGE = ("brick", "grass", "gravel", "coffee", "chelsea", "retina")
SUFFIXES = {".jpg", ".jpeg", ".png", ".tga", ".dds", ".webp"}
UNWANTED = re.compile(
    r"(_nm|_n|_norm|_normal|_normals|_bump|_sm|_gm|_rm|_spec|_gloss|_glow|_height|_disp|_alpha|_mask|_ao|_light|_blend)"
    r"\d*$|normal|gloss|icon|sky|skin|gui|font|logo|sprite|minimap|screenshot|preview|lightmap|splat|terrainmap|"
    r"colou?rmap|heightmap|hitmap|foliage|/maps/|/events/|/env/|sfx|flare|particle|/karts/|codriver|roadsign|editor|"
    r"pixmaps|tex_lights|common/|abstract|clown|poster|tex_pics|/models?/|material_|cubemap|"
    r"blood|burn|broken|damag|decal|graffiti|bullet|arrow|vehicle|gore",
    re.IGNORECASE,
)
SHORTER_SIDE = 640


def parse_copyright(text: str) -> list[tuple[list[str], str]]:
    """Debian copyright file -> [(file patterns, license short name)] in file order."""
    stanzas: list[tuple[list[str], str]] = []
    for block in re.split(r"\n\s*\n", text):
        fields = re.split(r"^([A-Za-z-]+):", block, flags=re.MULTILINE)[1:]
        values = {name.lower(): value for name, value in zip(fields[::2], fields[1::2], strict=False)}
        license = values.get("license", "").strip().splitlines()
        if "files" in values and license:
            stanzas.append((values["files"].split(), license[0].strip()))
    return stanzas


def license_of(path: str, stanzas: list[tuple[list[str], str]]) -> str | None:
    """License of one path, None when it is not recognised as free; the last matching stanza counts, as in Debian."""
    found, tail = None, "/".join(Path(path).parts[-2:])
    for patterns, license in stanzas:
        for pattern in patterns:
            # Packages install under other roots than the source tree, so compare the last two path parts as well.
            end = "/".join(Path(pattern).parts[-2:])
            if fnmatch.fnmatch(path, pattern) or (end not in ("*", "debian/*") and fnmatch.fnmatch(tail, end)):
                found = license
    if found is None or NOT_FREE.search(found) or not FREE.match(found):
        return None
    return found


def fetch(package: str, work: Path) -> tuple[Path, str] | None:
    """Download and unpack one package: (folder, version), or None when this release does not have it."""
    debs, target = work / "deb", work / "x" / package
    debs.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=debs, check=False)
    deb = max(debs.glob(f"{package}_*.deb"), default=None)
    if deb is None:
        return None
    if not target.exists():
        target.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", str(deb), str(target)], check=True)
    version = subprocess.run(["dpkg-deb", "-f", str(deb), "Version"], check=True, capture_output=True, text=True)
    return target, version.stdout.strip()


def pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(path, coded bytes) of every picture file, also of those inside zip and pk3 archives."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in SUFFIXES:
            yield name, path.read_bytes()
        elif path.suffix.lower() in {".zip", ".pk3"}:
            with zipfile.ZipFile(path) as archive:
                for member in sorted(archive.namelist()):
                    if Path(member).suffix.lower() in SUFFIXES:
                        yield f"{name}/{member}", archive.read(member)


def decode(data: bytes) -> Image.Image | None:
    """Opaque RGB picture with both sides >= 256 px and a moderate aspect ratio, else None."""
    try:
        image = Image.open(io.BytesIO(data))
        if min(image.size) < 256 or max(image.size) > 2.6 * min(image.size) or max(image.size) > 9000:
            return None
        if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
            image = image.convert("RGBA")
            if np.asarray(image)[..., 3].mean() < 250:
                return None
        return image.convert("RGB")
    except (OSError, ValueError, NotImplementedError, SyntaxError):
        return None


def is_photographic(image: Image.Image) -> bool:
    """True for pictures with fine detail everywhere: not flat, not drawn in few colours, not a normal map."""
    small = np.asarray(image.resize((128, 128), Image.Resampling.BOX), np.float32)
    grey = small.mean(2)
    red, green, blue = small.mean((0, 1))
    if blue > 150 and blue > 1.3 * max(red, green):
        return False  # The mean colour of tangent-space normal maps.
    if not 18 < grey.mean() < 240 or grey.std() < 5:
        return False
    full = image.convert("L").resize((256, 256), Image.Resampling.BICUBIC)
    fine = np.abs(np.asarray(full, np.float32) - np.asarray(full.filter(ImageFilter.GaussianBlur(1.5)), np.float32))
    tiles = fine.reshape(8, 32, 8, 32).mean((1, 3))
    # Photographs have some fine detail in most places, drawings and interface art are empty in many.
    return bool(np.median(tiles) > 1.0 and (tiles < 0.35).mean() < 0.2)


def fingerprint(image: Image.Image) -> bytes:
    """Coarse 8 x 8 code of a picture, equal for copies at other sizes."""
    grey = np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX), np.int32)
    return (grey // 8).astype(np.uint8).tobytes()


def split_of(name: str) -> str:
    """80 % train, 10 % validation, 10 % test by a hash of the name without its trailing number."""
    stem = re.sub(r"[\d_-]+[a-z]?$", "", name.lower())  # Variants of one texture must share a split.
    value = int(hashlib.sha256(stem.encode()).hexdigest(), 16) % 10
    return "test" if value == 9 else "validation" if value == 8 else "train"


def save(image: Image.Image, output: Path, entry: dict[str, str]) -> None:
    """Shrink to the shorter side and write one JPEG, named by package and content."""
    scale = SHORTER_SIDE / min(image.size)
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.save(output / entry["file"], quality=92)


def collect(package: str, work: Path, output: Path, seen: set[bytes], limit: int) -> list[dict[str, str]]:
    """Choose up to ``limit`` pictures of one package and save them; their manifest entries."""
    got = fetch(package, work)
    if got is None:
        print(f"{package}: not available")
        return []
    folder, version = got
    copyright_file = folder / "usr" / "share" / "doc" / package / "copyright"
    stanzas = parse_copyright(copyright_file.read_text(errors="replace"))
    entries: list[dict[str, str]] = []
    for path, data in pictures(folder):
        license = license_of(path, stanzas)
        if license is None or UNWANTED.search(str(Path(path).with_suffix(""))) or len(entries) >= limit:
            continue
        image = decode(data)
        if image is None or not is_photographic(image) or fingerprint(image) in seen:
            continue
        seen.add(fingerprint(image))
        name = f"{package}_{hashlib.sha256(path.encode()).hexdigest()[:12]}.jpg"
        stem = Path(path).with_suffix("").name
        entry = {"file": name, "package": package, "version": version, "license": license, "path": path}
        entries.append(entry | {"split": split_of(stem)})
        save(image, output, entry)
    return entries


def collect_skimage(output: Path) -> list[dict[str, str]]:
    """The CC0 pictures bundled with scikit-image (none when it is not installed)."""
    try:
        import skimage
    except ImportError:
        return []
    entries: list[dict[str, str]] = []
    for stem in SKIMAGE:
        found = sorted((Path(skimage.__file__).parent / "data").glob(f"{stem}.*"))
        if found:
            image = Image.open(found[0]).convert("RGB")
            entry = {"file": f"skimage_{stem}.jpg", "package": "scikit-image", "version": skimage.__version__}
            entry |= {"license": "CC0", "path": f"skimage/data/{found[0].name}", "split": split_of(stem)}
            save(image, output, entry)
            entries.append(entry)
    return entries


def main() -> None:
    """Build the bank and print how many pictures came from where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("texture_bank"))
    parser.add_argument("--work", type=Path, default=Path("texture_work"), help="downloads are kept here")
    parser.add_argument("--limit", type=int, default=600, help="most pictures from one package")
    parser.add_argument("--packages", nargs="*", default=PACKAGES)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    entries, seen = collect_skimage(arguments.output), set()
    for package in arguments.packages:
        entries += collect(package, arguments.work.resolve(), arguments.output, seen, arguments.limit)
        (arguments.output / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n")
    for key in ("package", "license", "split"):
        print(key, dict(Counter(entry[key] for entry in entries)))


if __name__ == "__main__":
    main()
