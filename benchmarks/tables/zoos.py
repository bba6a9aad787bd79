"""Zoos of many members, and building them on engines."""

from __future__ import annotations

import pandas as pd

from benchmarks.tables import Frame, frame, listed, mark, markdown

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


def _newest(rows: Frame) -> Frame:
    """Return the records of the code that made the last one."""
    commits = rows.record.map(lambda r: r["commit"])
    return rows[commits.isin(commits.tail(1))]


def launchers() -> str:
    """What engines make, and what they cost beside one process."""
    rows = frame("launchers")
    in_turns, killed = _newest(rows[rows["round"].notna()]), _newest(rows[rows.kills > 0])
    alone_s = in_turns[in_turns.launcher == "none"].groupby("round").processor_s.median()
    rows: Frame = pd.concat([in_turns, killed])
    body = []
    for (name, at_once), mine in rows[rows.launcher != "none"].groupby(["launcher", "members_per_job"]):
        whole, disturbed = mine[mine.kills == 0], mine[mine.kills > 0]
        members = mine.members.iloc[0]
        over = (whole.processor_s - whole["round"].map(alone_s)).median() / members
        kills = [int(disturbed.killed.sum()), int(disturbed.repeated.sum())]
        kills = ["not run yet", ""] if disturbed.empty else kills
        body.append([
            f"`{name}`{mark(mine)}", int(at_once), f"{len(mine)} x {members}", *kills,
            f"{int(mine.same.astype(bool).sum())} of {len(mine)}", f"{over:.1f}",
            f"{over / MINUTE_S:.1%}", f"{over / MINUTE_S / 10:.1%}",
        ])  # fmt: skip
    head = [
        "engine", "members a job", "builds", "workers killed", "jobs done again", "builds equal to that in one process",
        "more per member, s", "of a minute", "of ten minutes",
    ]  # fmt: skip
    return markdown(head, body)
