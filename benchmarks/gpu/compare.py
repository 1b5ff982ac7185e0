# SPDX-License-Identifier: Apache-2.0
"""The cases of gpu_benchmark once more through PyTorch, and both side by side.

    python compare.py --forja forja.json --json kernels.json --markdown kernels.md

Matrix products are torch.matmul (cuBLAS), attention is scaled_dot_product_attention with cuDNN and with FlashAttention, the
rest torch.compile of the plain formula. Times are medians between events, after a warm-up; the ratio is PyTorch's time
over Forja's (above 1: Forja is faster).
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

REPEATS = 40
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def seconds(body):
    for _ in range(5):
        body(0)
    times = []
    for i in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        body(i)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(times)


def normal(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, dtype=dtype, device="cuda")


def matmul(case):
    t, i, o = case["tokens"], case["in"], case["out"]
    dtype = DTYPES[case["dtype"]]
    sets = max(1, min(16, (256 << 20) // ((t * (i + o) + i * o) * dtype.itemsize) + 1))
    x, w, y = ([normal(*shape, dtype=dtype) for _ in range(sets)] for shape in ((t, i), (o, i), (t, o)))
    if case["pass"] == "forward":
        return {"cuBLAS": seconds(lambda k: torch.mm(x[k % sets], w[k % sets].t()))}
    if case["pass"] == "dgrad":
        return {"cuBLAS": seconds(lambda k: torch.mm(y[k % sets], w[k % sets]))}
    # PyTorch's gradient of a bf16 weight is bf16; Forja's is added to fp32.
    return {"cuBLAS": seconds(lambda k: torch.mm(y[k % sets].t(), x[k % sets]))}


def expansion(case):
    x, w = normal(case["tokens"], case["in"]), normal(case["out"], case["in"])

    def body(x):
        c = x @ w.t()
        return c, swiglu(c) if case["activation"] == "swiglu" else F.gelu(c, approximate="tanh")

    return compiled(body, x)


def attention(case):
    b, t, h, g, d = (case[k] for k in ("batch", "length", "heads", "kv_heads", "head_dim"))
    out = {}
    for name, backend in (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("FlashAttention", SDPBackend.FLASH_ATTENTION)):
        q, k, v = (normal(b, n, t, d).requires_grad_() for n in (h, g, g))
        try:
            with sdpa_kernel(backend):
                call = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=h != g)
                if case["pass"] == "forward":
                    with torch.no_grad():
                        out[name] = seconds(lambda _: call())
                else:
                    y, dy = call(), normal(b, h, t, d)
                    out[name] = seconds(lambda _: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))
        except RuntimeError as error:
            print(f"{name}: {str(error).splitlines()[0]}")
    return out


def compiled(function, *inputs):
    fast = torch.compile(function)
    return {"compiled": seconds(lambda _: fast(*inputs))}


def rms_norm_sum(x, r, w):
    s = x + r
    return s, F.rms_norm(s, w.shape, w, 1e-5)


def rms_norm_backward(dy, x, res, w):
    """With rstd = 1, as the benchmark has it: the same reads, writes and sums over rows."""
    g = dy.float() * w.float()
    xf = x.float()
    dx = g - xf * (g * xf).mean(-1, keepdim=True) + res.float()
    return dx.bfloat16(), (dy.float() * xf).sum(0)


def swiglu(x):
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


def swiglu_backward(x, dy):
    gate, up = x.float().chunk(2, -1)
    s = torch.sigmoid(gate)
    d = dy.float()
    return torch.cat((d * up * s * (1 + gate * (1 - s)), d * gate * s), -1).bfloat16()


def statistics_of_rows(x):
    f = x.float()
    m = f.amax(-1, keepdim=True)
    return m, (f - m).exp().sum(-1)


def optimizer_step(case):
    """PyTorch has no bf16 moments beside fp32 weights, so no peer for those cases."""
    sizes = case["tensors"] * [case["elements"]]
    if case.get("moments") == "bf16":
        return {}
    gradients = [normal(n, dtype=torch.float32) for n in sizes]
    if case["op"] == "sum_of_squares":
        return {"get_total_norm": seconds(lambda _: torch.nn.utils.get_total_norm(gradients, foreach=True))}
    parameters = [torch.nn.Parameter(normal(n, dtype=torch.float32)) for n in sizes]
    for p, g in zip(parameters, gradients):
        p.grad = g
    optimizer = torch.optim.AdamW(parameters, fused=True)
    return {"fused": seconds(lambda _: optimizer.step())}


def memory_bound(case):
    op = case["op"]
    if op in ("adamw", "sum_of_squares"):
        return optimizer_step(case)
    n, h = case["rows"], case["columns"]
    if op == "copy fp32":
        x, y = normal(n, h, dtype=torch.float32), normal(n, h, dtype=torch.float32)
        return {"copy_": seconds(lambda _: y.copy_(x))}
    if op == "add + rms_norm forward":
        return compiled(rms_norm_sum, normal(n, h), normal(n, h), normal(h))
    if op == "rms_norm backward + residual":
        return compiled(rms_norm_backward, normal(n, h), normal(n, h), normal(n, h), normal(h))
    if op == "swiglu forward":
        return compiled(swiglu, normal(n, 2 * h))
    if op == "swiglu backward":
        return compiled(swiglu_backward, normal(n, 2 * h), normal(n, h))
    if op == "bias_gradient":
        return compiled(lambda x: x.float().sum(0), normal(n, h))
    if op == "softmax_statistics":
        return compiled(statistics_of_rows, normal(n, h))
    return {}


def measure(case):
    torch._dynamo.reset()
    kinds = {"matmul": matmul, "matmul + activation": expansion, "attention": attention}
    return kinds.get(case["op"], memory_bound)(case)


def table(cases):
    lines = ["| case | Forja | rate | PyTorch | PyTorch's time / Forja's |", "| --- | --- | --- | --- | --- |"]
    for c in cases:
        what = ", ".join(f"{v}" if k == "op" else f"{k} {v}" for k, v in c.items()
                         if k not in ("seconds", "p5", "p95", "tflops", "gbytes_per_s", "percent_of_copy", "pytorch", "ratio"))
        rate = f"{c['tflops']:.0f} TFLOP/s" if "tflops" in c else f"{c['gbytes_per_s']:.0f} GB/s"
        if "percent_of_copy" in c:
            rate += f" ({c['percent_of_copy']:.0f} % of a copy's)"
        peers = ", ".join(f"{k} {v * 1e3:.3f} ms" for k, v in c["pytorch"].items()) or "-"
        ratio = f"{c['ratio']:.2f}" if "ratio" in c else "-"
        spread = f"{c['seconds'] * 1e3:.3f} ms ({c['p5'] * 1e3:.3f}-{c['p95'] * 1e3:.3f})"
        lines.append(f"| {what} | {spread} | {rate} | {peers} | {ratio} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forja", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, required=True)
    args = parser.parse_args()
    result = json.loads(args.forja.read_text())
    for case in result["results"]:
        case["pytorch"] = measure(case)
        if case["pytorch"]:
            case["ratio"] = min(case["pytorch"].values()) / case["seconds"]
        torch.cuda.empty_cache()
    result["torch"] = torch.__version__
    result["device"] = torch.cuda.get_device_name()
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    args.markdown.write_text(f"{result['device']}, PyTorch {result['torch']}, Forja {result['git_revision']}\n\n"
                             f"{table(result['results'])}\n")
    print(args.markdown.read_text())


if __name__ == "__main__":
    main()
