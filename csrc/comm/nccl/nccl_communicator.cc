// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/nccl/nccl_communicator.h"

#include <cstring>
#include <exception>
#include <vector>

#include "csrc/comm/checks.h"
#include "csrc/comm/nccl/nccl_session.h"
#include "csrc/comm/volume.h"

namespace forja {
namespace {

using nccl::Api;
using nccl::Result;

nccl::Type type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return nccl::Type::f32;
    case DType::f64:
      return nccl::Type::f64;
    case DType::bf16:
      return nccl::Type::bf16;
    case DType::i32:
      return nccl::Type::i32;
    case DType::i64:
      return nccl::Type::i64;
    default:
      fail("NCCL cannot reduce {}", dtype_name(dtype));
  }
}

nccl::Reduction reduction_of(ReduceOp op) {
  return op == ReduceOp::sum   ? nccl::Reduction::sum
         : op == ReduceOp::max ? nccl::Reduction::max
                               : nccl::Reduction::min;
}

size_t bytes_of(const Tensor& t) { return size_t(t.num_bytes()); }

// GPU tensors by NCCL, in a stream of the group; host tensors by the host's communicator.
class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<nccl::Session> session, Communicator& host,
                   nccl::Communicator* comm)
      : session_(std::move(session)), host_(&host), comm_(comm), stream_(session_->device()) {}
  NcclCommunicator(std::shared_ptr<nccl::Session> session, std::unique_ptr<Communicator> host,
                   nccl::Communicator* comm)
      : NcclCommunicator(std::move(session), *host, comm) {
    owned_host_ = std::move(host);
  }
  // Not while an error ends the run: what is under way may wait for a rank that is gone.
  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() > exceptions_) session_->abort("the run has failed");
    session_->destroy(comm_);
    try {
      stream_.synchronize();
    } catch (...) {
    }
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  std::string backend() const override { return "nccl"; }

  Event all_reduce(const Tensor& data, ReduceOp op, CommLabel label) override {
    check_reducible(data, "all_reduce");
    count(CommKind::all_reduce, data.num_bytes(), label);
    if (data.device.is_cpu()) return on_host([&] { return host_->all_reduce(data, op, label); });
    return start(CommKind::all_reduce, data.num_bytes(), label, [&](const Api& api) {
      return api.all_reduce(data.data, data.data, size_t(data.num_elements()), type_of(data.dtype),
                            reduction_of(op), comm_, stream_.handle());
    });
  }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op, CommLabel label) override {
    check_reducible(in, "reduce_scatter");
    check_parts(out, in, size(), "reduce_scatter");
    count(CommKind::reduce_scatter, in.num_bytes(), label);
    if (in.device.is_cpu())
      return on_host([&] { return host_->reduce_scatter(in, out, op, label); });
    return start(CommKind::reduce_scatter, in.num_bytes(), label, [&](const Api& api) {
      return api.reduce_scatter(in.data, out.data, size_t(out.num_elements()), type_of(in.dtype),
                                reduction_of(op), comm_, stream_.handle());
    });
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel label) override {
    check_parts(in, out, size(), "all_gather");
    count(CommKind::all_gather, out.num_bytes(), label);
    if (in.device.is_cpu()) return on_host([&] { return host_->all_gather(in, out, label); });
    return start(CommKind::all_gather, out.num_bytes(), label, [&](const Api& api) {
      return api.all_gather(in.data, out.data, bytes_of(in), nccl::Type::u8, comm_,
                            stream_.handle());
    });
  }
  Event broadcast(const Tensor& data, int root, CommLabel label) override {
    check_broadcast(data, root, size());
    count(CommKind::broadcast, data.num_bytes(), label);
    if (data.device.is_cpu()) return on_host([&] { return host_->broadcast(data, root, label); });
    return start(CommKind::broadcast, data.num_bytes(), label, [&](const Api& api) {
      return api.broadcast(data.data, data.data, bytes_of(data), nccl::Type::u8, root, comm_,
                           stream_.handle());
    });
  }
  Event all_to_all(const Tensor& in, const Tensor& out, CommLabel label) override {
    check_parts(in, out, 1, "all_to_all");
    FORJA_CHECK(in.num_elements() % size() == 0, "all_to_all of {} among {} ranks", in.to_string(),
                size());
    count(CommKind::all_to_all, in.num_bytes(), label);
    if (in.device.is_cpu()) return on_host([&] { return host_->all_to_all(in, out, label); });
    const size_t part = bytes_of(in) / size_t(size());
    std::vector<Transfer> transfers;
    for (int peer = 0; peer < size(); ++peer) {
      const size_t offset = part * size_t(peer);
      transfers.push_back({true, static_cast<char*>(in.data) + offset, part, peer});
      transfers.push_back({false, static_cast<char*>(out.data) + offset, part, peer});
    }
    return start(CommKind::all_to_all, in.num_bytes(), label,
                 [&](const Api& api) { return transfer(api, transfers); });
  }
  Event exchange(const std::vector<PointToPoint>& parts, CommLabel label) override {
    int64_t sent_bytes = 0;
    bool any_on_gpu = false;
    std::vector<Transfer> transfers;
    for (const PointToPoint& p : parts) {
      FORJA_CHECK(p.data.is_contiguous() && p.peer >= 0 && p.peer < size() && p.peer != rank(),
                  "exchange of {} with rank {} of {}", p.data.to_string(), p.peer, size());
      const bool sends = p.kind == PointToPoint::Kind::send;
      if (sends) sent_bytes += p.data.num_bytes();
      any_on_gpu |= !p.data.device.is_cpu();
      transfers.push_back({sends, p.data.data, bytes_of(p.data), p.peer});
    }
    count(CommKind::exchange, sent_bytes, label);
    if (!any_on_gpu) return on_host([&] { return host_->exchange(parts, label); });
    return start(
        CommKind::exchange, sent_bytes, label,
        [&](const Api& api) { return transfer(api, transfers); }, parts);
  }
  // Of the host's threads, after what was called before has ended on this rank's GPU.
  Event barrier(CommLabel label) override {
    count(CommKind::barrier, 0, label);
    session_->drain(comm_);
    return on_host([&] { return host_->barrier(label); });
  }
  std::unique_ptr<Communicator> split(int color, int key) override {
    session_->check();
    auto part = host_->split(color, key);
    // A rank that is alone in its part needs no communicator, but takes part in the call.
    const int nccl_color = part->size() > 1 ? color : nccl::kNoColor;
    nccl::Communicator* comm =
        session_->make("a group", comm_, [&](const Api& api, nccl::Communicator** made) {
          return api.comm_split(comm_, nccl_color, key, made, nullptr);
        });
    if (part->size() == 1) return part;
    return std::make_unique<NcclCommunicator>(session_, std::move(part), comm);
  }

  void use_stream(CUstream_st* stream) override { compute_stream_ = stream; }
  std::vector<CommVolume> volumes() const override { return volumes_.volumes(); }
  void reset_volumes() override { volumes_.reset(); }
  void set_trace(std::shared_ptr<CommTrace> trace) override {
    host_->set_trace(trace);
    trace_ = std::move(trace);
    if (!trace_) return;
    anchor_ = std::make_shared<nccl::Anchor>();
    anchor_->event.record(stream_.handle());
    stream_.synchronize();
    anchor_->at = std::chrono::steady_clock::now();
  }
  void set_journal(std::shared_ptr<CallJournal> journal) override {
    host_->set_journal(journal);
    journal_ = std::move(journal);
  }

 private:
  struct Transfer {
    bool sends;
    void* data;
    size_t bytes;
    int peer;
  };

  Result transfer(const Api& api, const std::vector<Transfer>& transfers) {
    Result result = api.group_start();
    for (const Transfer& t : transfers) {
      if (result != Result::success && result != Result::in_progress) break;
      result = t.sends ? api.send(t.data, t.bytes, nccl::Type::u8, t.peer, comm_, stream_.handle())
                       : api.recv(t.data, t.bytes, nccl::Type::u8, t.peer, comm_, stream_.handle());
    }
    const Result end = api.group_end();
    return result == Result::success || result == Result::in_progress ? end : result;
  }

  void count(CommKind kind, int64_t buffer_bytes, const CommLabel& label) {
    volumes_.add(label, kind, comm_volume_bytes(kind, buffer_bytes, size()));
  }

  template <class Call>
  Event on_host(const Call& call) {
    session_->check();
    return call();
  }

  // In the group's stream, after all work given to the compute stream so far.
  template <class Call>
  Event start(CommKind kind, int64_t buffer_bytes, const CommLabel& label, const Call& call,
              const std::vector<PointToPoint>& parts = {}) {
    const CommSpan span{label, kind, comm_volume_bytes(kind, buffer_bytes, size()), {}, {}};
    ready_.record(compute_stream_);
    ready_.make_wait(stream_.handle());
    nccl::WatchedCall watched{comm_,  span,    std::make_shared<GpuEvent>(), nullptr, anchor_,
                              trace_, journal_};
    if (journal_) watched.number = journal_->called(kind, label, span.bytes, parts);
    if (trace_) {
      watched.begin = std::make_shared<GpuEvent>();
      watched.begin->record(stream_.handle());
    }
    session_->run(std::string(comm_kind_name(kind)), comm_, call);
    watched.end->record(stream_.handle());
    const auto end = watched.end;
    session_->watch(std::move(watched));
    return Event().then([session = session_, end, stream = compute_stream_] {
      session->check();
      end->make_wait(stream);
    });
  }

  std::shared_ptr<nccl::Session> session_;
  std::unique_ptr<Communicator> owned_host_;
  Communicator* host_;
  nccl::Communicator* comm_;
  GpuStream stream_;
  GpuEvent ready_;
  CUstream_st* compute_stream_ = nullptr;
  VolumeCounter volumes_;
  std::shared_ptr<CommTrace> trace_;
  std::shared_ptr<CallJournal> journal_;
  std::shared_ptr<nccl::Anchor> anchor_;
  const int exceptions_ = std::uncaught_exceptions();
};

constexpr int kNameBytes = 64;
struct Offer {
  int32_t version = 0;  // 0: not there
  char host[kNameBytes] = "";
};

// Every rank must have the library, in the same version: others may hang when they meet.
void check_versions(Communicator& host, const std::string& host_name, const nccl::Library& found) {
  Offer mine;
  if (found.api) found.api->get_version(&mine.version);
  std::strncpy(mine.host, host_name.c_str(), kNameBytes - 1);
  std::vector<Offer> all(size_t(host.size()));
  const auto bytes = [](Offer* offers, int64_t count) {
    return make_tensor(offers, DType::u8, {count * int64_t(sizeof(Offer))});
  };
  host.all_gather(bytes(&mine, 1), bytes(all.data(), host.size()), {"NCCL versions"}).wait();
  const auto text = [](const Offer& o) {
    return o.version == 0 ? std::string("no NCCL") : "NCCL " + nccl::version_text(o.version);
  };
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].version == all[0].version) continue;
    fail_input(
        "the ranks have different NCCL libraries: rank 0 on host {} has {}, rank {} on host {} has "
        "{}; load the same module everywhere, or name one file by FORJA_NCCL",
        all[0].host, text(all[0]), r, all[r].host, text(all[r]));
  }
  if (!found.api) {
    fail_input(
        "NCCL was not found ({}): load its module or set FORJA_NCCL to the library's path; "
        "parallel.communicator=mpi copies through host memory instead, slowly",
        found.problem);
  }
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Device device,
                                                     const std::string& host_name,
                                                     const nccl::Library& found) {
  check_versions(host, host_name, found);
  auto session = std::make_shared<nccl::Session>(
      *found.api, device, fmt::format("rank {} on host {}", host.rank(), host_name));
  nccl::UniqueId id{};
  if (host.rank() == 0)
    session->run("the start", nullptr, [&](const Api& api) { return api.get_unique_id(&id); });
  host.broadcast(make_tensor(id.bytes, DType::u8, {sizeof(id.bytes)}), 0, {"NCCL id"}).wait();
  use_gpu(device);
  nccl::Config config;
  nccl::Communicator* comm =
      session->make("the start", nullptr, [&](const Api& api, nccl::Communicator** made) {
        return api.comm_init_rank_config(made, host.size(), id, host.rank(), &config);
      });
  return std::make_unique<NcclCommunicator>(session, host, comm);
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Device device,
                                                     const std::string& host_name) {
  return make_nccl_communicator(host, device, host_name, nccl::library());
}

}  // namespace forja
