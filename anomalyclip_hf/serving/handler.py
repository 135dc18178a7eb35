# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score images at a Hugging Face Inference Endpoint.

`anomalyclip hub handler` copies this file into a model repository, beside the model's code. There it must stand alone:
it imports transformers, which loads that code.
"""

import base64
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import pipeline


MAX_BYTES = 20_000_000  # of an image file
MAX_PIXELS = 50_000_000  # width times height; a phone takes 12 or 48 million
PARAMETERS = ("threshold", "pixel_threshold")


class EndpointHandler:
    """Answer the requests of an Inference Endpoint.

    Hugging Face's inference toolkit turns every error into a response with status 400 and `{"error": "message"}`.

    Args:
        path (`str`, *optional*): Folder of the model repository; defaults to the folder of this file.

    Raises:
        OSError: If the folder does not exist or has no model.

    Example:
    ```python
    >>> import base64, io
    >>> from PIL import Image
    >>> from anomalyclip_hf import DEFAULT_MODEL
    >>> from anomalyclip_hf.serving.handler import EndpointHandler

    >>> handler = EndpointHandler(DEFAULT_MODEL)
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (32, 20), "grey").save(file, "PNG")
    >>> (result,) = handler({"inputs": base64.b64encode(file.getvalue()).decode(), "parameters": {"threshold": 0.9}})
    >>> sorted(result)
    ['anomaly_map', 'anomaly_map_maximum', 'label', 'mask', 'regions', 'score']

    ```
    """

    def __init__(self, path: str = ""):
        folder = Path(path) if path else Path(__file__).parent
        if not folder.is_dir():  # or transformers would look for it on the Hub, and run the code found there
            raise NotADirectoryError(f"{folder} is not a folder; expected the folder of a model repository.")
        # Whoever runs this file trusts the code in its folder already.
        self.pipe: Any = pipeline("anomaly-detection", model=str(folder), trust_remote_code=True)
        self._lock = threading.Lock()  # one image at a time, which bounds the memory

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Score one image.

        Args:
            data (`dict`): The request, with

                - `inputs` (`str`, `bytes` or `PIL.Image.Image`): the image file as base64, with or without
                  `data:image/…;base64,` before it, or its bytes; at most 20 MB and 50 megapixels;
                - `parameters` (`dict`, *optional*): `threshold` (score in [0, 1] from which an image is anomalous) and
                  `pixel_threshold` (map value from which a pixel belongs to the mask), as numbers or strings.

        Returns:
            `list[dict]`: One result, ready for JSON: `score`, `label`, `regions`, `anomaly_map` and `mask` as base64
            PNG, and `anomaly_map_maximum`, the map value that 65535 stands for in the PNG. A calibrated model also
            gives `p_value` and `decision` (`"accept"`, `"look"` or `"reject"`).

        Raises:
            ValueError: If the request has another form, or the image cannot be read or is too large.
        """
        if not isinstance(data, dict) or "inputs" not in data or set(data) - {"inputs", "parameters"}:
            raise ValueError('expected a request {"inputs": "an image as base64", "parameters": {…}}.')
        image, parameters = _read_image(data["inputs"]), _read_parameters(data.get("parameters"))
        with self._lock:
            return [self.pipe(image, output="json", max_pixels=MAX_PIXELS, **parameters)]


def _read_image(inputs: Any) -> bytes | Image.Image:
    """Return the image of a request as the bytes of its file. A path or URL is never opened."""
    if isinstance(inputs, Image.Image):
        return inputs  # the toolkit decodes a body of type image/* itself
    if isinstance(inputs, str):
        if len(inputs) > 1.4 * MAX_BYTES + 100:  # four characters hold three bytes; some callers break lines
            raise ValueError(f"inputs has {len(inputs)} characters; expected an image of at most {MAX_BYTES} bytes.")
        text = inputs.partition(",")[2] if inputs.startswith("data:") else inputs
        try:
            inputs = base64.b64decode("".join(text.split()), validate=True)
        except ValueError as error:
            raise ValueError("inputs is not base64; send the content of an image file as base64.") from error
    if not isinstance(inputs, bytes | bytearray):
        raise ValueError(f"inputs has the type {type(inputs).__name__}; expected an image file as base64 or bytes.")
    if len(inputs) > MAX_BYTES:
        raise ValueError(f"inputs has {len(inputs)} bytes; expected an image of at most {MAX_BYTES} bytes.")
    return bytes(inputs)


def _read_parameters(parameters: Any) -> dict[str, float]:
    """Return the thresholds of a request; the pipeline checks their range."""
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict) or set(parameters) - set(PARAMETERS):
        raise ValueError(f"parameters is {str(parameters)[:80]}; expected an object with {' and '.join(PARAMETERS)}.")
    try:
        return {name: float(value) for name, value in parameters.items() if value is not None}
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"parameters is {str(parameters)[:80]}; expected numbers.") from error
