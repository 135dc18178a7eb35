# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read the labels of annotation tools, COCO JSON and labelme JSON, and draw them as masks."""

import base64
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .files import folder_name, is_image_name
from .layouts import Row, Words
from .words import ANOMALOUS, GOOD, NORMAL, label_of


# NumPy and Pillow are imported only where masks are drawn, since every --help lists the catalogue.
if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Coco:
    """Read COCO JSON: an image with annotations is anomalous, one without is normal."""

    name: str = "COCO JSON"
    expects: str = "a .json file with images and annotations, in the folder or in annotations/"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return bool(self._files(root))

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        found = _images_below(root)
        for file in self._files(root):
            index = _read_json(file)
            split = next((word for word in SPLITS if word in file.stem.casefold()), "test")
            try:
                names = {category["id"]: category["name"] for category in index.get("categories", ())}
                drawn = defaultdict(list)
                for one in index["annotations"]:
                    if label_of(names.get(one.get("category_id"), ""), normal_words) != NORMAL:
                        drawn[one["image_id"]].append(one)
                for image in index["images"]:
                    path, marks = _find(found, image["file_name"], root), drawn[image["id"]]
                    if not marks:
                        yield Row(path, NORMAL, folder_name(root), GOOD, split)
                        continue
                    mask = _draw_coco(marks, (image["width"], image["height"]), file)
                    kind = names.get(marks[0].get("category_id"), "anomaly")
                    yield Row(path, ANOMALOUS, folder_name(root), kind, split, mask)
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{file} is not COCO JSON ({type(error).__name__}: {error}).") from error

    def _files(self, root: Path) -> list[Path]:
        files = sorted([*root.glob("*.json"), *root.glob("annotations/*.json")])
        return [file for file in files if {"images", "annotations"} <= _keys(file)]


@dataclass(frozen=True)
class Labelme:
    """Read labelme JSON beside images: an image with shapes is anomalous, one without is normal."""

    name: str = "labelme JSON"
    expects: str = "images, and beside those with anomalies a .json file of labelme"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return any("shapes" in _keys(file) for file in sorted(root.rglob("*.json")))

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        found = _images_below(root)
        shapes_of: dict[Path, tuple[Path, dict[str, Any]]] = {}
        for file in sorted(root.rglob("*.json")):
            index = _read_json(file)
            if isinstance(index, dict) and "shapes" in index:
                own = [path for path in found[""] if path.with_suffix("") == file.with_suffix("")]
                image = own[0] if own else _find(found, str(index.get("imagePath", "")), root)
                shapes_of[image] = (file, index)
        for image in found[""]:
            file, index = shapes_of.get(image, (image, {}))
            shapes = [
                one for one in index.get("shapes", ()) if label_of(str(one.get("label")), normal_words) != NORMAL
            ]
            if not shapes:
                yield Row(image, NORMAL, folder_name(root), GOOD)
                continue
            try:
                mask = _draw_labelme(shapes, (index["imageWidth"], index["imageHeight"]))
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise ValueError(f"{file} is not labelme JSON ({type(error).__name__}: {error}).") from error
            yield Row(image, ANOMALOUS, folder_name(root), str(shapes[0]["label"]), mask=mask)


def _draw_coco(marks: list[dict[str, Any]], size: tuple[int, int], file: Path) -> bytes | None:
    """Draw polygons and bitmaps; `None` if an annotation has only a box, which is no ground truth for pixels."""
    from PIL import Image, ImageDraw

    mask = Image.new("1", size)
    for mark in marks:
        segmentation = mark.get("segmentation")
        if not segmentation:
            return None
        try:
            if isinstance(segmentation, dict):
                bitmap = Image.fromarray(_decode_runs(segmentation))
                if bitmap.size != size:
                    raise ValueError(f"its bitmap has {bitmap.size} pixels, the image {size}")
                mask.paste(1, mask=bitmap)
            else:
                for polygon in segmentation:
                    ImageDraw.Draw(mask).polygon([float(value) for value in polygon], fill=1)
        except ValueError as error:
            raise ValueError(f"{file}: annotation {mark.get('id')} cannot be drawn ({error}).") from error
    return _as_png(mask)


def _decode_runs(segmentation: dict[str, Any]) -> "np.ndarray":
    """Decode run lengths, which are in column order."""
    import numpy as np

    (height, width), counts = segmentation["size"], segmentation["counts"]
    if isinstance(counts, list):
        values = np.arange(len(counts)) % 2
        return np.repeat(values, counts).reshape(width, height).T.astype(bool)
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError("compressed bitmaps need `pip install anomalyclip-hf[coco]`") from error
    return mask.decode({"size": [height, width], "counts": counts.encode()}).astype(bool)


def _draw_labelme(shapes: list[dict[str, Any]], size: tuple[int, int]) -> bytes:
    import numpy as np
    from PIL import Image, ImageDraw

    mask = Image.new("1", size)
    draw = ImageDraw.Draw(mask)
    for shape in shapes:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        kind = shape.get("shape_type") or "polygon"
        if kind == "mask":
            bitmap = Image.open(io.BytesIO(base64.b64decode(shape["mask"]))).convert("1")
            mask.paste(1, (round(points[0][0]), round(points[0][1])), bitmap)
        elif kind == "rectangle":
            (left, top), (right, bottom) = np.sort(np.array(points), axis=0)
            draw.rectangle((left, top, right, bottom), fill=1)
        elif kind == "circle":
            radius = float(np.hypot(*np.subtract(points[1], points[0])))
            (x, y) = points[0]
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        elif len(points) > 2:
            draw.polygon(points, fill=1)
    return _as_png(mask)


def _as_png(mask: "Image.Image") -> bytes:
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as json ({error}).") from error


def _keys(file: Path) -> set[str]:
    index = _read_json(file)
    return set(index) if isinstance(index, dict) else set()


def _images_below(root: Path) -> dict[str, list[Path]]:
    """List all images below a folder, by file name, and all of them under the empty name."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if is_image_name(path.name):
            found[path.name].append(path)
            found[""].append(path)
    return found


def _find(found: dict[str, list[Path]], name: str, root: Path) -> Path:
    """Find the file that an index names, often with the folders of another machine."""
    path = PurePosixPath(name.replace("\\", "/"))
    same = [one for one in found.get(path.name, ()) if path.name]
    exact = [one for one in same if one.as_posix().endswith(path.as_posix())]
    if len(exact) == 1 or len(same) == 1:
        return (exact or same)[0]
    if same:
        raise ValueError(f"{root} has {len(same)} files called {path.name}; name the folder of each in the JSON.")
    return root / path.name
