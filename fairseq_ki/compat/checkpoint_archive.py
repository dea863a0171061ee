"""A checkpoint in the zip format is looked over before torch reads it.

torch's reader compares no checksum: a byte that a disk or a copy has changed would become another
weight, without a word. And it unpacks what is compressed, so that a small file could ask for more
memory than there is, although ``torch.save`` compresses nothing.
"""

import os
import zipfile
from typing import IO


def what_is_wrong(file: str | IO[bytes], contents: bool) -> str | None:
    """The damage in words; None if there is none.

    Args:
        file: path or open file in the zip format.
        contents: compare every record with its CRC-32 too, which reads the whole file.
    """
    size = os.path.getsize(file) if isinstance(file, str) else file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
            if not stored or sum(record.file_size for record in records) > size:
                return f"its records are compressed or overlap ({size} bytes)"
            changed = archive.testzip() if contents else None
    except OSError:
        raise  # the disk or a network mount
    except Exception as error:  # an index made to confuse, or damaged
        return f"its index is damaged ({size} bytes, {type(error).__name__}: {error})"
    return changed and f"the record {changed} has changed since it was written ({size} bytes)"
