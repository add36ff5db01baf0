from lxdpy.linux.cpu_list import parse


def test_a_list_is_read() -> None:
    assert parse("0-2,5\n") == (0, 1, 2, 5)
    assert parse("\n") == ()
