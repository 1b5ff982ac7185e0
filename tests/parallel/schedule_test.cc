// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/schedule.h"

#include <map>
#include <set>
#include <tuple>

#include "tests/parallel/schedule_testing.h"

namespace forja {
namespace {

using testing::error_of;
using testing::for_random_cases;
using testing::ScheduleCase;

using Key = std::tuple<ActionKind, int, int>;
Key key(ActionKind kind, int stage, int microbatch) { return {kind, stage, microbatch}; }

std::string text_of(const std::vector<Action>& list) {
  std::string text;
  for (const Action& action : list) text += (text.empty() ? "" : " ") + action.to_string();
  return text;
}

TEST(Action, IsWrittenInPyTorchsGrammar) {
  EXPECT_EQ((Action{ActionKind::forward, 2, 0}.to_string()), "2F0");
  EXPECT_EQ((Action{ActionKind::backward, 1, 3}.to_string()), "1B3");
  EXPECT_EQ((Action{ActionKind::backward_input, 0, 12}.to_string()), "0I12");
  EXPECT_EQ((Action{ActionKind::backward_weight, 10, 2}.to_string()), "10W2");
  EXPECT_EQ((Action{ActionKind::send_activation, 1, 0}.to_string()), "1SEND_F0");
  EXPECT_EQ((Action{ActionKind::recv_activation, 1, 0}.to_string()), "1RECV_F0");
  EXPECT_EQ((Action{ActionKind::send_gradient, 1, 0}.to_string()), "1SEND_B0");
  EXPECT_EQ((Action{ActionKind::recv_gradient, 1, 0}.to_string()), "1RECV_B0");
  EXPECT_EQ((Action{ActionKind::unshard, 4}.to_string()), "4UNSHARD");
  EXPECT_EQ((Action{ActionKind::reshard, 4}.to_string()), "4RESHARD");
  EXPECT_EQ((Action{ActionKind::reduce_gradients, 4}.to_string()), "4REDUCE_GRAD");
}

TEST(MakeSchedule, SmallOnesAreAsDrawnInThePapers) {
  const auto list = [](const char* name, int rank, int P, int V, int M) {
    return text_of(make_schedule(name, P, V, M).actions[size_t(rank)]);
  };
  EXPECT_EQ(list("gpipe", 1, 2, 1, 2), "1F0 1F1 1B0 1B1");
  EXPECT_EQ(list("1f1b", 0, 3, 1, 4), "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3");
  EXPECT_EQ(list("1f1b", 2, 3, 1, 2), "2F0 2B0 2F1 2B1");
  EXPECT_EQ(list("interleaved_1f1b", 1, 2, 2, 2), "1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1");
  EXPECT_EQ(list("zb_h1", 0, 3, 1, 3), "0F0 0F1 0F2 0I0 0W0 0I1 0W1 0I2 0W2");
  EXPECT_EQ(list("zb_h1", 2, 3, 1, 3), "2F0 2I0 2F1 2I1 2F2 2I2 2W0 2W1 2W2");
  EXPECT_EQ(list("zb_v", 1, 2, 1, 3),
            "1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1I1 2I2 1I2 1W1 2W2 1W2");
  EXPECT_EQ(to_csv(make_schedule("dualpipe_v", 1, 1, 2)),
            "0F0,1F0,0F1,1B0,(1F1;0B0)OVERLAP_F_B,1B1,0I1,0W1\n");
}

// One rank and one stage: forwards and backwards in turn.
TEST(MakeSchedule, OneRankIsACaseOfEveryOne) {
  EXPECT_EQ(text_of(make_schedule("1f1b", 1, 1, 2).actions[0]), "0F0 0B0 0F1 0B1");
  EXPECT_EQ(text_of(add_communication(make_schedule("1f1b", 1, 1, 2)).actions[0]),
            "0F0 0B0 0F1 0B1 0REDUCE_GRAD");
  for (const std::string& name : schedule_names()) {
    const Schedule schedule = add_communication(make_schedule(name, 1, 1, 2));
    EXPECT_NO_THROW(check_complete(schedule)) << name;
  }
}

TEST(MakeSchedule, RefusesWhatDoesNotFit) {
  const auto refused = [](const std::string& name, int P, int V, int M) {
    return error_of([&] { make_schedule(name, P, V, M); }, ExitCode::bad_input);
  };
  EXPECT_EQ(refused("1f2b", 2, 1, 2), "unknown schedule 1f2b; did you mean 1f1b?");
  EXPECT_EQ(refused("zzzzzzzzzzzz", 2, 1, 2),
            "unknown schedule zzzzzzzzzzzz; known: gpipe, 1f1b, interleaved_1f1b, zb_h1, zb_v, "
            "dualpipe_v, or a file that ends in .csv");
  EXPECT_EQ(refused("interleaved_1f1b", 4, 2, 6),
            "schedule interleaved_1f1b needs a multiple of its 4 ranks as number of micro-batches, "
            "found 6");
  EXPECT_EQ(refused("dualpipe_v", 4, 1, 7),
            "schedule dualpipe_v needs at least two micro-batches for each of its 4 ranks, 8, "
            "found 7");
  EXPECT_EQ(refused("zb_v", 4, 3, 7), "schedule zb_v has 2 stages a rank, found virtual_stages 3");
  EXPECT_EQ(refused("gpipe", 4, 2, 7),
            "schedule gpipe has 1 stage a rank, found virtual_stages 2 (interleaved_1f1b takes "
            "several)");
  EXPECT_NE(refused("1f1b", 2, 1, 0).find("0 micro-batches"), std::string::npos);
  EXPECT_NE(refused("nowhere.csv", 2, 1, 2).find("nowhere.csv"), std::string::npos);
}

TEST(NumStages, FollowsFromTheName) {
  EXPECT_EQ(num_stages("1f1b", 4, 1), 4);
  EXPECT_EQ(num_stages("interleaved_1f1b", 4, 3), 12);
  EXPECT_EQ(num_stages("zb_v", 4, 1), 8);
  EXPECT_EQ(num_stages("dualpipe_v", 4, 2), 8);
  EXPECT_EQ(num_stages("some/file.csv", 4, 2), 8);
}

TEST(MakeSchedule, HasEveryActionOnceOnTheRankOfItsStage) {
  for_random_cases(1000, [](const ScheduleCase& c, auto&) {
    const Schedule schedule = c.make();
    ASSERT_NO_THROW(check_complete(schedule));
    ASSERT_EQ(schedule.num_ranks(), c.num_ranks);
    std::set<Key> seen;
    for (int rank = 0; rank < c.num_ranks; ++rank) {
      ASSERT_EQ(int(schedule.stages_of_rank(rank).size()), c.stages_per_rank());
      for (const Action& a : schedule.actions[size_t(rank)]) {
        ASSERT_TRUE(is_computing(a.kind));
        ASSERT_EQ(schedule.rank_of_stage[size_t(a.stage)], rank);
        ASSERT_TRUE(seen.insert(key(a.kind, a.stage, a.microbatch)).second) << a.to_string();
      }
    }
    for (int s = 0; s < schedule.num_stages(); ++s) {
      for (int m = 0; m < c.num_microbatches; ++m) {
        ASSERT_TRUE(seen.erase(key(ActionKind::forward, s, m)));
        if (seen.erase(key(ActionKind::backward, s, m))) continue;
        ASSERT_TRUE(seen.erase(key(ActionKind::backward_input, s, m)));
        ASSERT_TRUE(seen.erase(key(ActionKind::backward_weight, s, m)));
      }
    }
    ASSERT_TRUE(seen.empty());
  });
}

// Ranks that do one thing after the other and stop at every transfer until the other side comes to
// it, as a library without queues would: the strictest reader of the lists. Knows nothing of the
// simulator.
class BlockingRanks {
 public:
  explicit BlockingRanks(const Schedule& schedule)
      : schedule_(schedule), next_(schedule.actions.size(), 0) {}

  // True when every rank comes to the end of its list.
  bool run() {
    for (bool progress = true; progress;) {
      progress = false;
      for (size_t rank = 0; rank < next_.size(); ++rank) {
        while (step(rank)) progress = true;
      }
    }
    for (size_t rank = 0; rank < next_.size(); ++rank) {
      if (next_[rank] < schedule_.actions[rank].size()) return false;
    }
    return true;
  }

 private:
  const Action* at(size_t rank) const {
    const std::vector<Action>& list = schedule_.actions[rank];
    return next_[rank] < list.size() ? &list[next_[rank]] : nullptr;
  }

  bool step(size_t rank) {
    const Action* mine = at(rank);
    if (!mine) return false;
    const int s = mine->stage, m = mine->microbatch;
    if (mine->kind == ActionKind::recv_activation)
      return meet(rank, {ActionKind::send_activation, s - 1, m},
                  key(ActionKind::forward, s - 1, m));
    if (mine->kind == ActionKind::recv_gradient)
      return meet(rank, {ActionKind::send_gradient, s + 1, m}, key(ActionKind::backward, s + 1, m));
    if (is_transfer(mine->kind)) return false;  // a send: the receiver finds it
    if (is_computing(mine->kind)) compute(rank, *mine);
    ++next_[rank];
    return true;
  }

  bool meet(size_t rank, const Action& send, const Key& data) {
    const size_t peer = size_t(schedule_.rank_of_stage[size_t(send.stage)]);
    const Action* theirs = at(peer);
    if (!theirs || !(*theirs == send)) return false;
    EXPECT_TRUE(there_[peer].count(data)) << send.to_string() << " is sent before it is made";
    there_[rank].insert(data);
    ++next_[rank];
    ++next_[peer];
    return true;
  }

  void compute(size_t rank, const Action& action) {
    const int s = action.stage, m = action.microbatch;
    std::set<Key>& there = there_[rank];
    const auto need = [&](const Key& data) {
      EXPECT_TRUE(there.count(data)) << action.to_string() << " without its data";
    };
    if (action.kind == ActionKind::forward) {
      if (s > 0) need(key(ActionKind::forward, s - 1, m));
      there.insert(key(ActionKind::forward, s, m));
    } else if (action.kind == ActionKind::backward_weight) {
      need(key(ActionKind::backward, s, m));
    } else {
      need(key(ActionKind::forward, s, m));
      if (s + 1 < schedule_.num_stages()) need(key(ActionKind::backward, s + 1, m));
      there.insert(key(ActionKind::backward, s, m));
    }
  }

  const Schedule& schedule_;
  std::vector<size_t> next_;
  std::map<size_t, std::set<Key>> there_;  // what each rank has: outputs and input gradients
};

TEST(AddCommunication, NeverDeadlocksEvenWhereEveryTransferBlocks) {
  for_random_cases(150, [](const ScheduleCase& c, auto&) {
    const Schedule schedule = add_communication(c.make());
    ASSERT_NO_THROW(check_complete(schedule));
    ASSERT_TRUE(BlockingRanks(schedule).run());
  });
}

TEST(AddCommunication, NeverDeadlocksHoweverLongActionsTake) {
  for_random_cases(1000, [](const ScheduleCase& c, auto& random) {
    const auto draw = [&](double high) { return high * double(random() % 1000 + 1) / 1000.0; };
    const Schedule schedule = c.make();
    ActionTimes times{draw(3), draw(3), draw(3), random() % 2 ? draw(2) : 0.0, {}};
    for (int s = 0; s < schedule.num_stages(); ++s) times.stage_scale.push_back(draw(4));
    ASSERT_NO_THROW(simulate(schedule, times));
  });
}

TEST(AddCommunication, KeepsTheComputingOrderAndOverlappedPairs) {
  for_random_cases(100, [](const ScheduleCase& c, auto&) {
    const Schedule before = c.make(), after = add_communication(before);
    for (size_t rank = 0; rank < before.actions.size(); ++rank) {
      std::vector<Action> computing;
      for (size_t i = 0; i < after.actions[rank].size(); ++i) {
        const Action& action = after.actions[rank][i];
        if (is_computing(action.kind)) computing.push_back(action);
        if (!action.overlaps_next) continue;
        ASSERT_EQ(after.actions[rank][i + 1].kind, ActionKind::backward) << action.to_string();
      }
      ASSERT_EQ(computing, before.actions[rank]);
    }
  });
}

TEST(AddCommunication, ReducesEachStageDirectlyAfterItsLastGradient) {
  for_random_cases(100, [](const ScheduleCase& c, auto&) {
    const Schedule schedule = add_communication(c.make());
    std::set<int> reduced;
    for (const std::vector<Action>& list : schedule.actions) {
      for (size_t i = 0; i < list.size(); ++i) {
        const Action& a = list[i];
        if (a.kind == ActionKind::reduce_gradients) {
          ASSERT_TRUE(reduced.insert(a.stage).second);
          size_t before = i;
          while (before > 0 && is_transfer(list[before - 1].kind)) --before;
          ASSERT_GT(before, 0u);
          ASSERT_EQ(list[before - 1].stage, a.stage);
        }
        if (a.kind == ActionKind::backward || a.kind == ActionKind::backward_weight) {
          ASSERT_FALSE(reduced.count(a.stage)) << a.to_string() << " after its reduction";
        }
      }
    }
    ASSERT_EQ(int(reduced.size()), schedule.num_stages());
  });
}

TEST(AddCommunication, ReducesTheStagesThatTheScheduleForgets) {
  Schedule schedule = make_schedule("1f1b", 2, 1, 1);
  schedule.actions[1].push_back({ActionKind::reshard, 1});
  schedule.actions[1].push_back({ActionKind::reduce_gradients, 1});
  const Schedule complete = add_communication(schedule);
  EXPECT_EQ(text_of(complete.actions[0]), "0F0 0SEND_F0 0RECV_B0 0B0 0REDUCE_GRAD");
  EXPECT_EQ(text_of(complete.actions[1]), "1RECV_F0 1F0 1B0 1SEND_B0 1RESHARD 1REDUCE_GRAD");
}

// Every open receive needs memory for what it will bring.
TEST(AddCommunication, KeepsFewReceivesOpen) {
  for_random_cases(100, [&](const ScheduleCase& c, auto&) {
    const int bound = c.name == "interleaved_1f1b" ? std::max(3, c.num_ranks) : 3;
    for (const std::vector<Action>& list : add_communication(c.make()).actions) {
      std::set<std::pair<int, int>> activations, gradients;  // stage, micro-batch
      for (const Action& a : list) {
        if (a.kind == ActionKind::recv_activation) activations.emplace(a.stage, a.microbatch);
        if (a.kind == ActionKind::recv_gradient) gradients.emplace(a.stage, a.microbatch);
        ASSERT_LE(int(std::max(activations.size(), gradients.size())), bound);
        if (is_computing(a.kind))
          (a.kind == ActionKind::forward ? activations : gradients).erase({a.stage, a.microbatch});
      }
    }
  });
}

TEST(AddCommunication, PutsTransfersWhereDataAreMadeAndAtTheTurnNone) {
  const Schedule two = add_communication(make_schedule("1f1b", 2, 1, 2));
  EXPECT_EQ(text_of(two.actions[0]),
            "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0RECV_B1 0B0 0B1 0REDUCE_GRAD");
  EXPECT_EQ(text_of(two.actions[1]),
            "1RECV_F0 1RECV_F1 1F0 1B0 1SEND_B0 1F1 1B1 1SEND_B1 1REDUCE_GRAD");
  const Schedule v = add_communication(make_schedule("zb_v", 2, 1, 4));
  for (const Action& action : v.actions[1]) {
    EXPECT_FALSE(action.stage == 1 && (action.kind == ActionKind::send_activation ||
                                       action.kind == ActionKind::recv_gradient))
        << action.to_string();
  }
}

TEST(CheckComplete, NamesTheAction) {
  const Schedule good = make_schedule("zb_h1", 2, 1, 2);
  const auto fault_of = [&](auto change) {
    Schedule schedule = good;
    change(schedule);
    return error_of([&] { check_complete(schedule); }, ExitCode::bad_input);
  };
  EXPECT_EQ(text_of(good.actions[0]), "0F0 0F1 0I0 0W0 0I1 0W1");
  EXPECT_EQ(fault_of([](Schedule& s) { s.actions[0].erase(s.actions[0].begin() + 3); }),
            "schedule zb_h1: 0W0 (weight gradients of stage 0, micro-batch 0) is missing on rank "
            "0");
  EXPECT_EQ(fault_of([](Schedule& s) { s.actions[0].push_back(s.actions[0][0]); }),
            "schedule zb_h1: rank 0, action 7: 0F0 is there twice");
  EXPECT_EQ(fault_of([](Schedule& s) {
              s.actions[1].push_back({ActionKind::backward, 1, 0});
            }),
            "schedule zb_h1: rank 1, action 2: 1I0 is there, which 1B0 has done or will do");
  EXPECT_EQ(fault_of([](Schedule& s) { std::swap(s.actions[0][2], s.actions[0][3]); }),
            "schedule zb_h1: rank 0, action 3: 0W0 comes before 0I0, which it needs");
  EXPECT_EQ(fault_of([](Schedule& s) {
              s.actions[0].push_back({ActionKind::forward, 1, 0});
            }),
            "schedule zb_h1: rank 0, action 7: 1F0 is on rank 0, but stage 1 is on rank 1");
  EXPECT_EQ(fault_of([](Schedule& s) {
              s.actions[0].push_back({ActionKind::forward, 7, 0});
            }),
            "schedule zb_h1: rank 0, action 7: 7F0: there are 2 stages, 0 to 1");
  EXPECT_EQ(fault_of([](Schedule& s) {
              s.actions[0].push_back({ActionKind::forward, 0, 2});
            }),
            "schedule zb_h1: rank 0, action 7: 0F2: there are 2 micro-batches, 0 to 1");
  EXPECT_EQ(fault_of([](Schedule& s) { s.actions[0].back().overlaps_next = true; }),
            "schedule zb_h1: rank 0, action 6: 0W1 overlaps nothing: expected a forward and then a "
            "backward of another micro-batch");
  EXPECT_EQ(fault_of([](Schedule& s) {
              s.actions[0].push_back({ActionKind::recv_activation, 0, 0});
            }),
            "schedule zb_h1: rank 0, action 7: 0RECV_F0: stage 0 has no neighbour on another rank "
            "there");
  const Action reduction{ActionKind::reduce_gradients, 0};
  EXPECT_EQ(
      fault_of([&](Schedule& s) { s.actions[0].insert(s.actions[0].begin() + 5, reduction); }),
      "schedule zb_h1: rank 0, action 7: 0W1 adds to gradients after 0REDUCE_GRAD");
  EXPECT_EQ(fault_of([&](Schedule& s) { s.actions[0].insert(s.actions[0].end(), 2, reduction); }),
            "schedule zb_h1: rank 0, action 8: 0REDUCE_GRAD is there twice");
  EXPECT_EQ(fault_of([](Schedule& s) {
              s = add_communication(s);
              std::erase(s.actions[1], Action{ActionKind::send_gradient, 1, 1});
            }),
            "schedule zb_h1: 1SEND_B1 (sending the gradient of the input of stage 1, micro-batch "
            "1) is missing on rank 1");
}

// Any order of the same actions is either found wrong by name, found to deadlock, or runs.
TEST(CheckComplete, ShuffledListsNeverRunWithoutTheirData) {
  int ran = 0;
  for_random_cases(60, [&](const ScheduleCase& c, auto& random) {
    Schedule schedule = c.make();
    for (std::vector<Action>& list : schedule.actions) {
      for (int i = 0; i < 2 && list.size() > 1; ++i) {
        const size_t at = random() % (list.size() - 1);
        std::swap(list[at], list[at + 1]);
      }
    }
    Schedule complete;
    try {
      complete = add_communication(schedule);
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), ExitCode::bad_input);
      return;
    }
    ASSERT_TRUE(BlockingRanks(complete).run());
    ++ran;
  });
  EXPECT_GT(ran, 10);
}

}  // namespace
}  // namespace forja
