"""Actions in the words of the command line."""

from __future__ import annotations

import shlex

from chatmem.errors import Action, ActionKind

ACTIONS: dict[ActionKind, str] = {
    "change_memory": "--memory {} uses another strategy.",
    "edit_config": "chatmem config edit opens it.",
    "list_facts": "chatmem facts list shows them.",
    "list_models": "chatmem models lists what is available.",
    "list_sessions": "chatmem sessions list shows them.",
    "list_templates": "chatmem templates list shows them.",
    "list_trash": "chatmem sessions list --trash shows what is there.",
    "new_session": "chatmem chat starts another session.",
    "pin": "",
    "restore": "chatmem sessions restore {} brings it back.",
    "restore_as": "chatmem sessions restore {} NEW gives it another name.",
    "retry": "",
    "save_elsewhere": "",
    "set_option": "Options are set under [options] in the config.",
    "show_context": "chatmem context shows it.",
    "show_reasoning": "",
    "start_session": "chatmem chat starts one.",
    "unpin": "Unpin another turn first.",
    "use_offline_model": "-m offline uses the built-in model.",
}
"""Empty for actions that are only possible in a running chat."""
_QUOTED = ("restore", "restore_as")
"""Actions whose argument is a word of a shell."""


def describe_action(action: Action) -> str:
    return ACTIONS[action.kind].format(shlex.quote(action.argument) if action.kind in _QUOTED else action.argument)
