"""Operators of operators, six deep."""

from drawn import draw_schedules


def test_schedules_six_operators_deep_are_lawful():
    seen, lost = draw_schedules(60)
    assert seen == 60
    assert lost == []
