"""Where a run may work."""

import os
from pathlib import Path

import pytest

from clinvk.config.policy import check_workdir
from clinvk.config.settings import Config, ServerConfig
from clinvk.errors import ClinvkError


def policy(*, allowed: tuple[Path, ...] = (), blocked: tuple[Path, ...] = ()) -> Config:
    return Config(server=ServerConfig(allowed_workdir_prefixes=allowed, blocked_workdir_prefixes=blocked))


def refusal(path: str | None, config: Config, default: Path) -> tuple[str, str]:
    with pytest.raises(ClinvkError) as caught:
        check_workdir(path, config, default)
    return caught.value.failure.code, caught.value.failure.message


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A resolved directory with `a`, `ab`, `a/inner` and a file."""
    place = tmp_path.resolve() / "place"
    for name in ("a/inner", "ab"):
        (place / name).mkdir(parents=True)
    (place / "file").write_text("")
    return place


def test_without_a_policy_any_directory_is_given_back_resolved(place: Path) -> None:
    (place / "link").symlink_to(place / "a")
    assert check_workdir(str(place / "link" / ".." / "ab"), Config(), place) == place / "ab"
    assert check_workdir(str(place / "link"), Config(), place) == place / "a"
    assert check_workdir("a/inner", Config(), place) == place / "a" / "inner"


def test_a_home_is_expanded(private_home: Path) -> None:
    assert check_workdir("~", Config(), Path("/")) == private_home.resolve()


def test_a_workdir_that_is_no_directory_is_an_invalid_request(place: Path) -> None:
    missing, file = str(place / "x"), str(place / "file")
    assert refusal(missing, Config(), place) == ("invalid_request", f"workdir {missing!r} does not exist")
    assert refusal(file, Config(), place) == ("invalid_request", f"workdir {file!r} is not a directory")


@pytest.mark.parametrize("path", ["nul\0byte", "x" * 5000, "~nobody-of-this-name/x", "file/below"])
def test_a_workdir_that_is_no_usable_path_is_an_invalid_request(place: Path, path: str) -> None:
    assert refusal(path, Config(), place)[0] == "invalid_request"


def test_a_loop_of_links_is_an_invalid_request(place: Path) -> None:
    (place / "loop").symlink_to(place / "loop")
    assert refusal(str(place / "loop"), Config(), place)[0] == "invalid_request"


def test_a_prefix_admits_itself_and_what_is_below_but_not_a_longer_name(place: Path) -> None:
    config = policy(allowed=(place / "a",))
    assert check_workdir(str(place / "a"), config, place) == place / "a"
    assert check_workdir(str(place / "a" / "inner"), config, place) == place / "a" / "inner"
    assert refusal(str(place / "ab"), config, place) == (
        "workdir_denied",
        f"workdir {str(place / 'ab')!r} is outside of the allowed directories; allowed: {place / 'a'}",
    )


@pytest.mark.parametrize("path", [None, "", "."])
def test_the_default_is_checked_like_any_other(place: Path, path: str | None) -> None:
    assert refusal(path, policy(allowed=(place / "a",)), place)[0] == "workdir_denied"
    assert check_workdir(path, policy(allowed=(place / "a",)), place / "a" / "inner") == place / "a" / "inner"


def test_neither_dots_nor_links_lead_out_of_an_allowed_directory(place: Path) -> None:
    config = policy(allowed=(place / "a",))
    (place / "a" / "out").symlink_to(place / "ab")
    for path in (place / "a" / ".." / "ab", place / "a" / "out", place / "a" / "inner" / ".." / ".."):
        assert refusal(str(path), config, place)[0] == "workdir_denied"


def test_a_prefix_that_is_a_link_stands_for_its_target(place: Path) -> None:
    (place / "link").symlink_to(place / "a")
    assert check_workdir(str(place / "a" / "inner"), policy(allowed=(place / "link",)), place) == place / "a" / "inner"
    assert refusal(str(place / "a"), policy(blocked=(place / "link",)), place)[0] == "workdir_denied"


def test_blocked_wins_over_allowed(place: Path) -> None:
    config = policy(allowed=(place,), blocked=(place / "a" / "inner", place / "not-there"))
    assert check_workdir(str(place / "a"), config, place) == place / "a"
    assert refusal(str(place / "a" / "inner"), config, place) == (
        "workdir_denied",
        f"workdir {str(place / 'a' / 'inner')!r} is in a blocked directory; allowed: {place}",
    )
    assert refusal(str(place / "not-there" / "x"), config, place)[0] == "workdir_denied"


def test_a_denial_does_not_tell_whether_the_place_exists(place: Path) -> None:
    config = policy(allowed=(place / "a",))
    there, missing = refusal(str(place / "ab"), config, place), refusal(str(place / "ax"), config, place)
    assert there[1].replace("ab'", "") == missing[1].replace("ax'", "")


def test_another_name_of_a_blocked_directory_is_blocked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that ignores case, where `A` is `a`."""
    (place / "A").mkdir()
    real, alias, target = Path.stat, place / "A", place / "a"

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        return real(target if self == alias else self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    assert refusal(str(alias), policy(blocked=(target,)), place)[0] == "workdir_denied"
