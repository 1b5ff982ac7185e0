# SPDX-License-Identifier: Apache-2.0
"""trace.json: the first steps of a run, action by action."""

import json
import unittest
from collections import defaultdict

from forja_testing import ForjaTest


class TraceTest(ForjaTest):
    def trace(self, name):
        """The spans of every (rank, track), and the names of the ranks."""
        events = json.loads((self.folder / name / "trace.json").read_text())["traceEvents"]
        ranks = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
        names = {
            (e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"
        }
        spans = defaultdict(list)
        for event in events:
            if event["ph"] == "X":
                spans[event["pid"], names[event["pid"], event["tid"]]].append(event)
        return spans, ranks

    def assert_in_order(self, spans):
        """No span begins before the one before it ends, or before zero."""
        for track, events in spans.items():
            end = 0.0
            for event in sorted(events, key=lambda e: (e["ts"], e["dur"])):
                # Three decimals of microseconds are exact; their sum is nearly.
                self.assertGreaterEqual(event["ts"], end - 1e-4, f"{track}: {event}")
                self.assertGreaterEqual(event["dur"], 0.0, f"{track}: {event}")
                end = event["ts"] + event["dur"]

    def test_two_stages(self):
        # 4 micro-batches a step
        self.train("traced", "parallel.pp=2", "train.trace_steps=2", "train.steps=4", ranks=2)
        spans, ranks = self.trace("traced")
        self.assertEqual(
            ranks, {0: "rank 0 (pp 0 dp 0 tp 0)", 1: "rank 1 (pp 1 dp 0 tp 0)"}
        )
        self.assert_in_order(spans)
        for rank in ranks:
            self.assertEqual([s["name"] for s in spans[rank, "steps"]], ["step 1", "step 2"])
            actions = [(s["args"]["step"], s["name"]) for s in spans[rank, "schedule"]]
            for step in (1, 2):
                for kind in ("forward", "backward"):
                    for m in range(4):
                        self.assertEqual(actions.count((step, f"{kind} {rank}.{m}")), 1, actions)
            kinds = {s["name"] for s in spans[rank, "time"]}
            self.assertLessEqual({"forward", "backward", "optimizer", "wait_pp"}, kinds)
            sent = "activation" if rank == 0 else "gradient"
            transfers = [s for s in spans[rank, "pp"] if s["name"] == sent]
            self.assertEqual(len(transfers), 2 * 4)
            for span in transfers:
                # micro-batch x sequence x hidden size, fp32
                self.assertEqual(span["args"]["bytes"], 2 * 32 * 32 * 4, span)
                self.assertEqual(span["args"]["axis"], "pp")

    def test_two_copies(self):
        self.train("traced", "train.trace_steps=1", "train.steps=2", ranks=2)
        spans, ranks = self.trace("traced")
        self.assertEqual(set(ranks), {0, 1})
        self.assert_in_order(spans)
        for rank in ranks:
            self.assertTrue(any(s["args"]["bytes"] > 0 for s in spans[rank, "dp"]))

    def test_a_run_shorter_than_its_trace(self):
        self.train("traced", "train.trace_steps=9", "train.steps=2")
        spans, ranks = self.trace("traced")
        self.assertEqual(ranks, {0: "rank 0 (pp 0 dp 0 tp 0)"})
        self.assertEqual(set(track for _, track in spans), {"steps", "schedule", "time"})
        self.assertEqual(len(spans[0, "steps"]), 2)
        self.assert_in_order(spans)

    def test_no_trace_without_being_asked(self):
        self.train("plain", "train.steps=1")
        self.assertNotIn("trace.json", self.files("plain"))


if __name__ == "__main__":
    unittest.main()
