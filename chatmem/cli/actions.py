"""Actions in the words of the command line."""

from __future__ import annotations

from chatmem.errors import Action, ActionKind

ACTIONS: dict[ActionKind, str] = {
    "change_memory": "--memory {} uses another strategy.",
    "edit_config": "chatmem config edit opens it.",
    "list_models": "chatmem models lists what is available.",
    "list_sessions": "chatmem sessions list shows them.",
    "new_session": "chatmem chat starts another session.",
    "pin": "",
    "retry": "",
    "save_elsewhere": "",
    "set_option": "Options are set under [options] in the config.",
    "show_context": "chatmem context shows it.",
    "start_session": "chatmem chat starts one.",
    "unpin": "Unpin another turn first.",
    "use_offline_model": "-m offline uses the built-in model.",
}
"""Empty for actions that are only possible in a running chat."""


def describe_action(action: Action) -> str:
    return ACTIONS[action.kind].format(action.argument)
