"""safetensors files that say what they hold and know when a bit of it has flipped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["read", "sealed"]

DIGEST = "sha256"  # of the tensors' bytes, beside what a caller puts into the config


def sealed(save: Callable[[dict[str, str]], bytes], key: str, config: dict[str, Any]) -> bytes:
    """The bytes of a safetensors file with a config, and a digest of its tensors, as metadata.

    Args:
        save: from metadata to the bytes of the file, as `safetensors.torch.save` for some tensors.
        key: what the config is called in the metadata; one alone, since safetensors writes several
            in random order.
    """
    _, tensors = _split(save({}))
    digest = hashlib.sha256(tensors).hexdigest()
    return save({key: json.dumps({**config, DIGEST: digest})})


def read(path: Path, key: str) -> tuple[dict[str, Any], bytes]:
    """The config of a file that `sealed` made, and all its bytes; older files have no digest.

    Raises:
        OSError: names the file that cannot be read.
        ValueError: names the file, which is damaged or of another kind.
    """
    content = Path(path).read_bytes()
    try:
        header, tensors = _split(content)
        config = json.loads(header.get("__metadata__", {})[key])
    except KeyError:
        raise ValueError(
            f"{path}: has no {key!r} in its metadata, so another program wrote it"
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"{path}: damaged, it is no safetensors file") from None
    expected = config.pop(DIGEST, None)
    if expected not in (None, hashlib.sha256(tensors).hexdigest()):
        raise ValueError(f"{path}: damaged, its weights are not those that were written")
    return config, content


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header and the tensors' bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    tensors = memoryview(content)[8 + size :]
    last = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
    if len(tensors) != last:
        raise ValueError("cut off")
    return header, tensors
