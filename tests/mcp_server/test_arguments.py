import pytest

from clinvk.errors import ClinvkError
from clinvk.mcp_server import arguments
from clinvk.mcp_server.catalog import NoArguments
from clinvk.request import ChainRequest, CompareRequest, ParallelRequest, PromptRequest, RunsRequest


def told(model: type[PromptRequest | ParallelRequest | RunsRequest | NoArguments], given: dict[str, object]) -> str:
    with pytest.raises(ClinvkError) as caught:
        arguments.parse(model, given)
    assert caught.value.failure.code == "invalid_request"
    return caught.value.failure.message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "prompt is required"),
        ({"prompt": "  "}, "prompt must not be blank"),
        ({"prompt": "\ufeff\n"}, "prompt must not be blank"),
        (
            {"prompt": "x", "approval_mode": "yes"},
            "approval_mode is 'yes'; it must be one of 'default', 'auto', 'none' or 'always'",
        ),
        (
            {"prompt": "x", "max_turns": "many"},
            "max_turns is 'many'; it must be a valid integer, unable to parse string as an integer",
        ),
        ({"prompt": "x", "timeout_secs": 0}, "timeout_secs is 0; it must be greater than 0"),
        ({"prompt": "x", "tags": "a"}, "tags is 'a'; it must be a valid list"),
        ({"prompt": "x", "tags": [None]}, "tags[0] is null; it must be a valid string"),
        ({"prompt": "x", "metadata": "{broken"}, "metadata is '{broken'; it must be an object"),
        ({"prompt": "a\0b"}, "prompt must not contain NUL characters"),
        ({"prompt": "x", "session_id": ""}, "session_id must not be empty"),
        (
            {"prompt": "x", "workdir": "", "files": [""], "tags": ["a", ""]},
            "workdir must not be empty; files[0] must not be empty; tags[1] must not be empty",
        ),
        ({"prompt": "x", "model": "y" * 201}, "model has 201 characters; at most 200 are accepted"),
    ],
)
def test_a_fault_is_told_with_field_value_and_what_is_accepted(given: dict[str, object], message: str) -> None:
    assert told(PromptRequest, given) == message


@pytest.mark.parametrize("field", ["run_id", "query", "backend", "workdir", "status"])
def test_an_empty_filter_is_none(field: str) -> None:
    assert told(RunsRequest, {"action": "list", field: ""}) == f"{field} must not be empty"


def test_a_list_that_is_too_long_is_told_with_both_numbers() -> None:
    message = told(ParallelRequest, {"tasks": [{"prompt": "x"}] * 501})
    assert message == "tasks has 501 elements; at most 500 are accepted"


def test_an_unknown_parameter_is_told_with_the_nearest_and_with_all_that_exist() -> None:
    message = told(PromptRequest, {"prompt": "x", "promt": "y"})
    assert message.startswith("there is no parameter promt; did you mean prompt? accepted: prompt, backend, model")


def test_an_unknown_parameter_of_a_task_is_told_with_its_place() -> None:
    message = told(ParallelRequest, {"tasks": [{"prompt": "x"}, {"prompt": "y", "modell": "z"}]})
    assert message.startswith("there is no parameter tasks[1].modell; did you mean model? accepted: prompt, backend")


def test_faults_name_their_fields_in_one_way() -> None:
    with pytest.raises(ClinvkError) as caught:
        arguments.parse(ParallelRequest, {"tasks": [{"prompt": "x"}, {"output_schema": 5, "tags": [1], "modell": "z"}]})
    fields = ["tasks[1].prompt", "tasks[1].output_schema", "tasks[1].tags[0]", "tasks[1].modell"]
    assert caught.value.failure.details == {"fields": fields}


def test_a_tool_without_parameters_says_so() -> None:
    assert told(NoArguments, {"verbose": True}) == "there is no parameter verbose; accepted: none"


def test_a_long_value_is_shortened_and_many_faults_are_counted() -> None:
    message = told(ParallelRequest, {"tasks": [{"prompt": "x", "max_turns": "9" * 99 + "x"}] * 7})
    assert message.endswith("and 2 more")
    assert max(len(part) for part in message.split("; ")) < 200


def test_what_is_null_counts_as_left_out() -> None:
    request = arguments.parse(
        ParallelRequest, {"tasks": [{"prompt": "x", "files": None, "ephemeral": None}], "fresh": None}
    )
    assert request == ParallelRequest.model_validate({"tasks": [{"prompt": "x"}]})


def test_lists_and_objects_may_come_as_json_text() -> None:
    chain = arguments.parse(ChainRequest, {"steps": '[{"prompt": "a"}]'})
    compare = arguments.parse(CompareRequest, {"prompt": "x", "backends": '["claude"]', "models": '{"claude": "opus"}'})
    assert chain.steps[0].prompt == "a"
    assert (compare.backends, compare.models) == (["claude"], {"claude": "opus"})


def test_a_prompt_that_looks_like_json_stays_text() -> None:
    assert arguments.parse(PromptRequest, {"prompt": '{"a": 1}', "model": "[x]"}).prompt == '{"a": 1}'


def test_numbers_and_booleans_may_come_as_text() -> None:
    request = arguments.parse(PromptRequest, {"prompt": "x", "max_turns": "5", "dry_run": "true"})
    assert (request.max_turns, request.dry_run) == (5, True)
