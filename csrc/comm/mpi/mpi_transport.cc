// SPDX-License-Identifier: Apache-2.0
// Collectives are made of messages between all pairs of ranks (broadcast: MPI's own), and
// reductions are computed here, in rank order:
//
//   reduce-scatter   every rank sends each other rank that one's part of its data, and sums the
//                    parts it gets. (n-1)/n of the data leave each rank, as with a ring, in one
//                    step. MPI_Ireduce_scatter of OpenMPI 4 reduces everything on rank 0 and
//                    sends it back from there; how it rounds depends on the library.
//   all-reduce       reduce-scatter and all-gather; when small, an all-gather that everyone sums.
//
// This needs scratch for the parts of the other ranks, so long data goes in pieces.
//
// Before a collective, the ranks compare what they are about to do: a wrong size would otherwise
// hang, or take the message of another call.
#include "csrc/comm/mpi/mpi_transport.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "csrc/comm/reduce.h"

namespace forja {

void check_mpi(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(result, text, &length);
  fail("{} failed: {}", call, text);
}

namespace {

// Of the parts of other ranks in a reduction. Kept by each communicator that reduces.
constexpr int64_t kScratchBytes = int64_t(4) << 20;
// Up to here, an all-reduce is bound by the number of steps, not by the bytes sent.
constexpr int64_t kSmallBytes = 4096;

constexpr int kExchangeTag = 0, kCollectiveTag = 1;

uint8_t* at(const Tensor& t, int64_t element) {
  return static_cast<uint8_t*>(t.data) + element * dtype_bytes(t.dtype);
}

struct Bytes {
  uint8_t* data = nullptr;
  int64_t size = 0;
};

class MpiTransport : public Transport {
 public:
  MpiTransport(MPI_Comm comm, bool owned, int64_t message_bytes)
      : comm_(comm), owned_(owned), message_bytes_(message_bytes) {
    FORJA_CHECK(message_bytes % 8 == 0 && message_bytes > 0 && message_bytes <= kMpiMessageBytes,
                "messages of {} bytes", message_bytes);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiTransport() override {
    if (owned_) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string backend() const override { return "mpi"; }

  Operation all_reduce(Tensor data, ReduceOp op) override {
    co_await agree({data.num_elements(), CommKind::all_reduce, op, 0, data.dtype});
    if (data.num_bytes() <= std::min(kSmallBytes, message_bytes_)) {
      co_await all_reduce_small(data, op);
    } else {
      for (const Range& piece : pieces_of(data.num_elements(), scratch_elements(data.dtype)))
        co_await all_reduce_piece(at(data, piece.begin), piece.size, data.dtype, op);
    }
  }

  Operation reduce_scatter(Tensor in, Tensor out, ReduceOp op) override {
    co_await agree({in.num_elements(), CommKind::reduce_scatter, op, 0, in.dtype});
    const int64_t n = out.num_elements();
    const int64_t limit = std::max<int64_t>(1, scratch_elements(in.dtype) / size_);
    for (const Range& piece : pieces_of(n, limit)) {
      const int64_t bytes = piece.size * dtype_bytes(in.dtype);
      std::vector<Bytes> send = every(), receive = scratch(bytes);
      for (int r = 0; r < size_; ++r) send[size_t(r)] = {at(in, n * r + piece.begin), bytes};
      co_await trade(send, receive);
      receive[size_t(rank_)] = send[size_t(rank_)];
      reduce_bytes(in.dtype, op, receive, at(out, piece.begin), piece.size);
    }
  }

  Operation all_gather(Tensor in, Tensor out) override {
    co_await agree({in.num_elements(), CommKind::all_gather, {}, 0, in.dtype});
    const int64_t n = in.num_elements();
    for (const Range& piece : pieces_of(n, message_elements(in.dtype))) {
      const int64_t bytes = piece.size * dtype_bytes(in.dtype);
      std::vector<Bytes> receive = every();
      for (int r = 0; r < size_; ++r) receive[size_t(r)] = {at(out, n * r + piece.begin), bytes};
      co_await trade(every({at(in, piece.begin), bytes}), receive);
    }
    copy(at(out, n * rank_), in.data, in.num_bytes());
  }

  Operation broadcast(Tensor data, int root) override {
    co_await agree({data.num_elements(), CommKind::broadcast, {}, root, data.dtype});
    for (const Range& piece : pieces_of(data.num_bytes(), message_bytes_)) {
      std::vector<MPI_Request> requests(1);
      check_mpi(MPI_Ibcast(static_cast<uint8_t*>(data.data) + piece.begin, int(piece.size),
                           MPI_BYTE, root, comm_, &requests[0]),
                "MPI_Ibcast");
      co_await finish(requests);
    }
  }

  Operation all_to_all(Tensor in, Tensor out) override {
    co_await agree({in.num_elements(), CommKind::all_to_all, {}, 0, in.dtype});
    const int64_t n = in.num_elements() / size_;
    for (const Range& piece : pieces_of(n, message_elements(in.dtype))) {
      const int64_t bytes = piece.size * dtype_bytes(in.dtype);
      std::vector<Bytes> send = every(), receive = every();
      for (int r = 0; r < size_; ++r) {
        send[size_t(r)] = {at(in, n * r + piece.begin), bytes};
        receive[size_t(r)] = {at(out, n * r + piece.begin), bytes};
      }
      co_await trade(send, receive);
    }
    copy(at(out, n * rank_), at(in, n * rank_), n * dtype_bytes(in.dtype));
  }

  // Rendezvous: MPI_Issend ends when the peer receives. A message longer than message_bytes is
  // several for MPI, whose order MPI keeps; a message without bytes is one as well.
  Operation exchange(std::vector<PointToPoint> parts) override {
    std::vector<MPI_Request> requests;
    std::vector<Expected> expected;
    for (const PointToPoint& part : parts) {
      std::vector<Range> pieces = pieces_of(part.data.num_bytes(), message_bytes_);
      if (pieces.empty()) pieces.push_back({0, 0});
      const bool send = part.kind == PointToPoint::Kind::send;
      for (const Range& piece : pieces) {
        uint8_t* const data = static_cast<uint8_t*>(part.data.data) + piece.begin;
        requests.emplace_back();
        expected.push_back({send ? -1 : piece.size, part.peer});
        check_mpi(send ? MPI_Issend(data, int(piece.size), MPI_BYTE, part.peer, kExchangeTag, comm_,
                                    &requests.back())
                       : MPI_Irecv(data, int(piece.size), MPI_BYTE, part.peer, kExchangeTag, comm_,
                                   &requests.back()),
                  send ? "MPI_Issend" : "MPI_Irecv");
      }
    }
    std::vector<MPI_Status> statuses;
    co_await finish(requests, &statuses);
    check_received(statuses, expected);
  }

  Operation barrier() override { return agree({}); }

  // The split itself blocks in MPI, and with it the calls of other groups that a rank may wait for
  // before it comes here: all ranks agree to be here first.
  Operation split(int color, int key, std::unique_ptr<Transport>* part) override {
    co_await agree({0, CommKind::split});
    MPI_Comm comm;
    check_mpi(MPI_Comm_split(comm_, color, key, &comm), "MPI_Comm_split");
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    *part = std::make_unique<MpiTransport>(comm, true, message_bytes_);
  }

 private:
  struct Expected {
    int64_t bytes;  // -1: a send
    int peer;
  };

  static void copy(void* to, const void* from, int64_t bytes) {
    if (to != from && bytes > 0) std::memcpy(to, from, size_t(bytes));
  }

  int64_t message_elements(DType dtype) const { return message_bytes_ / dtype_bytes(dtype); }
  int64_t scratch_elements(DType dtype) const {
    return std::min(kScratchBytes, message_bytes_) / dtype_bytes(dtype);
  }

  // The same for every rank.
  std::vector<Bytes> every(Bytes bytes = {}) const {
    return std::vector<Bytes>(size_t(size_), bytes);
  }
  // Room for `bytes` of every other rank.
  std::vector<Bytes> scratch(int64_t bytes) {
    const size_t needed = size_t((size_ - 1) * bytes);
    if (scratch_.size() < needed) scratch_.resize(needed);
    std::vector<Bytes> room;
    for (int r = 0; r < size_; ++r)
      room.push_back({scratch_.data() + (r < rank_ ? r : r - 1) * (r == rank_ ? 0 : bytes), bytes});
    return room;
  }

  static void reduce_bytes(DType dtype, ReduceOp op, const std::vector<Bytes>& bytes, uint8_t* out,
                           int64_t n) {
    std::vector<const void*> parts;
    for (const Bytes& b : bytes) parts.push_back(b.data);
    reduce_parts(dtype, op, parts, out, n);
  }

  Operation all_reduce_small(Tensor data, ReduceOp op) {
    const Bytes mine{static_cast<uint8_t*>(data.data), data.num_bytes()};
    std::vector<Bytes> parts = scratch(mine.size);
    co_await trade(every(mine), parts);
    parts[size_t(rank_)] = mine;
    reduce_bytes(data.dtype, op, parts, mine.data, data.num_elements());
  }

  Operation all_reduce_piece(uint8_t* data, int64_t n, DType dtype, ReduceOp op) {
    std::vector<Bytes> shares;
    for (int r = 0; r < size_; ++r) {
      const Range share = share_of(n, r, size_);
      shares.push_back({data + share.begin * dtype_bytes(dtype), share.size * dtype_bytes(dtype)});
    }
    const Bytes mine = shares[size_t(rank_)];
    std::vector<Bytes> parts = scratch(mine.size);
    co_await trade(shares, parts);
    parts[size_t(rank_)] = mine;
    reduce_bytes(dtype, op, parts, mine.data, mine.size / dtype_bytes(dtype));
    co_await trade(every(mine), shares);
  }

  // Sends send[r] to, and receives receive[r] from, every other rank r; nothing where there are no
  // bytes. Each starts with its right neighbour, so that not all go for the same one.
  Operation trade(const std::vector<Bytes>& send, const std::vector<Bytes>& receive) {
    std::vector<MPI_Request> requests;
    for (int i = 1; i < size_; ++i) {
      const int from = (rank_ + size_ - i) % size_;
      const Bytes& bytes = receive[size_t(from)];
      if (bytes.size == 0) continue;
      check_mpi(MPI_Irecv(bytes.data, int(bytes.size), MPI_BYTE, from, kCollectiveTag, comm_,
                          &requests.emplace_back()),
                "MPI_Irecv");
    }
    for (int i = 1; i < size_; ++i) {
      const int to = (rank_ + i) % size_;
      const Bytes& bytes = send[size_t(to)];
      if (bytes.size == 0) continue;
      check_mpi(MPI_Isend(bytes.data, int(bytes.size), MPI_BYTE, to, kCollectiveTag, comm_,
                          &requests.emplace_back()),
                "MPI_Isend");
    }
    co_await finish(requests);
  }

  // Ends when all ranks have come here with the same call; throws on all when they differ.
  Operation agree(CallSignature mine) {
    std::vector<CallSignature> calls(static_cast<size_t>(size_));
    std::vector<MPI_Request> requests(1);
    check_mpi(MPI_Iallgather(&mine, int(sizeof(mine)), MPI_BYTE, calls.data(), int(sizeof(mine)),
                             MPI_BYTE, comm_, &requests[0]),
              "MPI_Iallgather");
    co_await finish(requests);
    const std::string error = difference(calls);
    if (!error.empty()) fail("{}", error);
  }

  // Waits for all, whatever becomes of them: the buffers are the caller's again afterwards. Throws
  // the error of one, or leaves it to the caller who wants the statuses.
  static Operation finish(std::vector<MPI_Request>& requests,
                          std::vector<MPI_Status>* statuses = nullptr) {
    std::vector<MPI_Status> own;
    if (!statuses) statuses = &own;
    statuses->assign(requests.size(), MPI_Status{});
    bool failed = false;
    co_await until([&] {
      int done = 0;
      const int result =
          MPI_Testall(int(requests.size()), requests.data(), &done, statuses->data());
      failed = result == MPI_ERR_IN_STATUS;
      if (!failed) check_mpi(result, "MPI_Testall");
      return done || (failed && !pending(*statuses));
    });
    // The field means something only then.
    for (MPI_Status& status : *statuses)
      if (!failed) status.MPI_ERROR = MPI_SUCCESS;
    for (const MPI_Status& status : own) check_mpi(status.MPI_ERROR, "a transfer");
  }

  static bool pending(const std::vector<MPI_Status>& statuses) {
    return std::any_of(statuses.begin(), statuses.end(), [](const MPI_Status& status) {
      return status.MPI_ERROR == MPI_ERR_PENDING;
    });
  }

  void check_received(const std::vector<MPI_Status>& statuses,
                      const std::vector<Expected>& expected) const {
    for (size_t i = 0; i < statuses.size(); ++i) {
      int error_class = MPI_SUCCESS, bytes = 0;
      MPI_Error_class(statuses[i].MPI_ERROR, &error_class);
      if (error_class == MPI_ERR_TRUNCATE) {
        fail("rank {} sends more than the {} bytes that rank {} expects", expected[i].peer,
             expected[i].bytes, rank_);
      }
      check_mpi(statuses[i].MPI_ERROR, "a message");
      if (expected[i].bytes < 0) continue;
      check_mpi(MPI_Get_count(&statuses[i], MPI_BYTE, &bytes), "MPI_Get_count");
      FORJA_CHECK(bytes == expected[i].bytes, "rank {} sends {} bytes, rank {} expects {}",
                  expected[i].peer, bytes, rank_, expected[i].bytes);
    }
  }

  MPI_Comm comm_;
  const bool owned_;
  const int64_t message_bytes_;
  int rank_ = 0, size_ = 1;
  std::vector<uint8_t> scratch_;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(MPI_Comm comm, int64_t message_bytes) {
  return std::make_unique<MpiTransport>(comm, false, message_bytes);
}

}  // namespace forja
