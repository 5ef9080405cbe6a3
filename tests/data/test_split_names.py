import pytest

from onceforall.data.formats.split_names import arrange, mentions_role, role_of
from onceforall.errors import DataError


@pytest.mark.parametrize(
    ("name", "plain", "mentioned"),
    [
        ("train", "train", "train"),
        ("Training", "train", "train"),
        ("x_train", "train", "train"),
        ("TrainImages", "train", "train"),
        ("training_set", "train", "train"),
        ("train2017", "train", "train"),
        ("partial-train", "train", "train"),
        ("TEST", "test", "test"),
        ("Testing", "test", "test"),
        ("test-images", "test", "test"),
        ("eval", "evaluation", "evaluation"),
        ("held-out", "evaluation", "evaluation"),
        ("hold_out", "evaluation", "evaluation"),
        ("Validation", "validation", "validation"),
        ("dev", "validation", "validation"),
        ("seg_train", None, "train"),
        ("train_small", None, "train"),
        ("test_tube", None, "test"),
        ("train_test_split", None, None),
        ("cat", None, None),
        ("images", None, None),
        ("contest", None, None),
        ("invalid", None, None),
        ("restrained", None, None),
        ("___", None, None),
    ],
)
def test_what_a_name_means(name: str, plain: str | None, mentioned: str | None) -> None:
    assert (role_of(name), mentions_role(name)) == (plain, mentioned)


def test_of_two_others_the_first_is_the_test_part() -> None:
    found = {"dev": "validation", "eval": "evaluation", "train": "train"}
    assert arrange(found, "x") == ["train", "eval", "dev"]  # type: ignore[arg-type]
    assert arrange({"Val": "validation", "train": "train"}, "x") == ["train", "Val"]
    with pytest.raises(DataError, match="x: no training images beside eval"):
        arrange({"eval": "evaluation"}, "x")
