# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Files of `torch.save` are looked through before they are read, with no memory taken for what they claim.

Their pickle is not run: its instructions are followed one by one, with names and sizes in place of objects. Whatever
does more than put tensors, numbers and words into dictionaries, lists and tuples is refused.
"""

import math
import pickle
import pickletools
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .limits_anomalyclip import is_whole_number, one_line, shorten


MAX_PICKLE_BYTES = 2_000_000  # without the tensors; that of ViT-L/14 has 90 KB
MAX_PICKLE_STEPS = 100_000  # that of ViT-L/14 has 20,000
MAX_RECORDS = 20_000  # of a zip file; that of ViT-L/14 has 600
MAX_DIMENSIONS = 8
MAX_SIDE = 2**40  # of a tensor, which may be empty because another side is 0

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # with this begins what torch.save wrote before it wrote zip files
STORAGE_BYTES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1}
STORAGE_BYTES |= {"Byte": 1, "Bool": 1}
FLOATING_STORAGES = ("Double", "Float", "Half", "BFloat16")
# All that `torch.save` needs for tensors in dictionaries.
REBUILD_TENSOR = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
ORDERED_DICT = "collections OrderedDict"
SIZE = "torch Size"
# What the state of numpy's random numbers needs beside it.
NUMPY: tuple[str, ...] = (
    "numpy._core.multiarray _reconstruct",
    "numpy.core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
)
NUMPY += ("_codecs encode",)
# Instructions that make objects of any class.
MAKE_OBJECTS = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID")

SIMPLE: dict[str, Any] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}


class StoredTensor(NamedTuple):
    """What a file says about a tensor: `dtype` in the file's own words, and `shape`."""

    dtype: str
    shape: tuple[int, ...]


class DamagedFileError(ValueError):
    """A file is not what its header says; the reason, without the file's name."""


class _Global(NamedTuple):
    name: str  # "module name"


class _Storage(NamedTuple):
    dtype: str
    key: str
    length: int


class _Array:
    """Stands for an array of numpy."""


def count_elements(name: str, shape: Any) -> int:
    """Number of elements of a shape.

    Args:
        name (`str`): Of the tensor, for the error.
        shape: As it is stored.

    Raises:
        DamagedFileError: If it is no shape.
    """
    is_shape = isinstance(shape, (list, tuple)) and len(shape) <= MAX_DIMENSIONS and all(map(is_whole_number, shape))
    if not is_shape or not all(0 <= side <= MAX_SIDE for side in shape):
        raise DamagedFileError(f"{shorten(name)} has {f'shape {shorten(shape)}' if is_shape else 'no shape'}")
    return math.prod(shape)


def look_through_pickle(path: Path, with_numpy: bool = False) -> dict[str, StoredTensor]:
    """Look through a file that `torch.save` wrote, and see that what it claims is there.

    Args:
        path (`Path`): The file.
        with_numpy (`bool`, *optional*, defaults to `False`): Let arrays of numpy pass, as a state of random numbers.

    Returns:
        `dict[str, StoredTensor]`: tensors that lie under names on the first level.

    Raises:
        DamagedFileError: With the reason.
        OSError: If it holds more than tensors; one line with the reason.
    """
    try:
        return _look_through_pickle(path, with_numpy)
    except (zipfile.BadZipFile, NotImplementedError, struct.error, EOFError, UnicodeError) as error:
        # By the zip file's reader.
        raise DamagedFileError(shorten(str(error))) from error


def _look_through_pickle(path: Path, with_numpy: bool) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":  # as torch.load tells the two formats apart
            return _follow_legacy(path, with_numpy)
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise OSError(
                f"{path} is a TorchScript archive, which is a program; refused. Ask its author for safetensors."
            )
        sizes = _record_sizes(path, archive)
        folder = next(iter(sizes)).split("/")[0]
        if not 0 < sizes.get(f"{folder}/data.pkl", 0) <= MAX_PICKLE_BYTES:
            raise DamagedFileError(f"no pickle of 1 to {MAX_PICKLE_BYTES} bytes in it")
        follower = _Follower(path, BytesIO(archive.read(f"{folder}/data.pkl")), with_numpy)
    content = follower.follow()
    for storage in follower.storages.values():
        found = sizes.get(f"{folder}/data/{storage.key}", 0)
        if found < storage.length * STORAGE_BYTES[storage.dtype]:
            raise DamagedFileError(f"a tensor claims {storage.length} numbers and {found} bytes are there")
    follower.check_total()
    if not with_numpy:
        try:  # PyTorch reads zip files in a way of its own; on the meta device that takes no memory
            torch.load(path, map_location="meta", weights_only=True)
        except (RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise DamagedFileError(one_line(error)) from error
    return _tensors_of(content)


def _record_sizes(path: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    records, file_size = archive.infolist(), path.stat().st_size
    if not 0 < len(records) <= MAX_RECORDS:
        raise DamagedFileError(f"{len(records)} records in it, expected 1 to {MAX_RECORDS}")
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise DamagedFileError(f"{shorten(record.filename)} in it is compressed or encrypted")
        if record.file_size != record.compress_size or record.header_offset + record.file_size > file_size:
            raise DamagedFileError(f"{shorten(record.filename)} in it claims {record.file_size} bytes")
    if min(record.header_offset for record in records) != 0:
        raise DamagedFileError("something else stands before the records in it")  # readers disagree on such files
    if len({record.filename for record in records}) != len(records):
        raise DamagedFileError("two records in it have one name")
    return {record.filename: record.file_size for record in records}


def _follow_legacy(path: Path, with_numpy: bool) -> dict[str, StoredTensor]:
    """Follow the four pickles with which older files begin, and see that the storages behind them are there."""
    with path.open("rb") as file:
        head = BytesIO(file.read(MAX_PICKLE_BYTES))
    magic = _Follower(path, head).follow()
    if magic != LEGACY_MAGIC:
        raise DamagedFileError("not written by torch.save")
    for _ in ("protocol", "sizes of the machine's types"):
        _Follower(path, head).follow()
    follower = _Follower(path, head, with_numpy)
    content = follower.follow()
    keys = _Follower(path, head).follow()
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not is_list or sorted(keys) != sorted(follower.storages):
        raise DamagedFileError("its tensors and their storages do not match")
    end = head.tell()
    with path.open("rb") as file:
        for storage in (follower.storages[key] for key in keys):
            file.seek(end)
            length = int.from_bytes(file.read(8), "little")
            if length != storage.length:
                raise DamagedFileError(f"a tensor claims {storage.length} numbers and {length} are there")
            end += 8 + length * STORAGE_BYTES[storage.dtype]
    if end > path.stat().st_size:
        raise DamagedFileError(f"its tensors claim {end} bytes and the file has {path.stat().st_size}")
    follower.check_total()
    return _tensors_of(content)


def _tensors_of(content: Any) -> dict[str, StoredTensor]:
    if not isinstance(content, dict):
        return {}
    return {str(name): value for name, value in content.items() if isinstance(value, StoredTensor)}


class _Follower:
    """Follows a pickle as an unpickler would, but makes names and sizes instead of objects.

    Args:
        path (`Path`): The file, for errors.
        stream (`BytesIO`): Stands where the pickle begins; afterwards, where it ends.
        with_numpy (`bool`, *optional*, defaults to `False`): Let arrays of numpy pass.
    """

    def __init__(self, path: Path, stream: BytesIO, with_numpy: bool = False):
        self.path, self.stream = path, stream
        self.allowed = {*REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT, SIZE, *(NUMPY if with_numpy else ())}
        self.claimed = 0  # bytes, by the shapes of all tensors in dictionaries and lists
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def follow(self) -> Any:
        """Follow the pickle to its end, and give what it makes."""
        try:
            for steps, (opcode, argument, _) in enumerate(pickletools.genops(self.stream)):
                if steps > MAX_PICKLE_STEPS:
                    raise DamagedFileError(f"a pickle of more than {MAX_PICKLE_STEPS} steps")
                self._step(opcode.name, argument)
            return self.stack.pop()
        except DamagedFileError:
            raise
        except (
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:  # an instruction finds not what it needs
            raise DamagedFileError(f"its pickle is no state dict: {shorten(str(error))}") from error

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "STOP", "FRAME"):
            return
        if name in ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"):
            stack.append(argument)
        elif name in SIMPLE:
            stack.append(SIMPLE[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(stack)
            self.stack = []
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(self._top(count))]
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self._global(" ".join([stack.pop(-2), stack.pop()]) if argument is None else argument))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name in ("TUPLE", "SETITEM", "SETITEMS", "APPEND", "APPENDS"):
            self._fill(name)
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self._call(stack.pop(), arguments))
        elif name == "BUILD":  # of an OrderedDict: the versions of its modules
            state = stack.pop()
            if not isinstance(stack[-1], _Array) and not (isinstance(stack[-1], dict) and isinstance(state, dict)):
                raise self._refusal("sets the state of an object")
        elif name in MAKE_OBJECTS:
            raise self._refusal(f"makes an object ({name})")
        else:
            raise DamagedFileError(f"its pickle has the instruction {name}, which torch.save does not write")

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("too little on the stack")
        return self.stack[-count:]

    def _fill(self, name: str) -> None:
        """Put what lies on the stack into the tuple, dictionary or list below it."""
        if name in ("SETITEM", "APPEND"):
            items = self._top(2 if name == "SETITEM" else 1)
            del self.stack[-len(items) :]
        else:
            items, self.stack = self.stack, self.marks.pop()
        if name == "TUPLE":
            self.stack.append(tuple(items))
            return
        held = [item for item in items if isinstance(item, StoredTensor)]
        self.claimed += sum(math.prod(tensor.shape) * STORAGE_BYTES[tensor.dtype] for tensor in held)
        target = self.stack[-1]
        if name.startswith("APPEND"):
            if not isinstance(target, list):
                raise TypeError("a list is needed")
            target += items
            return
        keys = items[::2]
        if not isinstance(target, dict) or not all(isinstance(key, (str, int)) for key in keys):
            raise TypeError("a dictionary with names is needed")
        target.update(zip(keys, items[1::2], strict=True))

    def _global(self, words: str) -> _Global:
        module, _, name = words.partition(" ")
        storage = name.removesuffix("Storage") if module == "torch" and name.endswith("Storage") else None
        if words not in self.allowed and storage not in STORAGE_BYTES:
            raise self._refusal(f"wants to run {shorten(f'{module}.{name}')}")
        return _Global(words)

    def _storage(self, identity: Any) -> _Storage:
        kind, storage_type, key, _, length = identity[:5]
        dtype = storage_type.name.removeprefix("torch ").removesuffix("Storage")
        is_view = len(identity) > 6 or (len(identity) == 6 and identity[5] is not None)
        if kind != "storage" or not isinstance(key, str) or not is_whole_number(length) or length < 0 or is_view:
            raise TypeError("a storage is needed")
        storage = _Storage(dtype, key, length)
        if STORAGE_BYTES[dtype] and self.storages.setdefault(key, storage) != storage:
            raise TypeError("a storage is named twice")
        return storage

    def _call(self, function: Any, arguments: Any) -> Any:
        name = function.name if isinstance(function, _Global) else None
        if name == ORDERED_DICT and arguments == ():
            return {}
        if name == SIZE:
            (shape,) = arguments
            return shape
        if name == REBUILD_PARAMETER:
            tensor, requires_grad, hooks = arguments
            return self._with_gradient(tensor, requires_grad, hooks)
        if name == REBUILD_TENSOR[0]:
            requires_grad, hooks, *metadata = arguments[4:]
            if any(metadata):
                raise TypeError("a tensor has metadata")
            return self._with_gradient(self._tensor(*arguments[:4]), requires_grad, hooks)
        if name == REBUILD_TENSOR[1]:
            return self._tensor(*arguments)
        if name in NUMPY and (not name.endswith("_reconstruct") or arguments[1] == (0,)):
            return _Array()
        raise self._refusal(f"calls {shorten(name or type(function).__name__)}")

    def _tensor(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> StoredTensor:
        count = count_elements("a tensor", shape)
        if not isinstance(storage, _Storage) or len(shape) != len(strides) or count_elements("a tensor", strides) < 0:
            raise TypeError("a tensor is needed")
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if not is_whole_number(offset) or offset < 0 or (count and max(last + 1, count) > storage.length):
            raise DamagedFileError(
                f"a tensor of shape {shorten(shape)} claims more than its storage of {storage.length}"
            )
        return StoredTensor(storage.dtype, tuple(shape))

    @staticmethod
    def _with_gradient(tensor: Any, requires_grad: Any, hooks: Any) -> StoredTensor:
        is_floating = isinstance(tensor, StoredTensor) and tensor.dtype in FLOATING_STORAGES
        if not isinstance(tensor, StoredTensor) or not isinstance(hooks, dict) or hooks:
            raise TypeError("a tensor without hooks is needed")
        if not isinstance(requires_grad, bool) or (requires_grad and not is_floating):
            raise TypeError("a gradient is asked for where there is none")
        return tensor

    def check_total(self) -> None:
        """Refuse many tensors that share one storage: each would become large when it is copied."""
        size = self.path.stat().st_size
        if self.claimed > 2 * size:
            raise DamagedFileError(f"its tensors claim {self.claimed} bytes and the file has {size}")

    def _refusal(self, reason: str) -> OSError:
        return OSError(
            f"{self.path} holds more than tensors: its pickle {reason}, so reading it could run code; refused. Ask "
            "its author for safetensors."
        )


__all__ = ["DamagedFileError", "StoredTensor", "count_elements", "look_through_pickle"]
