#!/usr/bin/env python3
"""Measures a GPU for the cost model: operators, layers, memory, and collectives. Needs PyTorch and nothing else.

    python3 tools/profile_gpu.py --out profile/                          one GPU, under 10 minutes
    torchrun --nproc-per-node 8 tools/profile_gpu.py --out profile/      and collectives between them
    python3 tools/profile_gpu.py --out profile/ --device cpu --tiny      a check without a GPU, in seconds

Writes into the folder, each file with the machine named in its head:
    operators.csv    name,operator,pass,format,batch,kv_batch,m,n,k,causal,bytes,time_us,accumulate
    layers.csv       micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us  (the block is layer 0)
    memory.csv       micro_batch,tp,format,peak_bytes of the block's forward and backward pass
    collectives.csv  operation,ranks,bytes,time_us  (bytes as in nccl-tests: the whole buffer)
The first two are what `tideplan calibrate` reads. A run that was stopped goes on where it was: what stands in the files
is not measured again. A block at TP > 1 is one rank's share of it, without its all-reduces.
"""

import argparse
import os
import platform
import sys
import time

import torch
import torch.nn.functional as F

FORMATS = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
OPERATORS = "name,operator,pass,format,batch,kv_batch,m,n,k,causal,bytes,time_us,accumulate"
LAYERS = "micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us"
MEMORY = "micro_batch,tp,format,peak_bytes"
COLLECTIVES = "operation,ranks,bytes,time_us"


class Table:
    """A CSV file that grows: rows that are there already are known by their key and not measured again."""

    def __init__(self, path, columns, key, about):
        self.path, self.key, self.done = path, key, set()
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                lines = file.readlines()
            heads = [line.rstrip("\n") for line in lines if not line.startswith("#")]
            if not heads or heads[0] != columns:
                sys.exit(f"{path}: expected the columns `{columns}`: move the file away")
            # A run that was killed may have left half a line: it goes, and its row is measured again.
            if not lines[-1].endswith("\n"):
                lines.pop()
                with open(path, "w", encoding="utf-8") as file:
                    file.writelines(lines)
            self.done = {self.key_of(line.rstrip("\n").split(",")) for line in lines if not line.startswith("#")}
        else:
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"# {about}\n{columns}\n")

    def key_of(self, cells):
        return ",".join(cells[: self.key])

    def has(self, *cells):
        return ",".join(str(c) for c in cells) in self.done

    def add(self, *cells):
        row = ",".join(str(c) for c in cells)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(row + "\n")
        self.done.add(self.key_of(row.split(",")))


class Clock:
    """Median time of a function: events on a GPU, the wall clock on a CPU."""

    def __init__(self, device, budget_s):
        self.device, self.budget_s = device, budget_s

    def sync(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def once(self, run):
        if self.device.type != "cuda":
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) * 1e6
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) * 1e3

    def median_us(self, run):
        run()
        self.sync()
        one = max(self.once(run), 1.0)
        repeats = int(min(30, max(3, self.budget_s * 1e6 / one)))
        times = sorted(self.once(run) for _ in range(repeats))
        return times[len(times) // 2]

    def stream_us(self, run, repeats=10):
        """Short kernels: many in a row, so that launching them is hidden as in training."""
        run()
        self.sync()
        if self.device.type != "cuda" or self.once(run) > 500:
            return self.median_us(run)

        def many():
            for _ in range(repeats):
                run()

        return self.median_us(many) / repeats


def supported(name, device):
    if device.type == "cpu":
        return name in ("fp32", "bf16")
    major = torch.cuda.get_device_capability(device)[0]
    return {"bf16": major >= 8, "tf32": major >= 8}.get(name, True)


def set_tf32(name):
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"


def shapes(tiny):
    """(hidden, kv width, MLP width, gated) of models from 1 to 70 billion parameters, tokens, TP sizes."""
    if tiny:
        return [(64, 64, 128, False)], [32], [1, 2]
    models = [(2048, 2048, 8192, False), (4096, 1024, 14336, True), (8192, 1024, 28672, True)]
    return models, [512, 1024, 2048, 4096, 8192, 16384], [1, 2, 4, 8]


def products(tiny):
    models, tokens, tps = shapes(tiny)
    for hidden, kv, ffn, gated in models:
        for tp in tps:
            if kv % tp or ffn % tp:
                continue
            up = (2 if gated else 1) * ffn // tp
            for t in tokens:
                for name, n, k in (("qkv", (hidden + 2 * kv) // tp, hidden), ("out", hidden, hidden // tp),
                                   ("mlp_up", up, hidden), ("mlp_down", hidden, ffn // tp)):
                    yield name, t, n, k


def measure_operators(table, device, clock, tiny, formats, report):
    cases = []
    for format_ in formats:
        for name, m, n, k in products(tiny):
            # 32-bit products are slow, and large ones tell nothing that these do not.
            if m > 4096 and format_ in ("fp32", "tf32"):
                continue
            # The forward product, and the two of its backward pass, laid out as a linear layer has them.
            for what, (a, b, c) in (("forward", (m, n, k)), ("dgrad", (m, k, n)), ("wgrad", (n, k, m))):
                cases.append(("gemm", f"{name}_{what}", format_, a, b, c, what))
        for heads, s, width in ([(2, 32, 16)] if tiny else
                                [(16, 2048, 64), (32, 2048, 128), (32, 4096, 128), (64, 4096, 128), (8, 16384, 128)]):
            for pass_ in ("forward", "backward"):
                if format_ in ("fp16", "bf16"):
                    cases.append(("attention", "flash", format_, heads, s, width, pass_))
        for t, h in ([(32, 64)] if tiny else [(1024, 4096), (4096, 4096), (4096, 8192), (16384, 4096)]):
            for kind in ("add", "norm", "activation", "gather"):
                cases.append(("memory", kind, format_, t, h, 0, 0))
    seen = set()
    for i, case in enumerate(dict.fromkeys(cases)):
        kind, name, format_, a, b, c, extra = case
        dtype = FORMATS[format_]
        size = torch.tensor([], dtype=dtype).element_size()
        report("operators", i, len(cases))
        if kind == "gemm":
            key = (name, "gemm", "", format_, 1, "", a, b, c, "", "")
            # Models share shapes: one name stands for all.
            again = (format_, a, b, c, extra) in seen
            seen.add((format_, a, b, c, extra))
            if again or table.has(*key):
                continue
            set_tf32(format_)
            x = torch.randn(*((c, a) if extra == "wgrad" else (a, c)), device=device, dtype=dtype)
            y = torch.randn(*((b, c) if extra == "forward" else (c, b)), device=device, dtype=dtype)
            left, right = (x.t() if extra == "wgrad" else x), (y.t() if extra == "forward" else y)
            table.add(*key, f"{clock.stream_us(lambda: torch.mm(left, right)):.3f}", 0)
        elif kind == "attention":
            key = (name, "attention", extra, format_, a, a, b, b, c, 1, "")
            if table.has(*key):
                continue
            q, k, v = (torch.randn(1, a, b, c, device=device, dtype=dtype, requires_grad=True) for _ in range(3))

            def forward():
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)

            if extra == "forward":
                with torch.no_grad():
                    us = clock.stream_us(forward)
            else:
                out = forward()
                grad = torch.randn_like(out)
                us = clock.stream_us(lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True))
            table.add(*key, f"{us:.3f}", "")
        else:
            x = torch.randn(a, b, device=device, dtype=dtype)
            y = torch.randn(a, b, device=device, dtype=dtype)
            weight = torch.ones(b, device=device, dtype=dtype)
            rows = torch.randint(0, a, (a,), device=device)
            run, passes = {
                "add": (lambda: torch.add(x, y), 3),
                "norm": (lambda: F.layer_norm(x, (b,), weight), 2),
                "activation": (lambda: F.gelu(x), 2),
                "gather": (lambda: F.embedding(rows, x), 2),
            }[name]
            key = (name, name, "", format_, "", "", "", "", "", "", passes * a * b * size)
            if not table.has(*key):
                table.add(*key, f"{clock.stream_us(run):.3f}", "")


class Block(torch.nn.Module):
    """One rank's share of a transformer block: pre-norm, attention, MLP of four times the hidden width."""

    def __init__(self, hidden, heads, tp, **where):
        super().__init__()
        self.heads, self.width = max(1, heads // tp), hidden // heads
        inner = self.heads * self.width
        self.norm1, self.norm2 = (torch.nn.LayerNorm(hidden, **where) for _ in range(2))
        self.qkv, self.out = torch.nn.Linear(hidden, 3 * inner, **where), torch.nn.Linear(inner, hidden, **where)
        self.up = torch.nn.Linear(hidden, 4 * hidden // tp, **where)
        self.down = torch.nn.Linear(4 * hidden // tp, hidden, **where)

    def forward(self, x):
        b, s, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(b, s, -1))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def measure_layers(layers, memory, device, clock, tiny, format_, report):
    hidden, heads, s = (64, 4, 32) if tiny else (4096, 32, 2048)
    batches, tps = ([1, 2], [1, 2]) if tiny else ([1, 2, 4, 8], [1, 2, 4, 8])
    set_tf32(format_)
    for i, (b, tp) in enumerate((b, tp) for b in batches for tp in tps):
        report("layers", i, len(batches) * len(tps))
        if layers.has(b, tp, 0, 0) and memory.has(b, tp, format_):
            continue
        block = Block(hidden, heads, tp, device=device, dtype=FORMATS[format_])
        optimizer = torch.optim.AdamW(block.parameters(), fused=device.type == "cuda")
        x = torch.randn(b, s, hidden, device=device, dtype=FORMATS[format_], requires_grad=True)
        try:
            out = block(x)
            grad = torch.randn_like(out)
            inputs = [x, *block.parameters()]
            forward = clock.median_us(lambda: block(x))
            backward = clock.median_us(lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True))
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            block(x).backward(grad)
            peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
            update = clock.median_us(optimizer.step)
        except torch.cuda.OutOfMemoryError:
            print(f"\n  micro-batch {b}, tp {tp}: does not fit, left out", file=sys.stderr)
            continue
        finally:
            del block, optimizer, x
            if device.type == "cuda":
                torch.cuda.empty_cache()
        layers.add(b, tp, 0, 0, f"{forward:.3f}", f"{backward:.3f}", f"{update:.3f}")
        memory.add(b, tp, format_, peak)


def measure_collectives(table, device, clock, tiny, report):
    import torch.distributed as dist

    ranks = dist.get_world_size()
    sizes = [1 << e for e in (range(10, 13) if tiny else range(10, 31, 2))]
    operations = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
    for i, (operation, size) in enumerate((o, s) for o in operations for s in sizes):
        if dist.get_rank() == 0:
            report("collectives", i, len(operations) * len(sizes))
        count = max(1, size // 4 // ranks) * ranks
        whole, part = torch.ones(count, device=device), torch.ones(count // ranks, device=device)
        other = torch.empty_like(whole)

        def run():
            if operation == "all_reduce":
                dist.all_reduce(whole)
            elif operation == "all_gather":
                dist.all_gather_into_tensor(whole, part)
            elif operation == "reduce_scatter":
                dist.reduce_scatter_tensor(part, whole)
            elif operation == "all_to_all":
                dist.all_to_all_single(other, whole)
            elif dist.get_rank() == 0:
                dist.send(whole, 1)
            elif dist.get_rank() == 1:
                dist.recv(whole, 0)

        # Every rank repeats as often as the others: a fixed count, and the slowest rank's median.
        try:
            for _ in range(3):
                run()
            dist.barrier()
            times = sorted(clock.once(run) for _ in range(10))
        except RuntimeError as error:
            if dist.get_rank() == 0:
                print(f"\n  {operation}: {str(error).splitlines()[0]}: left out", file=sys.stderr)
            continue
        median = torch.tensor([times[5]], device=device)
        dist.all_reduce(median, op=dist.ReduceOp.MAX)
        if dist.get_rank() == 0 and not table.has(operation, ranks, count * 4):
            table.add(operation, ranks, count * 4, f"{median.item():.3f}")


def progress(quiet):
    """A line that is rewritten on a terminal, silent elsewhere."""

    def report(what, done, of):
        if not quiet and sys.stderr.isatty():
            print(f"\r{what}: {done + 1} of {of}   ", end="\n" if done + 1 == of else "", file=sys.stderr, flush=True)

    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--formats", default="bf16,fp16,tf32,fp32", help="of %(default)s")
    parser.add_argument("--layer-format", default=None, help="format of the block (default: bf16 where there is one)")
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds on a CPU")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    args = parser.parse_args()
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    unknown = [f for f in args.formats.split(",") if f not in FORMATS]
    if unknown:
        parser.error(f"unknown format `{unknown[0]}`: expected {', '.join(FORMATS)}")
    device = torch.device(f"cuda:{rank}" if args.device == "cuda" else "cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    formats = [f for f in args.formats.split(",") if supported(f, device)]
    if not formats:
        parser.error(f"this device has none of {args.formats}")
    layer_format = args.layer_format or ("bf16" if supported("bf16", device) else "fp16")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    about = f"{name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {time.strftime('%Y-%m-%d')}"
    os.makedirs(args.out, exist_ok=True)
    at = lambda file: os.path.join(args.out, file)
    clock, report = Clock(device, 0.002 if args.tiny else 0.05), progress(args.quiet)
    if ranks > 1:
        import torch.distributed as dist

        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if int(os.environ.get("RANK", "0")) == 0:
        operators = Table(at("operators.csv"), OPERATORS, 11, about)
        layers = Table(at("layers.csv"), LAYERS, 4, f"{about}, {layer_format}")
        memory = Table(at("memory.csv"), MEMORY, 3, about)
        measure_operators(operators, device, clock, args.tiny, formats, report)
        measure_layers(layers, memory, device, clock, args.tiny, layer_format, report)
    if ranks > 1:
        dist.barrier()
        table = Table(at("collectives.csv"), COLLECTIVES, 3, about) if dist.get_rank() == 0 else None
        measure_collectives(table, device, clock, args.tiny, report)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
