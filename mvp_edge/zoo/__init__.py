"""The zoo: pruned models of earlier tasks, on disk."""

from mvp_edge.zoo.exemplars import Exemplars
from mvp_edge.zoo.member import Member, MemberInfo, member_id
from mvp_edge.zoo.outputs import Outputs
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo
from mvp_edge.zoo_file import bundled_zoos

__all__ = [
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
