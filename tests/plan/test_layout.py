"""Only rows that an output depends on are computed, and missing ones are named."""

import pytest

from nnet.errors import NnetError
from nnet.plan.groups import Loop
from nnet.plan.layout import bind
from nnet.plan.lower import lower
from nnet.plan.request import Request, TimeRange
from nnet.plan.times import Times
from tests.support import network_from

SUBSAMPLED = """
input-node name=input dim=4
component name=a type=TdnnComponent input-dim=4 output-dim=6 time-offsets=-1,0,1
component-node name=a component=a input=input
component name=b type=TdnnComponent input-dim=6 output-dim=5 time-offsets=-3,0,3
component-node name=b component=b input=a
output-node name=output input=b
"""


def layout_of(text, given, wanted, **options):
    plan = lower(network_from(text))
    request = Request.of({"input": given}, {"output": wanted})
    return plan, bind(plan, request, **options)


def times_of(plan, layout, origin):
    return next(
        times
        for operation, times in reversed(list(zip(plan.operations, layout.times, strict=True)))
        if operation.origin == origin
    )


def test_a_whole_layer_runs_at_a_third_of_the_rate():
    plan, layout = layout_of(SUBSAMPLED, TimeRange(-4, 38), TimeRange(0, 10, 3))
    assert times_of(plan, layout, "b") == Times(0, 3, 10)
    assert times_of(plan, layout, "a") == Times(-3, 3, 12)


def test_a_value_that_no_output_needs_is_not_computed():
    text = SUBSAMPLED + "output-node name=other input=a\n"
    plan = lower(network_from(text))
    request = Request.of({"input": TimeRange(-1, 3)}, {"other": TimeRange(0, 1)})
    layout = bind(plan, request)
    assert times_of(plan, layout, "b").count == 0


def test_missing_context_is_named():
    with pytest.raises(NnetError) as error:
        layout_of(SUBSAMPLED, TimeRange(-2, 36), TimeRange(0, 10, 3))
    assert "input 'input' is given at t = -2..33" in str(error.value)
    assert "the outputs need it at t = -4..31" in str(error.value)


def test_an_unknown_output_is_named():
    plan = lower(network_from(SUBSAMPLED))
    request = Request.of({"input": TimeRange(0, 9)}, {"outptu": TimeRange(0, 1)})
    with pytest.raises(NnetError, match="no output 'outptu'; the plan has: output"):
        bind(plan, request)
    with pytest.raises(NnetError, match="no output 'x'; its outputs are: output"):
        lower(network_from(SUBSAMPLED), ["x"])


def test_if_defined_reads_only_what_there_is():
    text = """
    input-node name=input dim=2
    output-node name=output input=Sum(input, IfDefined(Offset(input, -1)))
    """
    plan, layout = layout_of(text, TimeRange(0, 5), TimeRange(0, 5))
    value = next(v for v, o in enumerate(plan.operations) if type(o).__name__ == "IfDefined")
    (piece,) = layout.reads[value]
    assert piece.into is not None
    assert piece.into.tolist() == [1, 2, 3, 4]


TWO_OF_THREE = """
input-node name=input dim=4
component name=a type=LinearComponent input-dim=4 output-dim=6
component-node name=a component=a input=input
output-node name=output input=Append(a, Offset(a, 1))
"""


@pytest.mark.parametrize(("exact", "rows"), [(True, 20), (False, 29)])
def test_scattered_rows_are_exact_or_covered(exact, rows):
    plan, layout = layout_of(TWO_OF_THREE, TimeRange(0, 30), TimeRange(0, 10, 3), exact=exact)
    assert times_of(plan, layout, "a").count == rows


def test_a_cover_that_cannot_be_computed_is_not_taken():
    text = """
    input-node name=input dim=4
    input-node name=other dim=4
    component name=a type=LinearComponent input-dim=4 output-dim=6
    component-node name=a component=a input=Switch(input, input, other)
    output-node name=output input=Append(a, Offset(a, 1))
    """
    plan = lower(network_from(text))
    given = {"input": TimeRange(0, 29), "other": TimeRange(2, 1)}
    request = Request.of(given, {"output": TimeRange(0, 10, 3)})
    assert times_of(plan, bind(plan, request, exact=False), "a").count == 20


def test_a_recurrence_becomes_a_loop():
    text = """
    input-node name=input dim=2
    component name=a type=LinearComponent input-dim=4 output-dim=2
    component-node name=a component=a input=Append(input, IfDefined(Offset(b, -3)))
    component name=b type=SigmoidComponent dim=2
    component-node name=b component=b input=a
    output-node name=output input=b
    """
    plan = lower(network_from(text))
    (loop,) = [group for group in plan.groups if isinstance(group, Loop)]
    assert loop.forward
    assert loop.block == 3
    request = Request.of({"input": TimeRange(0, 20)}, {"output": TimeRange(4, 5, 3)})
    layout = bind(plan, request)
    assert repr(times_of(plan, layout, "b")) == "1..16 by 3"
