"""Zoos of many members, and building them on engines."""

from __future__ import annotations

from benchmarks.tables import frame, listed, mark, markdown

MINUTE_S = 60  # a member that takes little: 200 steps of a small network on a CPU core


def large_zoos() -> str:
    """Ranking by names, and `zoo list`, by the number of members."""
    rows = frame("large-zoos")
    listing = rows[rows.kind == "list"].iloc[-1]
    ranked = rows[rows.kind == "rank"].drop_duplicates("members", keep="last")
    table = listed(ranked, {
        "members": "{members:,}{mark}", "ranking, s": "{rank_s:.2f}", "reading the stored catalogue, s": "{read_s:.2f}",
        "catalogue, MiB": "{catalogue_mib:.1f}", "memory, MiB": "{added_mib:,.0f}",
    })  # fmt: skip
    return (
        f"{table}\n\n`zoo list` of {listing.members:,} members{mark(rows[rows.kind == 'list'])} takes "
        f"{listing.processor_s:.1f} s, and {listing.first_processor_s:.1f} s when the catalogue has to be made."
    )


def launchers() -> str:
    """What engines make, and what they cost beside one process."""
    rows = frame("launchers")
    rows = rows[rows.record.map(lambda r: r["commit"]) == rows.record.iloc[-1]["commit"]]
    alone_s = rows[rows.launcher == "none"].processor_s.median()
    body = []
    for name, mine in rows[rows.launcher != "none"].groupby("launcher", sort=False):
        whole, disturbed = mine[mine.kills == 0], mine[mine.kills > 0]
        members = mine.members.iloc[0]
        over = (whole.processor_s.median() - alone_s) / members
        kills = [int(disturbed.killed.sum()), int(disturbed.repeated.sum())]
        body.append([
            f"`{name}`{mark(mine)}", f"{len(mine)} x {members}", *(["not run yet", ""] if disturbed.empty else kills),
            f"{int(mine.same.astype(bool).sum())} of {len(mine)}", f"{over:.1f}",
            f"{over / MINUTE_S:.1%}", f"{over / MINUTE_S / 10:.1%}",
        ])  # fmt: skip
    head = [
        "engine", "builds", "workers killed", "jobs done again", "builds equal to that in one process",
        "more per member, s", "of a minute", "of ten minutes",
    ]  # fmt: skip
    return markdown(head, body)
