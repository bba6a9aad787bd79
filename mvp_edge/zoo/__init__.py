"""The zoo: pruned models of earlier tasks, on disk."""

from mvp_edge.zoo.creation import create_zoo
from mvp_edge.zoo.exemplars import Exemplars
from mvp_edge.zoo.member import Breadth, Member, MemberInfo, member_id
from mvp_edge.zoo.outputs import Outputs
from mvp_edge.zoo.store import Added, Zoo, open_zoo
from mvp_edge.zoo_file import bundled_zoos

__all__ = [
    "Added",
    "Breadth",
    "Exemplars",
    "Member",
    "MemberInfo",
    "Outputs",
    "Zoo",
    "bundled_zoos",
    "create_zoo",
    "member_id",
    "open_zoo",
]
