import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from clinvk.errors import ClinvkError
from clinvk.web import keys
from clinvk.web.keys import Keyring
from fakes.unprivileged import unprivileged


def refusal(home: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ClinvkError) as caught:
        Keyring(home, environ or {})
    assert caught.value.failure.code == "policy_denied"
    return caught.value.failure.message


def test_a_key_is_known_by_the_name_of_its_owner(tmp_path: Path) -> None:
    alice, bob = keys.create(tmp_path, "alice"), keys.create(tmp_path, "bob@example.org")
    keyring = Keyring(tmp_path, {"CLINVK_API_KEYS": "one, two"})
    asked = (alice, bob, "one", "two", "", alice[:-1], "one, two")
    assert [keyring.owner(key) for key in asked] == ["alice", "bob@example.org", "key 1", "key 2", None, None, None]


def test_only_a_digest_is_kept_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    key = keys.create(tmp_path, "alice")
    kept = (tmp_path / "keys.json").read_text(encoding="utf-8")
    assert key not in kept
    assert key[12:] not in kept
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in keys.listed(tmp_path)] == ["alice"]


def test_a_revoked_key_is_refused_by_a_server_that_runs_already(tmp_path: Path) -> None:
    key, other = keys.create(tmp_path, "alice"), keys.create(tmp_path, "bob")
    keyring = Keyring(tmp_path, {})
    assert keyring.owner(key) == "alice"
    keys.revoke(tmp_path, "alice")
    assert (keyring.owner(key), keyring.owner(other)) == (None, "bob")
    keys.revoke(tmp_path, "bob")
    assert keyring.owner(other) is None
    assert keyring.required


def test_a_new_key_is_taken_by_a_server_that_runs_already(tmp_path: Path) -> None:
    keys.create(tmp_path, "alice")
    keyring = Keyring(tmp_path, {})
    assert keyring.owner(keys.create(tmp_path, "bob")) == "bob"


def test_without_keys_nothing_is_required(tmp_path: Path) -> None:
    assert not Keyring(tmp_path, {}).required


def test_the_first_key_counts_for_a_server_that_began_without(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path, {})
    key = keys.create(tmp_path, "alice")
    assert keyring.required
    assert (keyring.owner(key), keyring.owner("other")) == ("alice", None)


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_a_variable_without_a_key_does_not_mean_no_keys(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, {"CLINVK_API_KEYS": text}) == "CLINVK_API_KEYS is set but holds no key"


ODD = {"name": "x", "sha256": "no digest", "begins": "clinvk_x", "created_at": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "keys": []}',
        '{"version": 1, "keys": [{"name": "x"}]}',
        '{"version": 1}',
        json.dumps({"version": 1, "keys": [ODD]}),
    ],
)
def test_a_damaged_file_does_not_mean_no_keys(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content, encoding="utf-8")
    assert "cannot be read: it is damaged" in refusal(tmp_path)


def test_a_file_that_is_a_folder_does_not_mean_no_keys(tmp_path: Path) -> None:
    (tmp_path / "keys.json").mkdir()
    assert "cannot be read" in refusal(tmp_path)


def test_an_empty_file_of_keys_does_not_mean_no_keys(tmp_path: Path) -> None:
    keys.create(tmp_path, "alice")
    keys.revoke(tmp_path, "alice")
    assert "holds no key" in refusal(tmp_path)


def test_a_file_damaged_or_removed_under_a_running_server_lets_nobody_in(tmp_path: Path) -> None:
    key = keys.create(tmp_path, "alice")
    keyring = Keyring(tmp_path, {})
    (tmp_path / "keys.json").write_text("{", encoding="utf-8")
    with pytest.raises(ClinvkError, match="cannot be read"):
        keyring.owner(key)
    (tmp_path / "keys.json").unlink()
    assert keyring.owner(key) is None
    assert keyring.required


def test_a_file_that_may_no_longer_be_read_lets_nobody_into_a_running_server_until_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the folders above are for their owner alone
    key = keys.create(Path(), "alice")
    path = Path("keys.json")
    path.chmod(0o644)
    with unprivileged():
        keyring = Keyring(Path(), {})
    path.chmod(0)
    with unprivileged():
        with pytest.raises(ClinvkError, match="cannot be read: Permission denied"):
            keyring.owner(key)
        assert keyring.why_nobody() == "the API keys cannot be read"
    path.chmod(0o644)
    with unprivileged():
        assert keyring.owner(key) == "alice"


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a\n", "ä", "../x", "a,b"])
def test_a_name_that_would_not_do_in_a_log_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClinvkError, match="may hold letters, digits"):
        keys.create(tmp_path, name)


def test_a_name_has_one_key_at_most(tmp_path: Path) -> None:
    keys.create(tmp_path, "alice")
    with pytest.raises(ClinvkError, match="has a key already"):
        keys.create(tmp_path, "alice")
    with pytest.raises(ClinvkError, match="has no key; there are keys of: alice"):
        keys.revoke(tmp_path, "bob")


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(partial(keys.create, tmp_path), names))
    keyring = Keyring(tmp_path, {})
    assert [keyring.owner(key) for key in made] == names
    assert sorted(json.loads((tmp_path / "keys.json").read_bytes())) == ["keys", "version"]
