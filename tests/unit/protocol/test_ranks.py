import pytest

from protocol import ranks


@pytest.mark.parametrize(
    ("argv", "gpus", "count"),
    [
        (("torchrun", "train.py"), 0, 1),
        (("torchrun", "train.py"), 4, 4),
        (("torchrun", "--nproc-per-node=2", "train.py"), 0, 2),
        (("torchrun", "--nproc_per_node", "3", "train.py"), 8, 3),
        (("torchrun", "--nproc-per-node", "gpu", "train.py"), 8, 8),
        (("sh", "-c", "exec torchrun --nproc-per-node 2 train.py"), 0, 2),
        (("torchrun", "--nproc-per-node"), 0, 1),
        (("torchrun", "--nproc-per-node=\N{SUPERSCRIPT TWO}"), 0, 1),
    ],
)
def test_a_command_tells_how_many_ranks_it_starts(
    argv: tuple[str, ...], gpus: int, count: int
) -> None:
    assert ranks.local_ranks(argv, gpus) == count


def test_a_ranks_lines_are_told_apart_also_where_lines_were_passed_on_in_pieces() -> None:
    printed = (
        b"torchrun itself\n[rank0]: one\n[rank1]: a half[rank0]: two\n[rank1]:  line\n"
        b"torchrun again\n[rank10]: ten\n[rank1]: [rank1]: Traceback\n"
    )
    assert ranks.of_rank(printed, 0) == b"one\ntwo\n"
    assert ranks.of_rank(printed, 1) == b"a half line\nTraceback\n"
    assert ranks.of_rank(printed, 10) == b"ten\n"
    assert ranks.of_rank(printed, 2) == b""


def test_what_is_cut_anywhere_comes_to_the_same() -> None:
    printed = b"x\n[rank0]: one\n[rank1]: half[rank0]: two\n[rank1]:  line\n[rank1]: end"
    for at in range(len(printed) + 1):
        held = ranks.cut_prefix_bytes(printed[:at])
        first, second = printed[: at - held], printed[at - held :]
        for rank in (0, 1):
            whole = ranks.of_rank(first, rank) + ranks.of_rank(
                second, rank, ranks.rank_at_end(first)
            )
            assert whole == ranks.of_rank(printed, rank), (at, rank)
