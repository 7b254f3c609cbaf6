"""Config or xconfig: the first word tells."""

import pytest

from nnet.text.kinds import is_config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input-node name=input dim=3", True),
        ("\n# component\n\n  component name=a type=NoOpComponent dim=3 # x\n", True),
        ("component-node", True),
        ("input dim=3 name=input", False),
        ("# input-node name=a\nrelu-layer name=a dim=6 ng-affine-options=", False),
        ("#component\ncomponents", False),
        ("", False),
    ],
)
def test_the_first_word_that_is_no_comment_tells(text: str, expected: bool) -> None:
    assert is_config(text) is expected
