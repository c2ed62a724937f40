"""LangChain's and LangGraph's chat models against the gateway."""

from typing import Annotated, Any, TypedDict

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.graph.message import add_messages  # pyright: ignore[reportMissingTypeStubs]
from pydantic import BaseModel, SecretStr

from fakes.world import World
from gateway_fakes.server import Gateway, gateway, system_prompt

pytestmark = pytest.mark.anyio

MODELS = ("openai", "anthropic")


def model(kind: str, server: Gateway, name: str = "claude") -> BaseChatModel:
    if kind == "openai":
        return ChatOpenAI(model=name, base_url=f"{server.url}/openai/v1", api_key=SecretStr("k"), max_retries=0)
    return ChatAnthropic(
        model_name=name,
        base_url=f"{server.url}/anthropic",
        api_key=SecretStr("k"),
        max_retries=0,
        timeout=60,
        stop=None,
    )


@pytest.mark.parametrize("kind", MODELS)
async def test_a_chat_model_is_invoked_and_streamed(world: World, kind: str) -> None:
    asked = [SystemMessage("be brief"), HumanMessage("one"), AIMessage("yes?"), HumanMessage("two")]
    async with gateway(world) as server:
        chat = model(kind, server)
        got = await chat.ainvoke(asked)
        pieces = [chunk.text async for chunk in chat.astream("hi")]
    assert isinstance(got, AIMessage)
    assert got.text.endswith("The user now says:\n\ntwo")
    assert got.usage_metadata is not None
    assert got.usage_metadata["total_tokens"] == 15
    assert "".join(pieces) == "echo: hi"
    assert system_prompt(world) == "be brief"


class Answer(BaseModel):
    """An answer."""

    a: int


@pytest.mark.parametrize("kind", MODELS)
async def test_structured_output_is_a_model(world: World, kind: str) -> None:
    async with gateway(world) as server:
        chat = model(kind, server, "offline").with_structured_output(Answer, method="json_schema")
        got = await chat.ainvoke('offline:json={"a": 7}')
    assert got == Answer(a=7)


class State(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]


@pytest.mark.parametrize("kind", MODELS)
async def test_a_graph_talks_through_a_chat_model(world: World, kind: str) -> None:
    async with gateway(world) as server:
        chat = model(kind, server)

        async def speak(state: State) -> dict[str, Any]:
            return {"messages": [await chat.ainvoke(state["messages"])]}

        graph = StateGraph(State)
        graph.add_node("speak", speak)  # pyright: ignore[reportUnknownMemberType]
        graph.add_edge(START, "speak")
        graph.add_edge("speak", END)
        compiled: Any = graph.compile()  # pyright: ignore[reportUnknownMemberType]
        ended = await compiled.ainvoke({"messages": [HumanMessage("hi")]})
    assert [message.text for message in ended["messages"]] == ["hi", "echo: hi"]
