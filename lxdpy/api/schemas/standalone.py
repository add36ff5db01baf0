"""What a single host answers where LXD has clusters."""

from pydantic import BaseModel


class Cluster(BaseModel):
    """Of which cluster this host is a member: of none."""

    server_name: str
    enabled: bool
    member_config: list[dict[str, str]]
