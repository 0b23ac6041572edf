"""Versions of the API: what each is called, and what it asks of callers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Version:
    """A version of the API. Plain data: the root document shows what it is called, and admission asks the rest."""

    id: str
    status: str

    #: When it was last changed, as clients know it (ISO 8601).
    updated: str
    media_type: str

    #: What its paths and links begin with, like ``/v2``.
    root: str

    #: Does a signature stand in for credentials?
    signable: bool = True

    #: Do policy rules hold for callers who have not authenticated, too?
    rules_for_anybody: bool = True

    #: May the project be left out where nobody has to say who is calling? All who do so share one.
    nameless: bool = False

    #: Is every Client-ID a UUID, whatever ``client_id_uuid_safe`` says, also where none is needed?
    uuids_only: bool = False


#: What operations belong to that don't say another version.
V2 = Version(
    id="2", status="CURRENT", updated="2014-9-24T04:06:47Z",
    media_type="application/vnd.openstack.messaging-v2+json", root="/v2",
)
