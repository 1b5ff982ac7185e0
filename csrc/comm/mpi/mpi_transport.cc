// SPDX-License-Identifier: Apache-2.0
// All calls are non-blocking MPI, polled with short sleeps: a blocking call would burn a core that
// the ranks of a node compute on. Counts above 2^31 go in pieces.
#include "csrc/comm/mpi/mpi_transport.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

namespace forja {

void check_mpi(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(result, text, &length);
  fail("{} failed: {}", call, text);
}

namespace {

// Elements of one MPI call: small enough for int counts and for a short first piece of work.
constexpr int64_t kPieceElements = int64_t(1) << 28;

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i32:
      return MPI_INT32_T;
    case DType::i64:
      return MPI_INT64_T;
    default:
      fail("no MPI reduction of {}", dtype_name(dtype));
  }
}

MPI_Op mpi_op(ReduceOp op) {
  return op == ReduceOp::sum ? MPI_SUM : op == ReduceOp::max ? MPI_MAX : MPI_MIN;
}

void wait_all(std::vector<MPI_Request>& requests) {
  int done = 0;
  for (int tries = 0;; ++tries) {
    check_mpi(MPI_Testall(int(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
              "MPI_Testall");
    if (done) return;
    if (tries < 64) {
      ::sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
}

void wait_one(MPI_Request request) {
  std::vector<MPI_Request> requests{request};
  wait_all(requests);
}

uint8_t* at(const Tensor& t, int64_t element) {
  return static_cast<uint8_t*>(t.data) + element * dtype_bytes(t.dtype);
}

class MpiTransport : public Transport {
 public:
  MpiTransport(MPI_Comm comm, bool owned) : comm_(comm), owned_(owned) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiTransport() override {
    if (owned_) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string backend() const override { return "mpi"; }

  // Reduce-scatter and all-gather: every element is summed on one rank only, so all ranks get the
  // same bits.
  void all_reduce(const Tensor& data, ReduceOp op) override {
    const int64_t n = data.num_elements();
    for (int64_t begin = 0; begin < n; begin += kPieceElements) {
      all_reduce_piece(at(data, begin), std::min(kPieceElements, n - begin), data.dtype, op);
    }
  }

  void reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op) override {
    const int64_t n = out.num_elements();
    FORJA_CHECK(n < INT32_MAX, "reduce_scatter of {} elements a rank", n);
    MPI_Request request;
    check_mpi(MPI_Ireduce_scatter_block(in.data, out.data, int(n), mpi_type(in.dtype), mpi_op(op),
                                        comm_, &request),
              "MPI_Ireduce_scatter_block");
    wait_one(request);
  }

  void all_gather(const Tensor& in, const Tensor& out) override {
    const int64_t n = in.num_elements();
    FORJA_CHECK(n < INT32_MAX, "all_gather of {} elements a rank", n);
    const bool in_place = in.data == at(out, n * rank_);
    const MPI_Datatype type = raw_type(in.dtype);
    MPI_Request request;
    check_mpi(MPI_Iallgather(in_place ? MPI_IN_PLACE : in.data, int(n), type, out.data, int(n),
                             type, comm_, &request),
              "MPI_Iallgather");
    wait_one(request);
  }

  void broadcast(const Tensor& data, int root) override {
    const int64_t n = data.num_elements();
    for (int64_t begin = 0; begin < n; begin += kPieceElements) {
      MPI_Request request;
      check_mpi(MPI_Ibcast(at(data, begin), int(std::min(kPieceElements, n - begin)),
                           raw_type(data.dtype), root, comm_, &request),
                "MPI_Ibcast");
      wait_one(request);
    }
  }

  void all_to_all(const Tensor& in, const Tensor& out) override {
    const int64_t part = in.num_elements() / size_;
    FORJA_CHECK(part < INT32_MAX, "all_to_all of {} elements a rank", part);
    const MPI_Datatype type = raw_type(in.dtype);
    MPI_Request request;
    check_mpi(MPI_Ialltoall(in.data, int(part), type, out.data, int(part), type, comm_, &request),
              "MPI_Ialltoall");
    wait_one(request);
  }

  void exchange(const std::vector<PointToPoint>& parts) override {
    std::vector<MPI_Request> requests;
    for (const PointToPoint& part : parts) {
      const int64_t n = part.data.num_elements();
      for (int64_t begin = 0; begin < n; begin += kPieceElements) {
        const int count = int(std::min(kPieceElements, n - begin));
        const MPI_Datatype type = raw_type(part.data.dtype);
        requests.emplace_back();
        if (part.kind == PointToPoint::Kind::send) {
          check_mpi(
              MPI_Issend(at(part.data, begin), count, type, part.peer, 0, comm_, &requests.back()),
              "MPI_Issend");
        } else {
          check_mpi(
              MPI_Irecv(at(part.data, begin), count, type, part.peer, 0, comm_, &requests.back()),
              "MPI_Irecv");
        }
      }
    }
    wait_all(requests);
  }

  void barrier() override {
    MPI_Request request;
    check_mpi(MPI_Ibarrier(comm_, &request), "MPI_Ibarrier");
    wait_one(request);
  }

  std::unique_ptr<Transport> split(int color, int key) override {
    MPI_Comm part;
    check_mpi(MPI_Comm_split(comm_, color, key, &part), "MPI_Comm_split");
    MPI_Comm_set_errhandler(part, MPI_ERRORS_RETURN);
    return std::make_unique<MpiTransport>(part, true);
  }

 private:
  // Types that are only moved.
  static MPI_Datatype raw_type(DType dtype) {
    switch (dtype_bytes(dtype)) {
      case 8:
        return MPI_INT64_T;
      case 4:
        return MPI_INT32_T;
      case 2:
        return MPI_INT16_T;
      default:
        return MPI_INT8_T;
    }
  }

  void all_reduce_piece(uint8_t* data, int64_t n, DType dtype, ReduceOp op) {
    std::vector<int> counts(static_cast<size_t>(size_)), offsets(static_cast<size_t>(size_));
    for (int r = 0; r < size_; ++r) {
      offsets[size_t(r)] = int(n * r / size_);
      counts[size_t(r)] = int(n * (r + 1) / size_) - offsets[size_t(r)];
    }
    scratch_.resize(size_t(counts[size_t(rank_)]) * size_t(dtype_bytes(dtype)));
    MPI_Request request;
    check_mpi(MPI_Ireduce_scatter(data, scratch_.data(), counts.data(), mpi_type(dtype), mpi_op(op),
                                  comm_, &request),
              "MPI_Ireduce_scatter");
    wait_one(request);
    std::memcpy(data + int64_t(offsets[size_t(rank_)]) * dtype_bytes(dtype), scratch_.data(),
                scratch_.size());
    check_mpi(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, counts.data(),
                              offsets.data(), raw_type(dtype), comm_, &request),
              "MPI_Iallgatherv");
    wait_one(request);
  }

  MPI_Comm comm_;
  bool owned_;
  int rank_ = 0, size_ = 1;
  std::vector<uint8_t> scratch_;  // this rank's part of an all-reduce
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(MPI_Comm comm) {
  return std::make_unique<MpiTransport>(comm, false);
}

}  // namespace forja
