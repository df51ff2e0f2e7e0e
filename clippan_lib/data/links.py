"""Arrays in an HDF5 file that lie in that file and nowhere else: links and layouts that lead out are never followed."""

from pathlib import Path

import h5py
from h5py import h5d, h5l, h5o

from clippan_lib.errors import DataError

_FOLLOWED = 16  # soft links, one behind the other


def array_in(file: h5py.File, path: Path, key: str) -> h5py.Dataset | None:
    """The array of a key, None if there is no such key, or no array.

    Args:
        file: open.
        path: path of the file, for messages.
        key: at the top.
    Raises: DataError if the key, or its values, lie in another file: h5py would read any file that one may read.
    """
    try:
        found = _followed(file, file, key, _FOLLOWED)
    except DataError as error:
        raise DataError(f"{path}: key {key!r} {error}; store the array itself under this key") from None
    if not isinstance(found, h5py.Dataset):
        return None
    plan = found.id.get_create_plist()
    outside = [plan.get_external(number)[0].decode() for number in range(plan.get_external_count())]
    if outside:
        raise DataError(
            f"{path}: key {key!r} has its values in other files ({outside[0]}); store them in this one (h5repack)"
        )
    if plan.get_layout() == h5d.VIRTUAL:
        sources = sorted({source.file_name for source in found.virtual_sources()})
        raise DataError(
            f"{path}: key {key!r} is a virtual array of {', '.join(sources)[:300]}; store the array itself under this "
            "key"
        )
    return found


def _followed(file: h5py.File, group: h5py.Group, name: str, left: int) -> h5py.Group | h5py.Dataset | None:
    """What a path means, link by link.

    Args:
        file, group: where paths begin that start with a slash, and others.
        name: the path.
        left: soft links that may still be followed.
    """
    here: h5py.Group | h5py.Dataset | None = file["/"] if name.startswith("/") else group
    for part in filter(None, name.encode().split(b"/")):
        if part == b".":
            continue
        if not isinstance(here, h5py.Group) or not here.id.links.exists(part):
            return None
        kind = here.id.links.get_info(part).type
        if kind == h5l.TYPE_SOFT:
            if not left:
                raise DataError(f"is a link behind {_FOLLOWED} others")
            here = _followed(file, here, here.id.links.get_val(part).decode(), left - 1)
        elif kind == h5l.TYPE_HARD:
            here = _opened(here, part)
        else:
            raise DataError(f"leads to another file ({_told(here, part)})")
    return here


def _opened(group: h5py.Group, part: bytes) -> h5py.Group | h5py.Dataset | None:
    found = h5o.open(group.id, part)
    if isinstance(found, h5d.DatasetID):
        return h5py.Dataset(found)
    return h5py.Group(found) if isinstance(found, h5py.h5g.GroupID) else None


def _told(group: h5py.Group, part: bytes) -> str:
    if group.id.links.get_info(part).type != h5l.TYPE_EXTERNAL:
        return "by a link that is not known here"
    return ", ".join(text.decode(errors="replace") for text in group.id.links.get_val(part))
