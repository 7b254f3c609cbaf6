"""What commands say of where they run."""

from nnet.commands.notices import say_if_slow
from nnet.kernels import implementation


def test_it_is_said_that_native_code_is_not_at_hand(monkeypatch, capsys):
    monkeypatch.setattr(implementation, "native_is_available", lambda: False)
    say_if_slow("cuda")
    assert capsys.readouterr().err == ""
    say_if_slow("cpu")
    message = capsys.readouterr().err
    assert message.startswith("nnet: warning: native code is not at hand here, so plain torch")
    assert message.count("\n") == 1


def test_nothing_is_said_where_it_is(capsys):
    say_if_slow("cpu")
    assert capsys.readouterr().err == ""
