"""All the ways to ask the text model, as routes of a service."""

from fastapi import FastAPI

from demo_service.text.answer import Clerk
from demo_service.text.chat_completions import chat_completions
from demo_service.text.messages import messages
from demo_service.text.responses import responses
from demo_service.text.socket import chat

__all__ = ["add_text_model"]


def add_text_model(service: FastAPI, clerk: Clerk) -> None:
    """Let a service answer questions to the text model."""
    for routes in (chat_completions, responses, messages, chat):
        service.include_router(routes(clerk))
