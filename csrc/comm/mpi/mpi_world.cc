// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/mpi/mpi_world.h"

#include <cstring>

#include "csrc/comm/mpi/mpi_transport.h"

namespace forja {
namespace {

class MpiWorld : public World {
 public:
  explicit MpiWorld(std::string launcher) : launcher_(std::move(launcher)) {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided),
              "MPI_Init_thread");
    FORJA_CHECK(provided >= MPI_THREAD_SERIALIZED,
                "this MPI library gives thread level {}, {} is needed", provided,
                int(MPI_THREAD_SERIALIZED));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    gather_hosts();
    thread_ = std::make_shared<CommThread>();
    communicator_ = size_ == 1
                        ? make_self_communicator()
                        : make_queued_communicator(make_mpi_transport(MPI_COMM_WORLD), thread_);
  }
  ~MpiWorld() override {
    communicator_.reset();
    thread_.reset();
    MPI_Finalize();
  }

  Communicator& communicator() override { return *communicator_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  const std::vector<std::string>& hosts() const override { return hosts_; }
  std::string launcher() const override { return launcher_; }
  [[noreturn]] void abort(ExitCode code) override {
    MPI_Abort(MPI_COMM_WORLD, int(code));
    std::_Exit(int(code));
  }

 private:
  void gather_hosts() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    char name[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;
    check_mpi(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
    std::vector<char> all(size_t(size_) * sizeof(name));
    check_mpi(MPI_Allgather(name, sizeof(name), MPI_CHAR, all.data(), sizeof(name), MPI_CHAR,
                            MPI_COMM_WORLD),
              "MPI_Allgather");
    for (int r = 0; r < size_; ++r) hosts_.emplace_back(all.data() + size_t(r) * sizeof(name));
    for (int r = 0; r < size_; ++r) {
      if (hosts_[size_t(r)] != hosts_[size_t(rank)]) continue;
      if (r < rank) ++local_rank_;
      ++local_size_;
    }
  }

  std::string launcher_;
  int size_ = 1, local_rank_ = 0, local_size_ = 0;
  std::vector<std::string> hosts_;
  std::shared_ptr<CommThread> thread_;
  std::unique_ptr<Communicator> communicator_;
};

}  // namespace

std::unique_ptr<World> start_mpi_world(const std::string& launcher) {
  return std::make_unique<MpiWorld>(launcher);
}

}  // namespace forja
