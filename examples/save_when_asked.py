"""The fewest lines that make a gang of torch processes save when it's asked, and go on from there.

Alone, under torchrun, or as the replicas of one task::

    torchrun --standalone --nproc-per-node 2 examples/save_when_asked.py
    stowplan submit --checkpoint file --replicas 2 -- python examples/save_when_asked.py
    stowplan submit --checkpoint file -- torchrun --nproc-per-node 2 examples/save_when_asked.py
"""

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage] - documented
from torch.nn.parallel import DistributedDataParallel

try:
    from client.training import Training
except ImportError:  # without Stowplan: a copy of its client/training.py beside this file
    from training import Training  # pyright: ignore[reportMissingImports]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fit a line, and save when asked.")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--save-every", type=int, default=1_000, help="steps")
    parser.add_argument("--step-seconds", type=float, default=0.01)
    parser.add_argument("--save-seconds", type=float, default=0.0, help="as a large state takes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    join_gang()

    run = Training()
    model, step = nn.Linear(4, 1), 0
    if run.publishes and (found := run.latest()):  # DDP hands rank 0's weights to the others
        model.load_state_dict(torch.load(found.path, weights_only=True))
        step = found.step
    step = largest(step)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.01)
    print(f"rank {dist.get_rank()} of {dist.get_world_size()} begins after step {step}", flush=True)

    asked = False
    while step < arguments.steps and not asked:
        inputs = torch.randn(16, 4)
        optimizer.zero_grad()
        nn.functional.mse_loss(parallel(inputs), inputs.sum(dim=1, keepdim=True)).backward()
        optimizer.step()
        time.sleep(arguments.step_seconds)
        step += 1
        run.step(step, of=arguments.steps)
        # All or none: a rank that left the loop alone would leave the others waiting in it.
        asked = largest(run.asked()) == 1
        if asked:
            run.acknowledge()
        if asked or step % arguments.save_every == 0 or step == arguments.steps:
            if run.publishes:
                with run.saving(step) as path:
                    torch.save(model.state_dict(), path)
                    time.sleep(arguments.save_seconds)
            dist.barrier()
            run.done()
    how = "saved when asked" if asked else "is through"
    print(f"rank {dist.get_rank()} {how} after step {step}", flush=True)
    dist.destroy_process_group()
    return 0


def join_gang() -> None:
    """As the environment says; without one, a gang of one."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", rank=0, world_size=1, store=HashStore())


def largest(number: int) -> int:
    """The largest of all ranks' numbers, on every rank."""
    box = torch.tensor(int(number))
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return int(box.item())


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    os._exit(exit_code)  # a thread of torch's may abort the process while the interpreter unwinds
