"""Users and groups as docker reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.errors import InvalidRequestError
from lxdpy.workers.lifecycle.accounts import home_of, resolve

FILES = {
    "/etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "# comment:x:5:5::/:\n"
        "broken\n"
        "app:x:100:101:an app:/home/app:/bin/sh\n"
        "4242:x:7:8::/numeric:/bin/sh\n"
        "homeless:x:9:9:::\n"
        "bad:x:minus:1::/:\n"
    ),
    "/etc/group": "root:x:0:\naudio:x:29:app,root\nvideo:x:44:app\nvideo2:x:44:app\nwheel:x:10:root\nbad:x:y:app\n",
}


def read(path: str) -> str:
    return FILES.get(path, "")


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [29, 10], "/root"),
        ("root", 0, 0, [29, 10], "/root"),
        ("app", 100, 101, [29, 44], "/home/app"),
        ("100", 100, 101, [29, 44], "/home/app"),
        ("app:wheel", 100, 10, [], "/home/app"),
        ("app:77", 100, 77, [], "/home/app"),
        ("app:", 100, 101, [29, 44], "/home/app"),
        (":wheel", 0, 10, [], "/root"),
        ("4242", 7, 8, [], "/numeric"),
        ("555", 555, 0, [], "/"),
        ("555:666", 555, 666, [], "/"),
        ("homeless", 9, 9, [], "/"),
        ("4294967294", 4294967294, 0, [], "/"),
    ],
)
def test_resolve(user: str, uid: int, gid: int, groups: list[int], home: str) -> None:
    account = resolve(user, read)
    assert (account.uid, account.gid, account.groups, account.home) == (uid, gid, groups, home)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", 'User "nobody" is not in /etc/passwd'),
        ("bad", 'User "bad"'),
        ("4294967295", 'User "4294967295"'),
        ("-1", 'User "-1"'),
        ("١", "User"),
        ("app:nogroup", 'Group "nogroup" is not in /etc/group'),
    ],
)
def test_unknown(user: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        resolve(user, read)


def test_numbers_need_no_files() -> None:
    assert resolve("5:6", lambda _: "").uid == 5
    assert home_of(100, read) == "/home/app"
    assert home_of(1, read) == "/"


@given(st.text(), st.text(), st.text())
def test_no_file_breaks_it(user: str, passwd: str, group: str) -> None:
    try:
        account = resolve(user, {"/etc/passwd": passwd, "/etc/group": group}.__getitem__)
    except InvalidRequestError:
        return
    assert 0 <= account.uid <= 4294967294


@pytest.mark.parametrize("comment", ["\u2028", "\x0c", "\x85", "\r"])
def test_comments_end_no_line(comment: str) -> None:
    text = f"app:x:100:101:{comment}an app:/home/app:/bin/sh\n"
    assert resolve("app", lambda path: text if path == "/etc/passwd" else "").home == "/home/app"


def test_numbers_of_thousands_of_digits() -> None:
    files = {"/etc/passwd": f"app:x:{'1' * 5000}:101::/:\n", "/etc/group": f"app:x:{'1' * 5000}:app\n"}
    for user in ("app", "1" * 5000):
        with pytest.raises(InvalidRequestError, match="not in /etc/passwd"):
            resolve(user, lambda path: files[path])
    assert resolve("7", lambda path: files[path]).uid == 7
