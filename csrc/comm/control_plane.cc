// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/control_plane.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <asio.hpp>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "forja/base/error.h"
#include "forja/base/log.h"

namespace forja {
namespace {

using asio::ip::tcp;

constexpr auto kConnectTime = std::chrono::seconds(2);  // to try one address
constexpr int kConnectRounds = 3;
constexpr auto kWelcomeTime = std::chrono::milliseconds(20);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);   // after an error
constexpr auto kFarewellTime = std::chrono::milliseconds(100);  // for the last messages to leave
constexpr uint32_t kMaxMessageBytes = 1 << 20;
constexpr size_t kMaxQueued = 16;  // messages that a receiver did not take yet
constexpr int64_t kOfferBytes = 4096;

enum class Kind : uint32_t { hello, text, goodbye };
struct Head {
  uint32_t bytes;
  Kind kind;
};

// One message after the other, both ways. Lives while something is under way on it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(tcp::socket socket) : socket_(std::move(socket)) {}

  using OnMessage = std::function<void(Kind, const std::string&)>;
  // on_end(died): the other process has ended, or else only the connection.
  void start(OnMessage on_message, std::function<void(bool died)> on_end) {
    on_message_ = std::move(on_message);
    on_end_ = std::move(on_end);
    read_head();
  }

  void send(Kind kind, const std::string& text) {
    if (closed_ || queue_.size() >= kMaxQueued) return;
    const Head head{uint32_t(text.size()), kind};
    queue_.push_back(std::string(reinterpret_cast<const char*>(&head), sizeof head) + text);
    if (queue_.size() == 1) write_next();
  }

  void close() {
    closed_ = true;
    asio::error_code ignored;
    socket_.close(ignored);
  }

 private:
  void read_head() {
    asio::async_read(socket_, asio::buffer(&head_, sizeof head_),
                     [self = shared_from_this()](asio::error_code error, size_t) {
                       if (error || self->head_.bytes > kMaxMessageBytes) return self->end(error);
                       self->read_body();
                     });
  }
  void read_body() {
    body_.resize(head_.bytes);
    asio::async_read(socket_, asio::buffer(body_),
                     [self = shared_from_this()](asio::error_code error, size_t) {
                       if (error) return self->end(error);
                       self->on_message_(self->head_.kind, self->body_);
                       if (!self->closed_) self->read_head();
                     });
  }
  void write_next() {
    asio::async_write(socket_, asio::buffer(queue_.front()),
                      [self = shared_from_this()](asio::error_code error, size_t) {
                        self->queue_.pop_front();
                        if (!error && !self->queue_.empty()) self->write_next();
                      });
  }
  void end(asio::error_code error) {
    if (closed_) return;
    close();
    on_end_(error == asio::error::eof || error == asio::error::connection_reset);
  }

  tcp::socket socket_;
  bool closed_ = false;
  Head head_{};
  std::string body_;
  std::deque<std::string> queue_;
  OnMessage on_message_;
  std::function<void(bool)> on_end_;
};

// Every address of this host that another may reach, one to a line.
std::string addresses_of_host() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "";
  std::string out;
  for (const ifaddrs* i = list; i; i = i->ifa_next) {
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK)) continue;
    if (i->ifa_addr->sa_family == AF_INET) {
      const auto& a = *reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
      out += asio::ip::address_v4(ntohl(a.sin_addr.s_addr)).to_string() + "\n";
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      asio::ip::address_v6::bytes_type bytes;
      std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6*>(i->ifa_addr)->sin6_addr,
                  bytes.size());
      const asio::ip::address_v6 address(bytes);
      if (!address.is_link_local()) out += address.to_string() + "\n";
    }
  }
  ::freeifaddrs(list);
  return out;
}

// A connection from elsewhere on the network is not one of the run's.
std::string random_token() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

// Rank 0 keeps a socket for every other rank.
void allow_open_files(int needed) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= rlim_t(needed)) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, rlim_t(needed));
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

class ControlPlane::Impl {
 public:
  explicit Impl(World& world) : rank_(world.rank()) {
    if (world.size() > 1) meet(world);
  }

  void start(double interval_s, Handlers handlers) {
    interval_ =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(interval_s));
    handlers_ = std::move(handlers);
    asio::post(io_, [this] { tick(); });
    io_.restart();
    thread_ = std::thread([this] { io_.run(); });
  }

  ~Impl() {
    if (!thread_.joinable()) return;
    asio::post(io_, [this] {
      ending_ = true;
      acceptor_.close();
      for (const auto& [rank, connection] : connections_) connection->send(Kind::goodbye, "");
      timer_.expires_after(connections_.empty() ? Clock::duration() : kFarewellTime);
      timer_.async_wait([this](asio::error_code) { io_.stop(); });
    });
    thread_.join();
  }

  void send(const std::string& text) {
    for (const auto& [rank, connection] : connections_) connection->send(Kind::text, text);
  }

 private:
  using Clock = std::chrono::steady_clock;

  void tick() {
    if (ending_) return;
    handlers_.tick();
    timer_.expires_after(interval_);
    timer_.async_wait([this](asio::error_code error) {
      if (!error) tick();
    });
  }

  // Rank 0 tells where it listens, and the others connect.
  void meet(World& world) {
    const bool connected = find_leader(world);
    std::vector<uint8_t> flags(size_t(world.size()));
    uint8_t mine = connected;
    const Event told = world.communicator().all_gather(
        make_tensor(&mine, DType::u8, {1}),
        make_tensor(flags.data(), DType::u8, {int64_t(flags.size())}), {"control plane"});
    // Rank 0 listens until all have tried: more may come than the system keeps waiting.
    while (rank_ == 0 && !told.done()) {
      io_.restart();
      io_.run_for(kWelcomeTime);
    }
    told.wait();
    if (rank_ == 0) warn_of_unseen(flags, world.hosts());
  }

  static void warn_of_unseen(const std::vector<uint8_t>& connected,
                             const std::vector<std::string>& hosts) {
    const auto first = std::find(connected.begin(), connected.end(), 0);
    if (first == connected.end()) return;
    log_warning(
        "{} of {} ranks have no TCP connection to rank 0 on host {}, rank {} on host {} the first "
        "of them: the hang watchdog will not see them, the run goes on",
        std::count(connected.begin(), connected.end(), 0), connected.size(), hosts[0],
        first - connected.begin(), hosts[size_t(first - connected.begin())]);
  }

  bool find_leader(World& world) {
    std::string offer;
    if (rank_ == 0) {
      token_ = random_token();
      allow_open_files(world.size() + 1000);
      offer = fmt::format("{}\n{}\n{}", token_, listen(), addresses_of_host());
    }
    offer.resize(size_t(kOfferBytes), '\0');
    offer.back() = '\0';
    world.communicator()
        .broadcast(make_tensor(offer.data(), DType::u8, {kOfferBytes}), 0, {"control plane"})
        .wait();
    if (rank_ == 0) return true;
    const bool same_host = world.hosts()[size_t(rank_)] == world.hosts()[0];
    std::istringstream lines(offer.c_str());
    std::string port, address;
    std::getline(lines, token_);
    std::getline(lines, port);
    std::vector<tcp::endpoint> endpoints;
    const auto add = [&](const std::string& text) {
      endpoints.emplace_back(asio::ip::make_address(text), uint16_t(std::stoi(port)));
    };
    if (same_host) add("127.0.0.1");
    while (std::getline(lines, address)) add(address);
    return connect(endpoints);
  }

  // Returns the port.
  int listen() {
    asio::error_code error;
    acceptor_.open(tcp::v6(), error);  // IPv4 too
    if (!error) acceptor_.set_option(asio::ip::v6_only(false), error);
    if (!error) acceptor_.bind({tcp::v6(), 0}, error);
    if (error) {  // of a host without IPv6
      acceptor_ = tcp::acceptor(io_, tcp::v4());
      acceptor_.bind({tcp::v4(), 0});
    }
    acceptor_.listen();
    accept_next();
    return acceptor_.local_endpoint().port();
  }

  void accept_next() {
    acceptor_.async_accept([this](asio::error_code error, tcp::socket socket) {
      if (ending_) return;
      if (error) return accept_later();
      welcome(std::make_shared<Connection>(std::move(socket)));
      accept_next();
    });
  }

  // No descriptor is left, for example: the connection still waits, and so would fail again at
  // once.
  void accept_later() {
    accept_pause_.expires_after(kAcceptPause);
    accept_pause_.async_wait([this](asio::error_code error) {
      if (!error && !ending_) accept_next();
    });
  }

  // Of a rank, once it has said the token and which one it is.
  void welcome(const std::shared_ptr<Connection>& connection) {
    auto rank = std::make_shared<int>(-1);
    connection->start(
        [this, rank, weak = std::weak_ptr(connection)](Kind kind, const std::string& text) {
          if (kind != Kind::hello) return on_message(*rank, kind, text);
          const auto self = weak.lock();
          if (text.rfind(token_ + " ", 0) != 0) return self->close();
          *rank = std::stoi(text.substr(token_.size()));
          connections_[*rank] = self;
        },
        [this, rank](bool died) { on_end(*rank, died); });
  }

  bool connect(const std::vector<tcp::endpoint>& endpoints) {
    for (int round = 0; round < kConnectRounds; ++round) {
      for (const tcp::endpoint& endpoint : endpoints) {
        tcp::socket socket(io_);
        bool connected = false;
        socket.async_connect(endpoint, [&](asio::error_code error) { connected = !error; });
        io_.restart();
        io_.run_for(kConnectTime);
        if (!connected) {
          socket.close();
          io_.restart();
          io_.poll();  // the handler, which names `connected`
          continue;
        }
        const auto connection = std::make_shared<Connection>(std::move(socket));
        connections_[0] = connection;
        connection->start([this](Kind kind, const std::string& text) { on_message(0, kind, text); },
                          [this](bool died) { on_end(0, died); });
        connection->send(Kind::hello, fmt::format("{} {}", token_, rank_));
        return true;
      }
    }
    return false;
  }

  void on_message(int from, Kind kind, const std::string& text) {
    if (from < 0 || ending_) return;
    if (kind == Kind::text && handlers_.message) handlers_.message(from, text);
    if (kind != Kind::goodbye) return;
    const auto found = connections_.find(from);
    if (found == connections_.end()) return;
    found->second->close();
    connections_.erase(found);
  }

  void on_end(int from, bool died) {
    if (from < 0 || ending_) return;
    connections_.erase(from);
    if (died && handlers_.lost) handlers_.lost(from);
  }

  const int rank_;
  Clock::duration interval_{};
  Handlers handlers_;
  bool ending_ = false;
  std::string token_;
  asio::io_context io_{1};
  asio::steady_timer timer_{io_};
  tcp::acceptor acceptor_{io_};
  asio::steady_timer accept_pause_{io_};
  std::map<int, std::shared_ptr<Connection>> connections_;  // by rank
  std::thread thread_;
};

ControlPlane::ControlPlane(World& world) : impl_(std::make_unique<Impl>(world)) {}
ControlPlane::~ControlPlane() = default;

void ControlPlane::start(double interval_s, Handlers handlers) {
  impl_->start(interval_s, std::move(handlers));
}
void ControlPlane::send(const std::string& text) { impl_->send(text); }

}  // namespace forja
