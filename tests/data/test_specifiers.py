"""How users name tables. Kaldi: ClassifyRspecifier and ClassifyWspecifier in util/kaldi-table."""

from __future__ import annotations

import pytest

from nnet.data.errors import TableError
from nnet.data.specifiers import Rspecifier, Wspecifier, parse_rspecifier, parse_wspecifier


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("ark:a.ark", "ark", "a.ark"),
        ("scp:a.scp", "scp", "a.scp"),
        ("ark,t:-", "ark", "-"),
        ("ark,s,cs:gunzip -c x.gz |", "ark", "gunzip -c x.gz |"),
        ("o,b,scp:C:/a.scp", "scp", "C:/a.scp"),
    ],
)
def test_rspecifiers_name_a_kind_and_a_place(text: str, kind: str, path: str) -> None:
    spec = parse_rspecifier(text)
    assert (spec.kind, spec.path, spec.permissive) == (kind, path, False)


def test_the_last_of_contrary_options_holds() -> None:
    assert parse_rspecifier("ark,p:x") == Rspecifier("ark,p:x", "ark", "x", permissive=True)
    assert not parse_rspecifier("ark,p,np:x").permissive


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ark:a", Wspecifier("ark:a", "a")),
        ("ark,t:-", Wspecifier("ark,t:-", "-", binary=False)),
        ("ark,scp:a.ark,b.scp", Wspecifier("ark,scp:a.ark,b.scp", "a.ark", "b.scp")),
        ("ark,f:| gzip -c > x", Wspecifier("ark,f:| gzip -c > x", "| gzip -c > x", flush=True)),
    ],
)
def test_wspecifiers_name_an_archive_and_perhaps_a_script(text: str, spec: Wspecifier) -> None:
    assert parse_wspecifier(text) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feats.scp", "did you mean 'scp:feats.scp'?"),
        ("feats.ark", "did you mean 'ark:feats.ark'?"),
        ("gunzip -c x.gz |", "did you mean 'ark:gunzip -c x.gz |'?"),
        ("ark:", "not a Kaldi rspecifier"),
        ("ark,x:a", "unknown table option 'x'"),
        ("ark,scp:a,b", "2 of ark and scp in a table to read"),
    ],
)
def test_what_is_no_rspecifier_is_refused_with_a_correction(text: str, message: str) -> None:
    with pytest.raises(TableError) as caught:
        parse_rspecifier(text)
    assert message in str(caught.value)
    assert "expected: " in str(caught.value)


@pytest.mark.parametrize("text", ["scp:a.scp", "ark,scp:a.ark", "scp,ark:a,b", "out.ark"])
def test_what_is_no_wspecifier_is_refused(text: str) -> None:
    with pytest.raises(TableError, match="expected: ark:FILE"):
        parse_wspecifier(text)
