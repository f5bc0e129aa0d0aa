"""What erasing would do, and how far erasures have come, as JSON.

One shape for command line and API.
"""

from typing import Any

from auditlog.core.record import format_id, format_time
from auditlog.log.directory import LogDirectory
from auditlog.log.erasure_plan import Plan
from auditlog.log.finishing import waiting_for

__all__ = ["OUT_OF_REACH", "STAYS", "erasures_json", "plan_json"]

STAYS = (
    "every entry with its times, route, model and outcome, the sizes in its "
    "commitment, and every proof and receipt"
)
OUT_OF_REACH = (
    "what was disclosed or exported, copies of the keyring that are not recorded, "
    "and what the service itself keeps"
)


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return what is held, and what erasing it does and does not reach."""
    return {
        "dryRun": True,
        "decisions": plan.decisions,
        "amendments": plan.amendments,
        "accesses": plan.accesses,
        "notOpened": plan.unread,
        "routes": list(plan.routes),
        "from": _time(plan.first),
        "to": _time(plan.last),
        "given": [
            {
                "time": _time(one.time),
                "recipient": one.recipient,
                "purpose": one.purpose,
                "what": one.what,
                "decision": one.decision,
            }
            for one in plan.given
        ],
        "backupsExpire": _time(plan.backup_expiry),
        "elsewhere": plan.elsewhere,
        "stays": STAYS,
        "outOfReach": OUT_OF_REACH,
    }


def erasures_json(log: LogDirectory, now: int) -> list[dict[str, Any]]:
    """Return each erasure and what it waits for; nothing tells whom one was about.

    Args:
        log: the opened log.
        now: microseconds since the epoch.
    """
    return [
        {
            "id": format_id(row.id),
            "state": row.state,
            "since": format_time(row.time),
            "key": row.key_id.hex(),
            "waitsFor": waiting_for(log, row, now),
        }
        for row in log.store.erasures()
    ]


def _time(us: int | None) -> str | None:
    return None if us is None else format_time(us)
