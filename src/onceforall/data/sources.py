"""What a user may name as data, opened as lists of labelled images that are not decoded yet."""

from ..errors import DataError
from ..files import reading_or_writing
from ..places import expanded
from .embedded import open_digits, open_torchvision
from .folders import holds_image_folders, open_folder
from .originals import Source

__all__ = ["open_source"]


def open_source(source: str) -> Source:
    """Find the images that `source` names. Nothing is decoded yet.

    Args:
        source: one of
            a folder with train/ and val/ (or others of the names in `split_names`), each with one folder per class;
            a folder with one folder per class;
            a folder with Parquet files as the Hugging Face hub lays them out (train-*.parquet, train/*.parquet, in a
                configuration's folder or not);
            `torchvision:NAME:ROOT`, a data set of torchvision that is in ROOT already;
            `digits`, the 1,797 handwritten digits that come with scikit-learn.

    Raises:
        DataError: nothing usable is there, or more than one reading; the message says what was expected.
    """
    from .parquet import open_parquet, parquet_files  # pyarrow takes a while to load

    if source == "digits":
        return open_digits()
    if source.startswith("torchvision:"):
        return open_torchvision(source)
    path = expanded(source)
    with reading_or_writing(path):
        there, is_folder = path.exists(), path.is_dir()
    if not source.strip() or not there:
        raise DataError(
            f"{source or 'an empty path'}: no such folder: check the path (or use 'digits', or 'torchvision:NAME:ROOT')"
        )
    if not is_folder:
        raise DataError(f"{source}: this is a file: give the folder that holds the images (or the Parquet files)")
    files = parquet_files(path)
    if not (files.with_images or files.without or files.broken):
        return open_folder(path)
    if not holds_image_folders(path):
        return open_parquet(path, files)
    if files.with_images:
        raise DataError(
            f"{path}: are its folders of images the data, or its Parquet files with images ({files.with_images[0]}, …)? Give the "
            "folder that holds only the one or the other, or move one of them away"
        )
    return open_folder(path)
