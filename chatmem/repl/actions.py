"""Actions in the words of the REPL."""

from __future__ import annotations

import shlex

from chatmem.errors import Action, ActionKind

ACTIONS: dict[ActionKind, str] = {
    "change_memory": "/memory {} changes the strategy.",
    "edit_config": "chatmem config edit opens it.",
    "list_facts": "/facts lists them.",
    "list_models": "chatmem models lists what is available.",
    "list_sessions": "/sessions lists them.",
    "list_templates": "/template lists them.",
    "list_trash": "chatmem sessions list --trash shows what is there.",
    "new_session": "/new starts another session.",
    "pin": "/pin {} keeps it in the context.",
    "restore": "chatmem sessions restore {} brings it back.",
    "restore_as": "chatmem sessions restore {} NEW gives it another name.",
    "retry": "/retry asks again.",
    "save_elsewhere": "/save PATH writes it to another file.",
    "set_option": "/set {} changes it.",
    "show_context": "/context shows it.",
    "show_reasoning": "/thinking shows it.",
    "start_session": "/new NAME starts one.",
    "unpin": "/unpin another turn first.",
    "use_offline_model": "/model offline uses the built-in model.",
}


def describe_action(action: Action) -> str:
    argument = shlex.quote(action.argument) if action.kind in ("restore", "restore_as") else action.argument
    return " ".join(ACTIONS[action.kind].format(argument).split())
