# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Open the images of a part where the engine reads them, wherever their bytes are."""

import time
from collections.abc import Sequence
from typing import Any

from ..scoring.inputs import is_url
from .inputs import Item
from .stores import open_store, protocol_of, try_again
from .tables import TableBytes


READ_PATIENCE = 60.0  # seconds for which a store may fail to give an image


class PartImages:
    """The images of a part as rows for [`SampleReader`]; each is opened when the engine reads it.

    Args:
        items (`Sequence[Item]`): The images.
    """

    def __init__(self, items: Sequence[Item]):
        self.items = items
        self.harmful: set[int] = set()  # places of images that end the process which reads them
        self.seconds = 0.0  # spent waiting for bytes, of all threads
        rows: dict[tuple[str, str], list[int]] = {}
        for item in items:
            if item.row is not None:
                rows.setdefault((item.url, item.column or ""), []).append(item.row)
        self._tables = {key: TableBytes(*key, numbers) for key, numbers in rows.items()}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[index]
        if index in self.harmful:
            return {"image": _Harmful(item), "path": item.name}
        is_file = item.offset is None and item.row is None and (protocol_of(item.url) == "file" or is_url(item.url))
        return {"image": item.url if is_file else _Bytes(self, item), "path": item.name}

    def read(self, item: Item) -> bytes:
        """Return the bytes of an image that is no local file of its own.

        Raises:
            OSError: If the store does not give them.
        """
        start = time.monotonic()
        try:
            if item.row is not None:
                content = self._tables[item.url, item.column or ""].get(item.row)
                if content is None:
                    raise ValueError(f"{item.name} has no bytes.")
                return content
            system, path = open_store(item.url)
            end = None if item.offset is None or item.length is None else item.offset + item.length
            return try_again(lambda: system.cat_file(path, item.offset, end), item.name, READ_PATIENCE)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{item.name} does not exist; expected an image file.") from error
        finally:
            self.seconds += time.monotonic() - start


class _Harmful:
    """An image that is not opened again."""

    def __init__(self, item: Item):
        self._item = item

    def read(self) -> bytes:
        raise ValueError(f"{self._item.name} has ended the process that read it; it is damaged or too large.")


class _Bytes:
    """A file object that fetches its content when it is read."""

    def __init__(self, images: PartImages, item: Item):
        self._images, self._item = images, item

    def read(self) -> bytes:
        return self._images.read(self._item)
