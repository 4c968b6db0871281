"""Actions in the words of the REPL."""

from __future__ import annotations

from chatmem.errors import Action, ActionKind

ACTIONS: dict[ActionKind, str] = {
    "change_memory": "/memory {} changes the strategy.",
    "edit_config": "chatmem config edit opens it.",
    "list_models": "chatmem models lists what is available.",
    "list_sessions": "/sessions lists them.",
    "new_session": "/new starts another session.",
    "pin": "/pin {} keeps it in the context.",
    "retry": "/retry asks again.",
    "save_elsewhere": "/save PATH writes it to another file.",
    "set_option": "/set {} changes it.",
    "show_context": "/context shows it.",
    "start_session": "/new NAME starts one.",
    "unpin": "/unpin another turn first.",
    "use_offline_model": "/model offline uses the built-in model.",
}


def describe_action(action: Action) -> str:
    return " ".join(ACTIONS[action.kind].format(action.argument).split())
